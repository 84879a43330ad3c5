"""The third objective: which instruction an episode had, given its first and last frame."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model_inputs import point_features
from nearer.algorithm.demonstrations import (
    Candidates,
    Demonstrations,
    draw_candidates,
    split_by_episode,
)
from nearer.algorithm.sft import sft, validate
from nearer.algorithm.sft_objectives import Objectives, candidate_scores
from nearer.algorithm.sft_settings import SFTTraining
from nearer.commands.sft import run_sft
from nearer.configs.sft import SFTConfig
from nearer.core.callbacks import Progress
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.core.vision import ComparingVisionEncoder
from nearer.datasets.caching.features import open_candidate_features
from nearer.datasets.lerobot.reader import Dataset, open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from nearer.models.factory import build_model, new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import load_model
from nearer.runs.metrics import read_metrics
from nearer.runs.run import Run

SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 96, 128),))
COLOURS = ("red", "blue", "green", "yellow", "cyan", "pink")
INSTRUCTIONS = [f"push the {moon} moon to the {cube} cube" for moon in COLOURS for cube in COLOURS]
SMALL = SmallVLAConfig(hidden=16, instruction_objective=True)
TRAINING = SFTTraining(
    updates=6, validate_every=2, batch_size=16, val_fraction=0.25, other_instructions=3
)


def record_noise(root: Path, instructions: list[str]) -> Dataset:
    """Return a data set with images of noise: an episode of 3 or 4 frames an instruction."""
    image = Feature(dtype="image", shape=(96, 128, 3))
    numbers = Feature(dtype="float32", shape=(2,))
    columns = {"observation.images.top": image, "observation.state": numbers, "action": numbers}
    writer = DatasetWriter.create(root, columns, fps=5)
    draw = np.random.default_rng(0)
    writer.append(
        [
            EpisodeFrames(
                task=instruction,
                columns={
                    "observation.images.top": draw.integers(0, 256, (n, 96, 128, 3), np.uint8),
                    "observation.state": draw.random((n, 2), np.float32),
                    "action": draw.random((n, 2), np.float32),
                },
            )
            for instruction, n in zip(instructions, [3, 4] * len(instructions), strict=False)
        ]
    )
    return open_dataset(root)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return record_noise(tmp_path_factory.mktemp("noise") / "set", INSTRUCTIONS[:16])


def config_of(dataset: Dataset, out: Path, training: SFTTraining = TRAINING) -> SFTConfig:
    sizes = replace(SMALL, instruction_objective=False)
    return SFTConfig(
        data=str(dataset.root), out=out, vision_encoder_updates=0, vla=sizes, training=training
    )


def test_draw_candidates_are_the_own_instruction_and_different_others() -> None:
    instructions = INSTRUCTIONS[:9] * 3
    drawn = draw_candidates(instructions, 5, np.random.default_rng(3))
    for own, candidates in zip(instructions, drawn, strict=True):
        assert candidates[0] == own
        assert len(set(candidates)) == 6
        assert set(candidates) <= set(instructions)
    assert drawn == draw_candidates(instructions, 5, np.random.default_rng(3))
    assert drawn[0] != drawn[9]


def test_draw_candidates_draws_others_by_their_frequency() -> None:
    instructions = ["often"] * 80 + ["seldom"] * 20 + ["own"] * 200
    others = [
        other for _, other in draw_candidates(instructions, 1, np.random.default_rng(0))[100:]
    ]
    assert 0.7 < others.count("often") / 200 < 0.9


def test_draw_candidates_too_few_instructions_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"--other-instructions must be less .* got 7 where 9 "):
        draw_candidates(["open the drawer"] * 9, 7, np.random.default_rng(0))
    assert draw_candidates(["a", "b"], 1, np.random.default_rng(0)) == [("a", "b"), ("b", "a")]


def test_candidate_scores_model_without_the_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be 0 unless --model is small-vla"):
        SFTConfig(model="mlp", training=TRAINING)
    data = demonstrations(4, others=1)
    mlp = new_model("mlp", MLPConfig(hidden=8), SPACES, (), seed=0)
    with pytest.raises(
        ConfigError, match=r"must be 0 for a model without the instruction objective, got MLP"
    ):
        candidate_scores(mlp, data, torch.arange(4))


def demonstrations(episodes: int, others: int) -> Demonstrations:
    """Return episodes of three frames: the object named first ends beside the one named second.

    Other instructions name objects that lie anywhere, in both frames.
    """
    draw = torch.Generator().manual_seed(1)
    points = torch.rand(episodes, 2, 1 + others, 3, 2, generator=draw)
    near = 0.02 * torch.randn(episodes, 2, generator=draw)
    points[:, 1, 0, 0] = points[:, 1, 0, 1] + near
    points[:, :, 1:, 2] = points[:, :, :1, 2]  # there is one effector, whatever is named
    features = point_features(points)
    instructions = [INSTRUCTIONS[i % len(INSTRUCTIONS)] for i in range(episodes)]
    candidates = draw_candidates(instructions, others, np.random.default_rng(0))
    own = torch.stack([features[:, 0, 0], features[:, 0, 0], features[:, 1, 0]], dim=1)
    return Demonstrations(
        state=torch.arange(6 * episodes).reshape(-1, 2) / episodes,
        features=own.flatten(0, 1),
        actions=torch.rand(3 * episodes, 2, generator=draw),
        steps_to_go=torch.tensor([2, 1, 0] * episodes),
        episode_lengths=np.full(episodes, 3),
        instructions=tuple(instructions),
        spaces=SPACES,
        candidates=Candidates(features=features, instructions=tuple(candidates)),
    )


def test_demonstrations_ends_pair_end_frames_with_every_candidate() -> None:
    data = demonstrations(5, others=2).episodes(np.array([4, 2, 0]))
    assert data.candidates is not None
    first, last = data.ends(torch.tensor([1, 0]))
    frames = torch.tensor([3, 3, 3, 0, 0, 0])
    assert torch.equal(first.state, data.state[frames])
    assert torch.equal(last.state, data.state[frames + 2])
    candidates = data.candidates
    assert list(last.instructions) == [*candidates.instructions[1], *candidates.instructions[0]]
    assert torch.equal(first.features, candidates.features[[1, 0], 0].flatten(0, 1))
    assert torch.equal(last.features, candidates.features[[1, 0], 1].flatten(0, 1))


def model_for(data: Demonstrations, sizes: SmallVLAConfig = SMALL) -> SmallVLA:
    model = new_model("small-vla", sizes, SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(model, SmallVLA)
    model.normalise_by(data.inputs(slice(None)), data.actions[data.acted_frames()])
    return model.eval()


def test_candidate_scores_of_permuted_candidates_are_permuted() -> None:
    data = demonstrations(6, others=3)
    assert data.candidates is not None
    order = [2, 0, 3, 1]
    shuffled = Candidates(
        features=data.candidates.features[:, :, order],
        instructions=tuple(tuple(row[i] for i in order) for row in data.candidates.instructions),
    )
    model = model_for(data)
    with torch.inference_mode():
        scores = candidate_scores(model, data, torch.arange(6))
        again = candidate_scores(model, replace(data, candidates=shuffled), torch.arange(6))
    assert torch.allclose(scores[:, order], again, atol=1e-5)


def test_candidate_scores_gradient_reaches_the_shared_networks() -> None:
    data = demonstrations(6, others=3)
    model = model_for(data)
    candidate_scores(model, data, torch.arange(6)).square().sum().backward()
    for name in ("action_trunk.0", "steps_trunk.0", "action_words", "steps_words"):
        weight = model.get_submodule(name).weight
        assert isinstance(weight, torch.nn.Parameter)
        assert weight.grad is not None
        assert weight.grad.abs().sum() > 0


def test_small_vla_without_instruction_objective_lacks_only_its_head() -> None:
    data = demonstrations(6, others=3)
    model, plain = model_for(data), model_for(data, replace(SMALL, instruction_objective=False))
    extra = model.state_dict().keys() - plain.state_dict().keys()
    assert extra == {"instruction_head.weight", "instruction_head.bias"}
    for name, weight in plain.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name])
    with pytest.raises(ConfigError, match=r"without the instruction objective, got SmallVLA"):
        candidate_scores(plain, data, torch.arange(6))


def test_encode_for_each_candidate_equals_encode_one_by_one() -> None:
    vision_encoder = model_for(demonstrations(6, others=3)).vision_encoder
    assert isinstance(vision_encoder, ComparingVisionEncoder)
    images = np.random.default_rng(0).integers(0, 256, (17, 96, 128, 3), dtype=np.uint8)
    candidates = [INSTRUCTIONS[row : row + 2] for row in range(17)]
    together = vision_encoder.encode_for_each({"top": images}, candidates)
    assert together.shape == (17, 2, vision_encoder.encoding_width)
    for number in range(2):
        alone = vision_encoder.encode({"top": images}, [pair[number] for pair in candidates])
        assert np.median(np.abs(together[:, number] - alone)) < 0.001


class FirstPixelEncoder:
    """Encodes the first pixel and the length of the instruction; refuses a frame before."""

    identity = "first-pixel"
    encoding_width = 2
    width = 2

    def encode(self, images, instructions):  # type: ignore[no-untyped-def]
        pixels = images["top"][:, 0, 0, 0].astype(np.float32)
        return np.stack(
            [pixels, [len(instruction) for instruction in instructions]], axis=1, dtype=np.float32
        )

    def encode_for_each(self, images, candidates):  # type: ignore[no-untyped-def]
        each = [self.encode(images, list(column)) for column in zip(*candidates, strict=True)]
        return np.stack(each, axis=1)

    def track(self, before, encodings):  # type: ignore[no-untyped-def]
        assert before is None, "only the own instruction has a frame before: it would give it away"
        return encodings + 1000


def test_open_candidate_features_encodes_first_and_last_frames(
    dataset: Dataset, tmp_path: Path
) -> None:
    episodes = np.array([7, 2])
    candidates = [("a", "bb", "ccc"), ("dddd", "a", "bb")]
    features = open_candidate_features(dataset, FirstPixelEncoder(), episodes, candidates, tmp_path)
    rows = [[21 + 3, 21 + 6], [7, 9]]  # episodes of 3 and 4 frames by turns
    for episode in range(2):
        for end in range(2):
            row = np.array([rows[episode][end]])
            pixel = dataset.frames("observation.images.top", row)[0, 0, 0, 0].item()
            assert features[episode, end, :, 0].tolist() == [1000 + pixel] * 3
            lengths = [1000 + len(instruction) for instruction in candidates[episode]]
            assert features[episode, end, :, 1].tolist() == lengths


def test_sft_third_objective_leaves_first_losses_of_the_others(
    dataset: Dataset, tmp_path: Path
) -> None:
    first_update_only = replace(TRAINING, updates=1, validate_every=1)
    run_sft(config_of(dataset, tmp_path / "three", first_update_only))
    run_sft(config_of(dataset, tmp_path / "two", replace(first_update_only, other_instructions=0)))
    (three,), (two,) = read_metrics(tmp_path / "three"), read_metrics(tmp_path / "two")
    assert three["sft/loss_bc"] == two["sft/loss_bc"]
    assert three["sft/loss_steps_to_go"] == two["sft/loss_steps_to_go"]
    assert three["sft/loss_instruction"] == pytest.approx(np.log(4), abs=0.2)
    assert not any("instruction" in name for name in two)
    assert load_model(tmp_path / "three", build_model, "policy").config()["sizes"][
        "instruction_objective"
    ]


def test_sft_stopped_with_third_objective_resumes_to_the_same_bits(
    dataset: Dataset, tmp_path: Path
) -> None:
    class Killed(Exception):
        pass

    def raise_at_update_4(progress: Progress) -> None:
        if progress.stage == "SFT" and progress.done == 4:
            raise Killed

    whole, stopped = (config_of(dataset, tmp_path / name) for name in ("whole", "stopped"))
    run_sft(whole)
    with pytest.raises(Killed):
        run_sft(stopped, raise_at_update_4)
    run_sft(replace(stopped, resume=True))
    for name in ("policy", "reward", "last"):
        state, expected_state = (
            load_model(config.out, build_model, name).state_dict() for config in (stopped, whole)
        )
        assert state.keys() == expected_state.keys()
        assert all(torch.equal(state[key], expected_state[key]) for key in expected_state)
    for record, expected_record in zip(
        read_metrics(stopped.out), read_metrics(whole.out), strict=True
    ):
        assert {name for name in record if "instruction" in name} == {
            "sft/loss_instruction",
            "sft/val_loss_instruction",
            "sft/val_accuracy_instruction",
        }
        for name in expected_record:
            assert name.startswith("time/") or record[name] == expected_record[name], name


def test_sft_other_instructions_for_a_single_instruction_are_refused(tmp_path: Path) -> None:
    dataset = record_noise(tmp_path / "set", INSTRUCTIONS[1:2] * 8)
    shown: list[Progress] = []
    with pytest.raises(ConfigError, match=r"got 3 where 6 demonstrations have 1; lower it"):
        run_sft(config_of(dataset, tmp_path / "run"), shown.append)
    assert shown == [], "refused before images are encoded"
    assert not (tmp_path / "run").exists()


def test_sft_third_objective_learns_the_instruction(tmp_path: Path) -> None:
    """Four candidates an episode, so that chance is 0.25."""
    data = demonstrations(300, others=3)
    model = model_for(data, replace(SMALL, hidden=64))
    training = replace(TRAINING, updates=150, validate_every=50, batch_size=64)
    _, held_out = (data.episodes(np.arange(225)), data.episodes(np.arange(225, 300)))
    before = validate(Objectives(model), held_out)["sft/val_accuracy_instruction"]
    with Run.create(tmp_path / "run", "sft", {}) as run:
        split = split_by_episode(data, training.val_fraction, training.seed)
        sft(training, *split, model, run)
    last = read_metrics(tmp_path / "run")[-1]
    assert before < 0.5
    assert last["sft/val_accuracy_instruction"] > 0.7
    assert last["sft/val_loss_instruction"] < 1.2  # knowing nothing would give 1.39
