"""The built-in model: tokens, geometry, exact log-probabilities, one look a frame."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.algorithm.action_tokens import LEVELS, NUM_TOKENS, ActionTokens, action_units
from nearer.algorithm.model import Inputs
from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.core.vision import Clips, TrainableVisionEncoder
from nearer.fleets.encoded import EncodedFleet
from nearer.models.factory import build_model, new_model
from nearer.models.planar_features import Geometry, fit_plane, to_plane
from nearer.models.pointing.self_training import path_targets
from nearer.models.pointing.tracking import trace, track, two_peaks
from nearer.models.settings import SmallVLAConfig
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import load_model, save_checkpoint
from nearer.testing import CountingFleet, check_model

SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 96, 128),))
INSTRUCTIONS = ("push the red moon to the blue cube", "move the star near the box")
TRUE_PLANE = torch.tensor([[0.02, -0.5, 0.62], [-0.8, 0.03, 0.4], [0.01, -0.35, 1.0]])


def questions(rows: int = 64) -> Inputs:
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(rows, 3, 2, generator=draw)
    features = torch.cat([points, torch.ones(rows, 3, 1)], dim=2).flatten(1)
    state = to_plane(TRUE_PLANE, points[:, -1])
    return Inputs(state=state, features=features, instructions=[INSTRUCTIONS[0]] * rows)


@pytest.fixture
def model() -> SmallVLA:
    made = new_model("small-vla", SmallVLAConfig(hidden=16), SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(made, SmallVLA)
    made.normalise_by(questions(), torch.rand(50, 2) * 0.1 - 0.05)
    return made.eval()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, NUM_TOKENS - 1), st.integers(0, NUM_TOKENS - 1))
def test_tokens_survive_decoding(first: int, second: int) -> None:
    tokens = ActionTokens(torch.tensor([0.005, 0.02]))
    pair = torch.tensor([[first, second]])
    assert torch.equal(tokens.encode(tokens.decode(pair)), pair)


def test_actions_beyond_ten_units_become_the_largest() -> None:
    tokens = ActionTokens(torch.tensor([0.005]))
    assert tokens.encode(torch.tensor([[9.0], [-9.0], [0.0]])).flatten().tolist() == [20, 0, 10]
    assert tokens.decode(torch.tensor([[20]])).item() == pytest.approx(LEVELS * 0.005)


def test_units_reach_the_demonstrated_actions_and_ignore_a_slip() -> None:
    actions = torch.cat([torch.full((999, 1), 0.05), torch.full((1, 1), 7.0)])
    assert action_units(actions).item() == pytest.approx(0.005)
    assert action_units(torch.zeros(9, 1)).item() == pytest.approx(0.1)


def test_the_plane_is_found_though_a_fifth_of_the_looks_are_wrong() -> None:
    draw = torch.Generator().manual_seed(1)
    points = torch.rand(500, 2, generator=draw)
    places = to_plane(TRUE_PLANE, points)
    seen = points + 0.002 * torch.randn(500, 2, generator=draw)
    seen[::5] = torch.rand(100, 2, generator=draw)
    plane = fit_plane(seen, places)
    assert plane is not None
    asked = torch.tensor([[0.2, 0.3], [0.8, 0.7], [0.5, 0.5]])
    assert torch.allclose(to_plane(plane, asked), to_plane(TRUE_PLANE, asked), atol=0.01)


def test_no_plane_where_the_sight_does_not_see_the_effector() -> None:
    draw = torch.Generator().manual_seed(2)
    points, places = torch.rand(2, 500, 2, generator=draw).unbind()
    assert fit_plane(points, places) is None
    assert fit_plane(points, torch.zeros(500, 2)) is None


def test_facts_tell_a_centimetre_near_contact_from_one_far_away() -> None:
    asked = questions(256)
    points = asked.features.reshape(-1, 3, 3)[..., :2]
    geometry = Geometry(state=2, max_deviation=10.0)
    geometry.fit(points, asked.state)
    state = torch.tensor([[0.3, 0.0], [0.3, 0.0], [0.3, 0.0], [0.3, 0.0]])
    to_picture = torch.linalg.inv(geometry.plane)
    places = torch.tensor([[0.31, 0.0], [0.32, 0.0], [0.61, 0.0], [0.62, 0.0]])
    points = to_plane(to_picture, places)[:, None].repeat(1, 3, 1)
    facts = geometry(points, state)
    near, far = (facts[1] - facts[0]).abs().max(), (facts[3] - facts[2]).abs().max()
    assert near > 3 * far


def test_the_model_keeps_the_contract(model: SmallVLA) -> None:
    check_model(model, questions(20))


def test_log_probabilities_sum_to_one(model: SmallVLA) -> None:
    one = questions(1)
    every = torch.cartesian_prod(torch.arange(NUM_TOKENS), torch.arange(NUM_TOKENS))
    asked = Inputs(
        state=one.state.repeat(len(every), 1),
        features=one.features.repeat(len(every), 1),
        instructions=list(one.instructions) * len(every),
    )
    with torch.inference_mode():
        log_prob = model.log_prob(asked, model.tokens.decode(every))
    assert log_prob.exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def test_a_checkpoint_holds_the_whole_model(model: SmallVLA, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    asked = questions(8)
    with torch.inference_mode():
        assert torch.equal(loaded.steps_to_go_logits(asked), model.steps_to_go_logits(asked))
    assert loaded.vision_encoder is not None
    assert model.vision_encoder.identity == loaded.vision_encoder.identity


def test_the_tower_never_trains(model: SmallVLA) -> None:
    before = model.vision_encoder.identity
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.1, weight_decay=0.1)
    asked = questions(32)
    (-model.log_prob(asked, torch.zeros(32, 2)).mean()).backward()
    optimizer.step()
    assert not model.tower.training
    assert model.vision_encoder.identity == before


def test_a_sight_sees_alike_alone_and_in_company(model: SmallVLA) -> None:
    draw = np.random.default_rng(0)
    pictures = draw.integers(0, 255, (20, 96, 128, 3), dtype=np.uint8)
    together = model.vision_encoder.encode({"front": pictures}, [INSTRUCTIONS[0]] * 20)
    assert together.shape == (20, model.vision_encoder.encoding_width)
    alone = model.vision_encoder.encode({"front": pictures[7:8]}, [INSTRUCTIONS[0]])
    assert np.allclose(together[7:8], alone, atol=0.02)


def test_instructions_of_other_words_are_refused(model: SmallVLA) -> None:
    asked = questions(1)
    strange = Inputs(state=asked.state, features=asked.features, instructions=["eat the moon"])
    with pytest.raises(ConfigError, match=r"must use words of the demonstrations.*'eat'"):
        model.steps_to_go_logits(strange)


def test_a_robot_without_a_camera_is_refused() -> None:
    blind = Spaces(agent_pos=2, environment_state=0, action=2)
    with pytest.raises(ConfigError, match="--model small-vla must have pictures"):
        new_model("small-vla", SmallVLAConfig(), blind, INSTRUCTIONS, seed=0)


class CountingSight:
    """Reads a number off a picture and counts how many frames it was shown."""

    identity = "counting"
    encoding_width = 1
    width = 2

    def __init__(self) -> None:
        self.shown = 0

    def encode(self, images: Mapping[str, Array], instructions: Sequence[str]) -> Array:
        assert len(instructions) == len(images["eye"])
        self.shown += len(instructions)
        return images["eye"][:, 0, 0, :1].astype(np.float32)

    def track(self, before: Array | None, encodings: Array) -> Array:
        return np.hstack([encodings, -np.ones_like(encodings) if before is None else before[:, :1]])


class PicturedFleet(CountingFleet):
    """A counting fleet with pictures of its count."""

    def reset(self, robots, seeds):  # type: ignore[no-untyped-def]
        return _pictured(super().reset(robots, seeds))

    def step(self, robots, actions):  # type: ignore[no-untyped-def]
        return _pictured(super().step(robots, actions))


def _pictured(told):  # type: ignore[no-untyped-def]
    from dataclasses import replace

    count = told.observation.agent_pos[:, 1].astype(np.uint8)
    eye = np.broadcast_to(count[:, None, None, None], (len(count), 4, 4, 3)).copy()
    return replace(told, observation=replace(told.observation, images={"eye": eye}))


def test_every_frame_is_looked_at_once_and_its_picture_let_go() -> None:
    vision_encoder = CountingSight()
    fleet = EncodedFleet(PicturedFleet(3, goal_steps=9), vision_encoder)
    robots = np.arange(3)
    starts = fleet.reset(robots, [5, 6, 7])
    assert starts.observation.features.tolist() == [[0, -1]] * 3
    sensed = fleet.step(robots[1:], np.zeros((2, 1), np.float32))
    assert sensed.observation.features.tolist() == [[1, 0], [1, 0]]
    assert sensed.observation.images == {}
    assert vision_encoder.shown == 5


def test_a_thing_does_not_leap_across_the_table() -> None:
    before = np.array([[[0.5, 0.5, 0.9]]], dtype=np.float32)
    seen = np.array([[[[0.1, 0.1, 0.6], [0.51, 0.5, 0.3]]]], dtype=np.float32)
    assert track(before, seen, aspect=4 / 3)[0, 0].tolist() == pytest.approx([0.51, 0.5, 0.3])
    assert track(None, seen, aspect=4 / 3)[0, 0].tolist() == pytest.approx([0.1, 0.1, 0.6])
    sure = seen * np.array([1, 1, 0.01], dtype=np.float32)
    sure[..., 0, 2] = 0.99
    assert track(before, sure, aspect=4 / 3)[0, 0, 0] == pytest.approx(0.1)


def test_hindsight_settles_a_frame_in_which_a_thing_is_hidden() -> None:
    right, wrong = [0.5, 0.5], [0.1, 0.1]
    encodings = np.array([[[[*right, 0.9], [*wrong, 0.05]]]] * 5, dtype=np.float32)
    encodings[0] = [[[*wrong, 0.8], [*right, 0.1]]]  # follow() would start at the wrong place
    encodings[3] = [[[*wrong, 0.7], [*right, 0.2]]]
    path = trace(encodings, aspect=4 / 3)
    np.testing.assert_allclose(path[:, 0, :2], [right] * 5)
    np.testing.assert_allclose(path[:, 0, 2], [0.1, 0.9, 0.9, 0.2, 0.9])


def test_a_thing_that_is_never_clear_teaches_nothing() -> None:
    encodings = np.zeros((3, 2, 2, 3), dtype=np.float32)
    encodings[:, 0, 0] = [0.5, 0.5, 0.9]
    encodings[:, 1, 0] = [0.5, 0.5, 0.4]
    targets = path_targets(encodings, np.array([1, 2]), aspect=4 / 3)
    assert targets[:, 0, 2].tolist() == pytest.approx([0.9] * 3)
    assert targets[:, 1, 2].tolist() == [0.0] * 3


def test_a_sight_learns_from_films_and_keeps_what_it_learned(model: SmallVLA) -> None:
    vision_encoder = model.vision_encoder
    assert isinstance(vision_encoder, TrainableVisionEncoder)
    before, name = vision_encoder.weights(), vision_encoder.identity
    rng = np.random.default_rng(0)
    pictures = {"front": rng.integers(0, 256, (6, 96, 128, 3), dtype=np.uint8)}
    pictures["front"][:, 56:60, 36:42] = 255  # at (0.3, 0.6), in the middle of noise
    encodings = np.tile(np.float32([0.3, 0.6, 0.9, 0.8, 0.8, 0.1]), (4, 3))
    films = Clips(
        images=pictures,
        rows=np.array([5, 1, 2, 0]),
        encodings=encodings,
        episode_lengths=np.array([2, 2]),
        instructions=["push the red moon to the blue cube", "push the blue cube to the red moon"],
    )

    def fit() -> float:
        shown = torch.from_numpy(pictures["front"][5:6])
        query = model.tower.recall(films.instructions[:1])[:, None]
        found = model.tower.attend(shown, query)[0, 0, 0]
        return float(found.flatten().log_softmax(0).reshape(found.shape)[28:30, 18:21].max())

    was = fit()
    vision_encoder.learn(films, 8, rng)
    learned, now = vision_encoder.weights(), fit()
    assert now > was + 1
    assert vision_encoder.identity != name
    vision_encoder.take(before)
    assert vision_encoder.identity == name
    vision_encoder.take(learned)
    assert fit() == now
    assert not any(one.requires_grad for one in model.tower.parameters())


def test_two_peaks_are_found_with_their_shares() -> None:
    logits = torch.zeros(1, 1, 48, 64)
    logits[0, 0, 10, 20] = 12.0
    logits[0, 0, 30, 50] = 11.0
    first, second = two_peaks(logits)[0, 0]
    assert first[:2].tolist() == pytest.approx([20.5 / 64, 10.5 / 48], abs=0.01)
    assert second[:2].tolist() == pytest.approx([50.5 / 64, 30.5 / 48], abs=0.01)
    assert 0.6 < first[2] < 0.75 < (first[2] + second[2]) <= 1


def test_looks_are_the_same_bits_on_any_number_of_threads(model: SmallVLA) -> None:
    rng = np.random.default_rng(0)
    pictures = {"front": rng.integers(0, 256, (10, 96, 128, 3), dtype=np.uint8)}
    instructions = ["push the red moon to the blue cube", "push the blue cube to the red moon"] * 5
    before = torch.get_num_threads()
    encodings: list[bytes] = []
    for num_threads in (1, 2, 3):
        torch.set_num_threads(num_threads)
        encodings.append(model.vision_encoder.encode(pictures, instructions).tobytes())
    torch.set_num_threads(before)
    assert encodings[0] == encodings[1] == encodings[2]
    alone = model.vision_encoder.encode({"front": pictures["front"][:4]}, instructions[:4])
    assert encodings[0].startswith(alone.tobytes())


def test_joints_may_have_255_tokens(tmp_path: Path) -> None:
    tokens = ActionTokens(torch.tensor([1 / 127]), levels=127)
    every = torch.arange(255)[:, None]
    assert tokens.count == 255
    assert torch.equal(tokens.encode(tokens.decode(every)), every)
    assert tokens.decode(every[[0, 127, 254]]).flatten().tolist() == pytest.approx([-1, 0, 1])
    chunks = SPACES.in_chunks(Chunking(chunk=3))
    sizes = SmallVLAConfig(hidden=16, action_levels=127)
    fine = new_model("small-vla", sizes, chunks, INSTRUCTIONS, seed=0)
    fine.normalise_by(questions(), torch.rand(50, 6) * 0.1 - 0.05)
    check_model(fine.eval(), questions(20))
    save_checkpoint(tmp_path / "000001", fine, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert loaded.spaces == chunks
    asked, actions = questions(8), torch.rand(8, 6) * 0.1 - 0.05
    assert torch.equal(loaded.log_prob(asked, actions), fine.log_prob(asked, actions))
