"""A reward of another run: the same one changes no bit, another one judges with its own sight."""

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from nearer.algorithm.improve_settings import Practice
from nearer.algorithm.model import FoundationModel, Inputs, inputs_of
from nearer.algorithm.score import score
from nearer.cli import main
from nearer.commands.improve import run_improve
from nearer.configs.improve import ImproveConfig
from nearer.core.callbacks import Progress
from nearer.core.errors import Interrupted
from nearer.core.spaces import Camera, Spaces
from nearer.datasets.lerobot.reader import open_dataset, read_progress
from nearer.datasets.practice_store import read_practice
from nearer.evaluation.reward_model import calibration_of
from nearer.models.factory import build_model, new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.runs.checkpoint import load_model, save_checkpoint, weights_hash
from nearer.runs.documents import read_header
from nearer.runs.metrics import read_metrics

POINT_MASS = "nearer/PointMass-v0"
PICTURED = "test/Pictured-v0"
INSTRUCTION = "push the red moon to the blue cube"
SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 48, 64),))
TINY = [
    *("--env", POINT_MASS, "--num-envs", "4", "--max-steps", "30", "--audit-every", "2"),
    *("--updates-per-iteration", "2", "--batch-size", "32", "--max-env-steps", "800"),
]  # fmt: skip
Capture = pytest.CaptureFixture[str]


class Pictured(gymnasium.Env[Any, Any]):
    """A point on a board, and a picture in which it is a white spot."""

    observation_space = Dict(
        {
            "agent_pos": Box(-np.inf, np.inf, (2,), np.float32),
            "pixels": Dict({"front": Box(0, 255, (48, 64, 3), np.uint8)}),
        }
    )
    action_space = Box(-1, 1, (2,), np.float32)
    task: ClassVar[str] = INSTRUCTION

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.place = self.np_random.uniform(0.2, 0.8, 2).astype(np.float32)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        self.place = np.clip(self.place + 0.1 * action, 0, 1).astype(np.float32)
        return self._observe(), 0.0, False, False, {"is_success": False}

    def _observe(self) -> Any:
        picture = np.full((48, 64, 3), 60, np.uint8)
        row, column = int(self.place[0] * 40), int(self.place[1] * 56)
        picture[row : row + 8, column : column + 8] = 255
        return {"agent_pos": self.place.copy(), "pixels": {"front": picture}}


@pytest.fixture(autouse=True)
def envs() -> Iterator[None]:
    gymnasium.register(PICTURED, Pictured, disable_env_checker=True)
    yield
    del gymnasium.registry[PICTURED]


def practised(run: Path) -> dict[str, bytes]:
    dataset = open_dataset(run / "practice")
    columns = {**dataset.columns, **(read_progress(dataset) or {})}
    policy = (run / "checkpoints/policy/pretrained_model/model.safetensors").read_bytes()
    return {name: values.tobytes() for name, values in columns.items()} | {"policy": policy}


def untimed(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in one.items() if "time/" not in k} for one in read_metrics(run)]


