"""The built-in model: tokens, planar features, exact log-probabilities, self-training."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model_inputs import point_features
from nearer.algorithm.action_tokens import LEVELS, NUM_TOKENS, ActionTokens, action_units
from nearer.algorithm.model import Inputs
from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.core.vision import Clips, Decisions, LocatesObjects, TrainableVisionEncoder
from nearer.fleets.encoded import EncodedFleet, Encoders
from nearer.models.camera_vision_encoder import CameraVisionEncoder
from nearer.models.factory import build_model, new_model
from nearer.models.planar_features import PlanarFeatures, fit_plane, to_plane
from nearer.models.pointing.weights import LITE0, load_pointing
from nearer.models.settings import SelfTrainingConfig, SmallVLAConfig
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import load_model, save_checkpoint
from nearer.testing import CountingFleet, check_model

SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 96, 128),))
INSTRUCTIONS = ("push the red moon to the blue cube", "move the star near the box")
TRUE_PLANE = torch.tensor([[0.02, -0.5, 0.62], [-0.8, 0.03, 0.4], [0.01, -0.35, 1.0]])


def noise_inputs(rows: int = 64) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(rows, 3, 2, generator=generator)
    state = to_plane(TRUE_PLANE, points[:, -1])
    return Inputs(
        state=state, features=point_features(points), instructions=[INSTRUCTIONS[0]] * rows
    )


@pytest.fixture
def model() -> SmallVLA:
    small_vla = new_model("small-vla", SmallVLAConfig(hidden=16), SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(small_vla, SmallVLA)
    small_vla.normalise_by(noise_inputs(), torch.rand(50, 2) * 0.1 - 0.05)
    return small_vla.eval()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, NUM_TOKENS - 1), st.integers(0, NUM_TOKENS - 1))
def test_action_tokens_encode_of_decoded_tokens_is_the_same(first: int, second: int) -> None:
    tokens = ActionTokens(torch.tensor([0.005, 0.02]))
    pair = torch.tensor([[first, second]])
    assert torch.equal(tokens.encode(tokens.decode(pair)), pair)


def test_action_tokens_of_large_actions_are_clipped() -> None:
    tokens = ActionTokens(torch.tensor([0.005]))
    assert tokens.encode(torch.tensor([[9.0], [-9.0], [0.0]])).flatten().tolist() == [20, 0, 10]
    assert tokens.decode(torch.tensor([[20]])).item() == pytest.approx(LEVELS * 0.005)


def test_action_units_cover_the_demonstrations_but_not_an_outlier() -> None:
    actions = torch.cat([torch.full((999, 1), 0.05), torch.full((1, 1), 7.0)])
    assert action_units(actions).item() == pytest.approx(0.005)
    assert action_units(torch.zeros(9, 1)).item() == pytest.approx(0.1)


def test_fit_plane_with_a_fifth_of_outliers_recovers_the_plane() -> None:
    generator = torch.Generator().manual_seed(1)
    points = torch.rand(500, 2, generator=generator)
    positions = to_plane(TRUE_PLANE, points)
    observed = points + 0.002 * torch.randn(500, 2, generator=generator)
    observed[::5] = torch.rand(100, 2, generator=generator)
    plane = fit_plane(observed, positions)
    assert plane is not None
    held_out = torch.tensor([[0.2, 0.3], [0.8, 0.7], [0.5, 0.5]])
    assert torch.allclose(to_plane(plane, held_out), to_plane(TRUE_PLANE, held_out), atol=0.01)


def test_fit_plane_of_unrelated_points_is_none() -> None:
    generator = torch.Generator().manual_seed(2)
    points, positions = torch.rand(2, 500, 2, generator=generator).unbind()
    assert fit_plane(points, positions) is None
    assert fit_plane(points, torch.zeros(500, 2)) is None


def test_planar_features_of_a_centimetre_near_contact_exceed_those_far_away() -> None:
    inputs = noise_inputs(256)
    points = inputs.features.reshape(-1, 3, 3, 3)[:, :, 0, :2]
    features = PlanarFeatures(state=2, max_deviation=10.0)
    features.fit(points, inputs.state)
    state = torch.tensor([[0.3, 0.0], [0.3, 0.0], [0.3, 0.0], [0.3, 0.0]])
    to_image = torch.linalg.inv(features.plane)
    positions = torch.tensor([[0.31, 0.0], [0.32, 0.0], [0.61, 0.0], [0.62, 0.0]])
    points = to_plane(to_image, positions)[:, None].repeat(1, 3, 1)
    values = features(points, state)
    near, far = (values[1] - values[0]).abs().max(), (values[3] - values[2]).abs().max()
    assert near > 3 * far


def test_small_vla_keeps_the_contract_of_a_model(model: SmallVLA) -> None:
    check_model(model, noise_inputs(20))


def test_small_vla_probabilities_of_all_actions_sum_to_one(model: SmallVLA) -> None:
    single = noise_inputs(1)
    all_tokens = torch.cartesian_prod(torch.arange(NUM_TOKENS), torch.arange(NUM_TOKENS))
    repeated = Inputs(
        state=single.state.repeat(len(all_tokens), 1),
        features=single.features.repeat(len(all_tokens), 1),
        instructions=list(single.instructions) * len(all_tokens),
    )
    with torch.inference_mode():
        log_prob = model.log_prob(repeated, model.tokens.decode(all_tokens))
    assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("mirror", "axis", "swaps", "instruction", "there_instruction"),
    [
        ("x", 0, (), INSTRUCTIONS[0], INSTRUCTIONS[0]),
        ("y", 1, (), INSTRUCTIONS[0], INSTRUCTIONS[0]),
        ("y", 1, ("left=right",), "push the star left", "push the star right"),
        ("y", 1, ("left=right",), "move the box near the star", "move the box near the star"),
    ],
)
def test_small_vla_with_a_mirror_decides_the_mirror_image_in_a_mirror_image(
    mirror: Literal["x", "y"],
    axis: int,
    swaps: tuple[str, ...],
    instruction: str,
    there_instruction: str,
) -> None:
    model = mirrored_model(mirror, swaps)
    check_model(model, noise_inputs(20))
    inputs = replace(noise_inputs(), instructions=[instruction] * 64)
    actions = torch.rand(64, 2) * 0.08 - 0.04
    centre = model.planar_features.mean[axis]  # of the effector: its demonstrations' mean

    def reflected(positions: torch.Tensor) -> torch.Tensor:
        positions = positions.clone()
        positions[..., axis] = 2 * centre - positions[..., axis]
        return positions

    points = inputs.features.reshape(-1, 3, 3, 3)[:, :, 0, :2]
    in_plane = to_plane(model.planar_features.plane, points)
    to_image = torch.linalg.inv(model.planar_features.plane)
    there = Inputs(
        state=reflected(inputs.state),
        features=point_features(to_plane(to_image, reflected(in_plane))),
        instructions=[there_instruction] * 64,
    )
    opposite = actions.clone()
    opposite[:, axis] *= -1
    with torch.inference_mode():
        here, elsewhere = model.log_prob(inputs, actions), model.log_prob(there, opposite)
        assert torch.allclose(here, elsewhere, atol=1e-3)
        assert not torch.allclose(here, model.log_prob(there, actions), atol=0.01)
        logits = model.steps_to_go_logits(inputs)
        assert torch.allclose(logits, model.steps_to_go_logits(there), atol=1e-3)
    assert logits.shape == (64, model.bins.count)


def test_small_vla_with_a_mirror_draws_what_it_says_it_draws() -> None:
    model, inputs = mirrored_model("y"), noise_inputs(8)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, [np.random.default_rng(i) for i in range(8)])
        assert torch.allclose(model.log_prob(inputs, actions), log_prob, atol=1e-5)


def test_small_vla_with_a_mirror_but_no_plane_mirrors_nothing() -> None:
    model = mirrored_model("y")
    unrelated = replace(noise_inputs(), state=torch.rand(64, 2))
    model.normalise_by(unrelated, torch.rand(50, 2) * 0.1 - 0.05)
    assert not model.maps_to_plane
    rows = model._network_inputs(unrelated, model.action_words)
    assert len(rows) == 64


def mirrored_model(mirror: Literal["x", "y"], swaps: tuple[str, ...] = ()) -> SmallVLA:
    sizes = SmallVLAConfig(hidden=16, mirror=mirror, mirror_swaps=swaps)
    instructions = [*INSTRUCTIONS, "push the star left", "push the star right"][: 4 if swaps else 2]
    model = new_model("small-vla", sizes, SPACES, instructions, seed=0)
    assert isinstance(model, SmallVLA)
    model.normalise_by(noise_inputs(), torch.rand(50, 2) * 0.1 - 0.05)
    return model.eval()


def test_small_vla_with_a_mirror_and_joints_is_refused_in_words() -> None:
    spaces = replace(SPACES, agent_pos=7, action=7)
    with pytest.raises(ConfigError, match=r"--vla.mirror y must have .* got 7 and 0 .* leave it"):
        new_model("small-vla", SmallVLAConfig(mirror="y"), spaces, INSTRUCTIONS, seed=0)


def test_small_vla_with_a_mirror_and_instructions_that_name_a_side_is_refused_in_words() -> None:
    instructions = ["push the star to the left side", "push the cube to the upper left corner"]
    with pytest.raises(ConfigError, match="name no side, got some with left, upper; say"):
        new_model("small-vla", SmallVLAConfig(mirror="y"), SPACES, instructions, seed=0)


@pytest.mark.parametrize(
    ("swaps", "sentence"),
    [
        (("left",), "--vla.mirror-swaps must be pairs NAME=NEW_NAME, got 'left'; correct it"),
        (("left=star", "star=right"), "must name each word once, got star in two pairs; leave one"),
        (("left=port",), "use both words or none, got left=port; record demonstrations with both"),
    ],
)
def test_small_vla_with_swapped_words_of_no_use_is_refused_in_words(
    swaps: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        mirrored_model("y", swaps)


def test_small_vla_skips_unknown_words_where_it_is_asked_to() -> None:
    def steps_to_go(instruction: str) -> torch.Tensor:
        inputs = replace(noise_inputs(8), instructions=[instruction] * 8)
        with torch.inference_mode():
            return skipping.steps_to_go_logits(inputs)

    sizes = SmallVLAConfig(hidden=16, unknown_words="skip")
    skipping = new_model("small-vla", sizes, SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(skipping, SmallVLA)
    skipping.normalise_by(noise_inputs(), torch.rand(50, 2) * 0.1 - 0.05)
    skipping.eval()
    new_object = steps_to_go("push the ripe banana to the cube")
    assert torch.equal(new_object, steps_to_go("push the to the cube"))
    with pytest.raises(ConfigError, match=r"got 'ripe banana' with \['ripe', 'banana'\]"):
        steps_to_go("ripe banana")


def test_small_vla_checkpoint_loads_with_its_vision_encoder(
    model: SmallVLA, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    inputs = noise_inputs(8)
    with torch.inference_mode():
        assert torch.equal(loaded.steps_to_go_logits(inputs), model.steps_to_go_logits(inputs))
    assert loaded.vision_encoder is not None
    assert model.vision_encoder.identity == loaded.vision_encoder.identity


def test_small_vla_training_of_its_heads_leaves_the_tower_frozen(model: SmallVLA) -> None:
    before = model.vision_encoder.identity
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.1, weight_decay=0.1)
    inputs = noise_inputs(32)
    (-model.log_prob(inputs, torch.zeros(32, 2)).mean()).backward()
    optimizer.step()
    assert not model.tower.training
    assert model.vision_encoder.identity == before


def test_vision_encoder_encode_of_a_frame_alone_equals_encode_in_a_batch(model: SmallVLA) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 96, 128, 3), dtype=np.uint8)
    together = model.vision_encoder.encode({"front": images}, [INSTRUCTIONS[0]] * 20)
    assert together.shape == (20, model.vision_encoder.encoding_width)
    alone = model.vision_encoder.encode({"front": images[7:8]}, [INSTRUCTIONS[0]])
    assert np.allclose(together[7:8], alone, atol=0.02)


def test_small_vla_instruction_with_an_unknown_word_is_refused(model: SmallVLA) -> None:
    inputs = noise_inputs(1)
    unknown = Inputs(state=inputs.state, features=inputs.features, instructions=["eat the moon"])
    with pytest.raises(ConfigError, match=r"must use words of the demonstrations.*'eat'"):
        model.steps_to_go_logits(unknown)


def test_small_vla_of_a_robot_without_a_camera_is_refused() -> None:
    spaces = Spaces(agent_pos=2, environment_state=0, action=2)
    with pytest.raises(ConfigError, match="--model small-vla must have images"):
        new_model("small-vla", SmallVLAConfig(), spaces, INSTRUCTIONS, seed=0)


class CountingEncoder:
    """Encodes the first pixel of an image and counts the frames that it encoded."""

    identity = "counting"
    encoding_width = 1
    width = 2

    def __init__(self) -> None:
        self.num_encoded = 0

    def encode(self, images: Mapping[str, Array], instructions: Sequence[str]) -> Array:
        assert len(instructions) == len(images["front"])
        self.num_encoded += len(instructions)
        return images["front"][:, 0, 0, :1].astype(np.float32)

    def track(self, before: Array | None, encodings: Array) -> Array:
        return np.hstack([encodings, -np.ones_like(encodings) if before is None else before[:, :1]])


class ImageFleet(CountingFleet):
    """A counting fleet with images of its count."""

    def reset(self, robots, seeds):  # type: ignore[no-untyped-def]
        return with_images(super().reset(robots, seeds))

    def step(self, robots, actions):  # type: ignore[no-untyped-def]
        return with_images(super().step(robots, actions))


def with_images(transition):  # type: ignore[no-untyped-def]
    count = transition.observation.agent_pos[:, 1].astype(np.uint8)
    images = np.broadcast_to(count[:, None, None, None], (len(count), 4, 4, 3)).copy()
    return replace(
        transition, observation=replace(transition.observation, images={"front": images})
    )


def test_encoded_fleet_encodes_every_frame_once_and_drops_its_images() -> None:
    vision_encoder = CountingEncoder()
    fleet = EncodedFleet(ImageFleet(3, goal_steps=9), Encoders(vision_encoder, None, 3))
    robots = np.arange(3)
    starts = fleet.reset(robots, [5, 6, 7])
    assert starts.observation.features.tolist() == [[0, -1]] * 3
    sensed = fleet.step(robots[1:], np.zeros((2, 1), np.float32))
    assert sensed.observation.features.tolist() == [[1, 0], [1, 0]]
    assert sensed.observation.observation.images == {}
    assert vision_encoder.num_encoded == 5


def test_self_training_raises_the_probability_of_its_pseudo_labels(model: SmallVLA) -> None:
    fast = SelfTrainingConfig(batch_size=8, warmup_updates=4, learning_rate=2e-3)
    vision_encoder = CameraVisionEncoder(model.tower, SPACES.cameras[0], fast)
    assert isinstance(vision_encoder, TrainableVisionEncoder)
    before, identity = vision_encoder.weights(), vision_encoder.identity
    rng = np.random.default_rng(0)
    images = {"front": rng.integers(0, 256, (6, 96, 128, 3), dtype=np.uint8)}
    images["front"][:, 56:60, 36:42] = 255  # at (0.3, 0.6), amid noise
    encodings = np.tile(np.float32([0.3, 0.6, 0.9, 0.8, 0.8, 0.1]), (4, 1, 3))
    clips = Clips(
        images=images,
        rows=np.array([5, 1, 2, 0]),
        episode_lengths=np.array([2, 2]),
        instructions=[
            ("push the red moon to the blue cube",),
            ("push the blue cube to the red moon",),
        ],
    )

    def log_probability() -> float:
        frame = torch.from_numpy(images["front"][5:6])
        query = model.tower.cached_queries(clips.instructions[0])[:, None]
        logits = model.tower.attend(frame, query)[0, 0, 0]
        return float(logits.flatten().log_softmax(0).reshape(logits.shape)[28:30, 18:21].max())

    untrained = log_probability()
    vision_encoder.learn(clips, encodings, 8, rng)
    learned, trained = vision_encoder.weights(), log_probability()
    assert trained > untrained + 1
    assert vision_encoder.identity != identity
    vision_encoder.take(before)
    assert vision_encoder.identity == identity
    vision_encoder.take(learned)
    assert log_probability() == trained
    assert not any(weight.requires_grad for weight in model.tower.parameters())


def test_learning_through_objectives_lowers_their_losses(model: SmallVLA) -> None:
    """The action and the steps-to-go follow from where a bright spot is."""
    rng = np.random.default_rng(0)
    columns = rng.integers(10, 118, 40)
    images = np.full((40, 96, 128, 3), 80, np.uint8)
    for image, column in zip(images, columns, strict=True):
        image[40:50, column - 5 : column + 5] = [220, 40, 40]
    right = (columns > 64).astype(np.int64)
    decisions = Decisions(
        state=np.zeros((40, 2), np.float32),
        actions=np.where(np.arange(40) % 4 == 3, -1, right)[:, None],
        steps_to_go=right * 2,
        num_action_tokens=2,
        num_bins=3,
    )
    clips = Clips(
        images={"front": images},
        rows=np.arange(40),
        episode_lengths=np.full(10, 4),
        instructions=[("push the red moon to the blue cube",)] * 10,
    )
    fast = SelfTrainingConfig(batch_size=8, warmup_updates=4, learning_rate=3e-3)
    vision_encoder = CameraVisionEncoder(model.tower, SPACES.cameras[0], fast)
    before, identity = vision_encoder.weights(), vision_encoder.identity
    losses: list[float] = []

    def keep(progress: Progress) -> None:
        losses.append(float(progress.values["objectives"]))

    vision_encoder.learn_through_objectives(clips, decisions, 50, rng, keep)
    # By guessing 1.6: log 3, and log 2 where something is decided.
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    assert vision_encoder.identity != identity
    assert not any(weight.requires_grad for weight in model.tower.parameters())
    vision_encoder.take(before)


def test_vision_encoder_learns_from_the_larger_network_or_from_itself(model: SmallVLA) -> None:
    taught = CameraVisionEncoder(model.tower, SPACES.cameras[0])
    large = replace(taught, tower=load_pointing(LITE0))
    assert large.teacher() is large
    assert taught.teacher().tower.config.network == "lite0"
    alone = replace(taught, self_training=SelfTrainingConfig(teacher="itself"))
    assert alone.teacher() is alone
    longer = replace(taught, self_training=SelfTrainingConfig(warmup_updates=21))
    names = {encoder.learning_identity for encoder in (taught, alone, longer)}
    assert len(names) == 3
    assert taught.identity == longer.identity


def clips_of_noise() -> Clips:
    rng = np.random.default_rng(0)
    return Clips(
        images={"front": rng.integers(0, 256, (1, 96, 128, 3), dtype=np.uint8)},
        rows=np.array([0, 0]),  # nothing moves
        episode_lengths=np.array([2]),
        instructions=[("push the red moon to the blue cube",)],
    )


def encodings_of_noise(confidence: float) -> Array:
    return np.tile(np.float32([0.3, 0.6, confidence, 0.8, 0.8, 0.01]), (2, 1, 3))


def test_self_training_of_an_encoder_sure_of_nothing_leaves_it_as_it_is(model: SmallVLA) -> None:
    vision_encoder = CameraVisionEncoder(model.tower, SPACES.cameras[0])
    before = vision_encoder.weights()
    unsure = encodings_of_noise(confidence=0.1)
    vision_encoder.learn(clips_of_noise(), unsure, 4, np.random.default_rng(0))
    assert np.array_equal(vision_encoder.weights(), before)


@pytest.mark.parametrize("updates", [1, 3])
def test_self_training_over_rounds_makes_every_update(model: SmallVLA, updates: int) -> None:
    small = SelfTrainingConfig(batch_size=1, part_size=1, rounds=2, min_confidence=0.0)
    vision_encoder = CameraVisionEncoder(model.tower, SPACES.cameras[0], small)
    seen: list[Progress] = []
    sure = encodings_of_noise(confidence=0.9)
    vision_encoder.learn(clips_of_noise(), sure, updates, np.random.default_rng(0), seen.append)
    done = [(each.done, each.total) for each in seen if each.stage == "self-training"]
    assert done == [(update, updates) for update in range(1, updates + 1)]


def test_vision_encoder_on_any_number_of_threads_gives_the_same_bits(model: SmallVLA) -> None:
    rng = np.random.default_rng(0)
    images = {"front": rng.integers(0, 256, (10, 96, 128, 3), dtype=np.uint8)}
    instructions = ["push the red moon to the blue cube", "push the blue cube to the red moon"] * 5
    before = torch.get_num_threads()
    encodings: list[bytes] = []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        encodings.append(model.vision_encoder.encode(images, instructions).tobytes())
    torch.set_num_threads(before)
    assert encodings[0] == encodings[1] == encodings[2]
    alone = model.vision_encoder.encode({"front": images["front"][:4]}, instructions[:4])
    assert encodings[0].startswith(alone.tobytes())


def test_small_vla_with_255_action_levels_and_chunks_keeps_the_contract(tmp_path: Path) -> None:
    tokens = ActionTokens(torch.tensor([1 / 127]), levels=127)
    all_tokens = torch.arange(255)[:, None]
    assert tokens.count == 255
    assert torch.equal(tokens.encode(tokens.decode(all_tokens)), all_tokens)
    assert tokens.decode(all_tokens[[0, 127, 254]]).flatten().tolist() == pytest.approx([-1, 0, 1])
    chunks = SPACES.in_chunks(Chunking(chunk=3))
    sizes = SmallVLAConfig(hidden=16, action_levels=127)
    model = new_model("small-vla", sizes, chunks, INSTRUCTIONS, seed=0)
    model.normalise_by(noise_inputs(), torch.rand(50, 6) * 0.1 - 0.05)
    check_model(model.eval(), noise_inputs(20))
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert loaded.spaces == chunks
    inputs, actions = noise_inputs(8), torch.rand(8, 6) * 0.1 - 0.05
    assert torch.equal(loaded.log_prob(inputs, actions), model.log_prob(inputs, actions))


def test_small_vla_checkpoint_keeps_its_self_training_settings(tmp_path: Path) -> None:
    self_training = SelfTrainingConfig(learning_rate=2e-3, part_size=4)
    sizes = SmallVLAConfig(hidden=16, self_training=self_training)
    saved = new_model("small-vla", sizes, SPACES, INSTRUCTIONS, seed=0)
    save_checkpoint(tmp_path / "000001", saved, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, SmallVLA)
    assert loaded.sizes == sizes
    assert isinstance(loaded.vision_encoder, CameraVisionEncoder)
    assert loaded.vision_encoder.self_training == self_training


def test_self_training_config_of_an_uneven_part_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch-size must be a multiple of the part size 5"):
        SelfTrainingConfig(part_size=5)


def test_small_vla_located_is_the_likeliest_position_of_each_object(model: SmallVLA) -> None:
    assert isinstance(model, LocatesObjects)
    assert model.maps_to_plane
    inputs = noise_inputs(5)
    located = model.located(inputs.features.numpy())
    expected = inputs.features.reshape(5, 3, -1, 3)[:, :, 0].numpy()
    assert np.array_equal(located, expected)
    on_plane = to_plane(TRUE_PLANE, torch.from_numpy(located[:, 2, :2].copy()))
    assert np.allclose(model.in_plane(located[:, 2, :2].copy()), on_plane.numpy(), atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_vision_encoder_of_a_tower_on_a_gpu_encodes_there_as_on_the_cpu(model: SmallVLA) -> None:
    rng = np.random.default_rng(0)
    images = {"front": rng.integers(0, 256, (10, 96, 128, 3), dtype=np.uint8)}
    encoder = model.vision_encoder
    assert isinstance(encoder, CameraVisionEncoder)
    on_gpu = CameraVisionEncoder(deepcopy(model.tower).to("cuda"), encoder.camera)
    identity = encoder.identity
    both = [each.encode(images, [INSTRUCTIONS[0]] * 10) for each in (encoder, on_gpu)]
    assert both[1] == pytest.approx(both[0], abs=1e-2)
    on_gpu.take(on_gpu.weights())
    assert on_gpu.identity == identity


def test_loading_a_checkpoint_imports_no_compiler(model: SmallVLA, tmp_path: Path) -> None:
    """One operation too many on the meta device, and every command starts two seconds later."""
    save_checkpoint(tmp_path / "000001", model, None)
    python = (
        "import sys\nfrom pathlib import Path\n"
        "from nearer.models.factory import build_model\n"
        "from nearer.runs.checkpoint import load_model\n"
        f"load_model(Path({str(tmp_path / '000001')!r}), build_model)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True)
    assert ran.stdout == "False\n", ran.stderr