@pytest.fixture(scope="module")
def other(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a second Stage-1 run, of other sizes and another seed."""
    run = tmp_path_factory.mktemp("other") / "sft"
    sizes = ["--model", "mlp", "--mlp.hidden", "8", "--mlp.num-bins", "60", "--seed", "1"]
    rest = ["--updates", "40", "--validate-every", "20", "--out", str(run)]
    main(["sft", "--data", str(stage_one / "data"), *sizes, *rest])
    return run


def test_the_run_s_own_reward_by_name_changes_no_bit(stage_one: Path, tmp_path: Path) -> None:
    run = str(stage_one / "sft")
    plain, named = tmp_path / "plain", tmp_path / "named"
    main(["improve", "--run", run, "--out", str(plain), "--threshold", "20", *TINY])
    by_name = ["--reward", f"{run}/checkpoints/reward"]
    main(["improve", "--run", run, "--out", str(named), "--threshold", "20", *by_name, *TINY])
    assert practised(named) == practised(plain)
    assert untimed(named) == untimed(plain)


def test_another_reward_judges_with_its_own_threshold_and_resumes(
    stage_one: Path, other: Path, tmp_path: Path
) -> None:
    config = ImproveConfig(
        run=stage_one / "sft",
        reward=other,
        env=POINT_MASS,
        out=tmp_path / "whole",
        num_envs=4,
        practice=Practice(max_steps=30, updates_per_iteration=2, batch_size=32, max_env_steps=800),
    )
    run_improve(config)
    header = read_header(config.out)
    reward = load_model(other, build_model, "reward")
    assert header.inputs.frozen_sha256 == weights_hash(reward)
    assert header.config["reward"] == str(other)
    calibrated = json.loads((other / "calibration.json").read_text())["threshold_steps"]
    assert header.inputs.threshold_steps == calibrated

    def press_ctrl_c(progress: Progress) -> None:
        if progress.done >= 200:
            signal.raise_signal(signal.SIGINT)

    stopped = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        run_improve(ImproveConfig(**{**fields_of(config), "out": stopped}), press_ctrl_c)
    assert 0 < len(read_metrics(stopped)) < len(read_metrics(config.out))
    main(["improve", "--resume", "--out", str(stopped)])
    assert practised(stopped) == practised(config.out)


def fields_of(config: ImproveConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in type(config).__dataclass_fields__}


def checkpoint(run: Path, model: FoundationModel) -> Path:
    """Leave a model, made to fit the pictured env, as both checkpoints of a run."""
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(64, 3, 3, generator=draw)
    encodings = points.flatten(1) if model.vision_encoder else points[:, 0, :0]
    inputs = Inputs(state=points[:, 0, :2], features=encodings, instructions=[INSTRUCTION] * 64)
    model.normalise_by(inputs, torch.rand(64, 2, generator=draw) - 0.5)
    for link in ("policy", "reward"):
        save_checkpoint(run / "checkpoints" / link, model, None)
    return run


def vla(seed: int, *, eyes: float = 1.0) -> FoundationModel:
    model = new_model("small-vla", SmallVLAConfig(hidden=8), SPACES, (INSTRUCTION,), seed)
    with torch.no_grad():
        for weights in model.get_submodule("tower").parameters():
            weights.mul_(eyes)
    return model


def mlp(seed: int) -> FoundationModel:
    blind = Spaces(agent_pos=2, environment_state=0, action=2)
    return new_model("mlp", MLPConfig(hidden=8), blind, (), seed)


def practise(policy: Path, reward: Path, out: Path) -> None:
    sizes = ["--num-envs", "2", "--max-steps", "5", "--updates-per-iteration", "1"]
    more = ["--batch-size", "16", "--max-env-steps", "60", "--threshold", "0", "--audit-every", "0"]
    command = ["improve", "--run", str(policy), "--reward", str(reward), "--out", str(out)]
    main([*command, "--env", PICTURED, *sizes, *more])


PAIRS = {
    "the policy sees nothing": (mlp(0), vla(1), (0, 9)),
    "the reward sees nothing": (vla(0), mlp(1), (9, 0)),
    "both see alike": (vla(0), vla(1), (9, 0)),
    "both see, but not alike": (vla(0), vla(1, eyes=0.9), (9, 9)),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_each_model_sees_with_its_own_sight(pair: str, tmp_path: Path) -> None:
    policy, reward, widths = PAIRS[pair]
    runs = [checkpoint(tmp_path / name, one) for name, one in (("p", policy), ("r", reward))]
    practise(*runs, tmp_path / "out")
    stored = read_practice(tmp_path / "out/practice")
    frozen = load_model(runs[1], build_model, "reward")
    again = score(frozen, [one.episode for one in stored], threshold_steps=0, discount=0.9)
    for one, other in zip(stored, again, strict=True):
        seen = one.episode.observations
        assert (seen.features.shape[1], seen.reward_features.shape[1]) == widths
        np.testing.assert_allclose(one.steps_to_go, other.steps_to_go, rtol=1e-5)
    if widths == (9, 9):
        seen = stored[0].episode.observations
        assert not np.array_equal(seen.features, seen.reward_features)
    actor = load_model(runs[0], build_model, "policy")
    first = next(one.episode for one in stored if one.episode.policy_version == 0)
    asked = inputs_of(first.observations.rows(slice(-1)), [INSTRUCTION] * first.num_steps)
    with torch.inference_mode():
        exact = actor.log_prob(asked, torch.from_numpy(first.actions)).numpy()
    np.testing.assert_allclose(first.log_prob, exact, atol=1e-3)


def test_a_reward_that_does_not_fit_the_env_is_refused(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    reward = checkpoint(tmp_path / "reward", mlp(0))
    run = ["--run", str(stage_one / "sft"), "--reward", str(reward), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main(["improve", *run, "--threshold", "1", *TINY])
    told = capsys.readouterr().err
    assert "must have the spaces of the reward's checkpoint, agent_pos 2" in told
    assert not (tmp_path / "out").exists()


def test_a_reward_without_a_calibration_asks_for_a_threshold(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    reward = tmp_path / "reward"
    shutil.copytree((stage_one / "sft/checkpoints/reward").resolve(), reward)
    run = ["--run", str(stage_one / "sft"), "--reward", str(reward), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main(["improve", *run, *TINY])
    assert "pass --threshold STEPS" in capsys.readouterr().err


def test_a_checkpoint_is_calibrated_by_its_run(tmp_path: Path) -> None:
    found = tmp_path / "run/calibration.json"
    deep = tmp_path / "run/checkpoints/reward/pretrained_model"
    deep.mkdir(parents=True)
    assert calibration_of(deep) == deep / "calibration.json"
    found.write_text("{}")
    for path in (deep, deep.parent, tmp_path / "run"):
        assert calibration_of(path) == found
