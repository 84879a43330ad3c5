"""Practice with the reward model of another run, its threshold and its vision encoder."""

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

from model_inputs import point_features
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
from nearer.models.pointing.tracking import NUM_HYPOTHESES
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.runs.checkpoint import load_model, save_checkpoint, weights_hash
from nearer.runs.documents import read_header
from nearer.runs.metrics import read_metrics

POINT_MASS = "nearer/PointMass-v0"
CAMERA_ENV = "test/Camera-v0"
INSTRUCTION = "push the red moon to the blue cube"
SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 48, 64),))
TINY = [
    *("--env", POINT_MASS, "--num-envs", "4", "--max-steps", "30", "--audit-every", "2"),
    *("--updates-per-iteration", "2", "--batch-size", "32", "--max-env-steps", "800"),
]  # fmt: skip
Capture = pytest.CaptureFixture[str]


class CameraEnv(gymnasium.Env[Any, Any]):
    """A point on a board, which the camera image shows as a white spot."""

    control_hz = 10
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
        self.position = self.np_random.uniform(0.2, 0.8, 2).astype(np.float32)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        self.position = np.clip(self.position + 0.1 * action, 0, 1).astype(np.float32)
        return self._observe(), 0.0, False, False, {"is_success": False}

    def _observe(self) -> Any:
        image = np.full((48, 64, 3), 60, np.uint8)
        row, column = int(self.position[0] * 40), int(self.position[1] * 56)
        image[row : row + 8, column : column + 8] = 255
        return {"agent_pos": self.position.copy(), "pixels": {"front": image}}


@pytest.fixture(autouse=True)
def envs() -> Iterator[None]:
    gymnasium.register(CAMERA_ENV, CameraEnv, disable_env_checker=True)
    yield
    del gymnasium.registry[CAMERA_ENV]


def practice_contents(run: Path) -> dict[str, bytes]:
    """Return the stored practice and the policy's weights, as bytes."""
    dataset = open_dataset(run / "practice")
    columns = {**dataset.columns, **(read_progress(dataset) or {})}
    policy = (run / "checkpoints/policy/pretrained_model/model.safetensors").read_bytes()
    return {name: values.tobytes() for name, values in columns.items()} | {"policy": policy}


def metrics_without_times(run: Path) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if "time/" not in name}
        for record in read_metrics(run)
    ]


@pytest.fixture(scope="module")
def other_run(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a second Stage-1 run, of other sizes and another seed."""
    run = tmp_path_factory.mktemp("other") / "sft"
    sizes = ["--model", "mlp", "--mlp.hidden", "8", "--mlp.num-bins", "60", "--seed", "1"]
    rest = ["--updates", "40", "--validate-every", "20", "--out", str(run)]
    main(["sft", "--data", str(stage_one / "data"), *sizes, *rest])
    return run


def test_improve_own_reward_named_explicitly_gives_equal_bits(
    stage_one: Path, tmp_path: Path
) -> None:
    run = str(stage_one / "sft")
    plain, named = tmp_path / "plain", tmp_path / "named"
    main(["improve", "--run", run, "--out", str(plain), "--threshold", "20", *TINY])
    by_name = ["--reward", f"{run}/checkpoints/reward"]
    main(["improve", "--run", run, "--out", str(named), "--threshold", "20", *by_name, *TINY])
    assert practice_contents(named) == practice_contents(plain)
    assert metrics_without_times(named) == metrics_without_times(plain)


def test_improve_reward_of_another_run_uses_its_threshold_and_resumes(
    stage_one: Path, other_run: Path, tmp_path: Path
) -> None:
    config = ImproveConfig(
        run=stage_one / "sft",
        reward=other_run,
        env=POINT_MASS,
        out=tmp_path / "whole",
        num_envs=4,
        practice=Practice(max_steps=30, updates_per_iteration=2, batch_size=32, max_env_steps=800),
    )
    run_improve(config)
    header = read_header(config.out)
    reward = load_model(other_run, build_model, "reward")
    assert header.inputs.frozen_sha256 == weights_hash(reward)
    assert header.config["reward"] == str(other_run)
    calibrated = json.loads((other_run / "calibration.json").read_text())["threshold_steps"]
    assert header.inputs.threshold_steps == calibrated

    def press_ctrl_c(progress: Progress) -> None:
        if progress.done >= 200:
            signal.raise_signal(signal.SIGINT)

    stopped = tmp_path / "stopped"
    with pytest.raises(Interrupted):
        run_improve(ImproveConfig(**{**fields_of(config), "out": stopped}), press_ctrl_c)
    assert 0 < len(read_metrics(stopped)) < len(read_metrics(config.out))
    main(["improve", "--resume", "--out", str(stopped)])
    assert practice_contents(stopped) == practice_contents(config.out)


def fields_of(config: ImproveConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in type(config).__dataclass_fields__}


def save_run(run: Path, model: FoundationModel) -> Path:
    """Save a model, normalised for `CameraEnv`, as both checkpoints of a run."""
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(64, 3, 2, generator=draw)
    features = point_features(points) if model.vision_encoder else points[:, 0, :0]
    inputs = Inputs(state=points[:, 0], features=features, instructions=[INSTRUCTION] * 64)
    model.normalise_by(inputs, torch.rand(64, 2, generator=draw) - 0.5)
    for link in ("policy", "reward"):
        save_checkpoint(run / "checkpoints" / link, model, None)
    return run


def small_vla(seed: int, *, tower_scale: float = 1.0) -> FoundationModel:
    model = new_model("small-vla", SmallVLAConfig(hidden=8), SPACES, (INSTRUCTION,), seed)
    with torch.no_grad():
        for weights in model.get_submodule("tower").parameters():
            weights.mul_(tower_scale)
    return model


def mlp(seed: int) -> FoundationModel:
    spaces = Spaces(agent_pos=2, environment_state=0, action=2)
    return new_model("mlp", MLPConfig(hidden=8), spaces, (), seed)


def practise(policy: Path, reward: Path, out: Path) -> None:
    sizes = ["--num-envs", "2", "--max-steps", "5", "--updates-per-iteration", "1"]
    more = ["--batch-size", "16", "--max-env-steps", "60", "--threshold", "0", "--audit-every", "0"]
    command = ["improve", "--run", str(policy), "--reward", str(reward), "--out", str(out)]
    main([*command, "--env", CAMERA_ENV, "--fleet", "lockstep", *sizes, *more])


WIDTH = 3 * NUM_HYPOTHESES * 3
"""Features of the built-in vision encoder: slots, hypotheses, and u, v, probability of each."""
VISION_ENCODER_CASES = {
    "policy without a vision encoder": (mlp(0), small_vla(1), (0, WIDTH)),
    "reward without a vision encoder": (small_vla(0), mlp(1), (WIDTH, 0)),
    "equal vision encoders": (small_vla(0), small_vla(1), (WIDTH, 0)),
    "different vision encoders": (small_vla(0), small_vla(1, tower_scale=0.9), (WIDTH, WIDTH)),
}
"""Policy, reward and the widths of policy and reward features that practice stores."""


@pytest.mark.parametrize("case", VISION_ENCODER_CASES)
def test_improve_policy_and_reward_encode_with_their_own_vision_encoder(
    case: str, tmp_path: Path
) -> None:
    policy, reward, widths = VISION_ENCODER_CASES[case]
    policy_run = save_run(tmp_path / "policy", policy)
    reward_run = save_run(tmp_path / "reward", reward)
    practise(policy_run, reward_run, tmp_path / "out")
    stored = read_practice(tmp_path / "out/practice")
    frozen = load_model(reward_run, build_model, "reward")
    episodes = [scored.episode for scored in stored]
    rescored = score(frozen, episodes, threshold_steps=0, discount=0.9)
    for first_score, second_score in zip(stored, rescored, strict=True):
        observations = first_score.episode.observations
        assert observations.features.shape[1] == widths[0]
        assert observations.reward_features.shape[1] == widths[1]
        np.testing.assert_allclose(first_score.steps_to_go, second_score.steps_to_go, rtol=1e-5)
    if widths == (WIDTH, WIDTH):
        observations = episodes[0].observations
        assert not np.array_equal(observations.features, observations.reward_features)
    actor = load_model(policy_run, build_model, "policy")
    first = next(episode for episode in episodes if episode.policy_version == 0)
    inputs = inputs_of(first.observations.rows(slice(-1)), [INSTRUCTION] * first.num_steps)
    with torch.inference_mode():
        exact = actor.log_prob(inputs, torch.from_numpy(first.actions)).numpy()
    np.testing.assert_allclose(first.log_prob, exact, atol=1e-3)


def test_improve_reward_that_does_not_fit_the_env_is_refused(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    reward = save_run(tmp_path / "reward", mlp(0))
    run = ["--run", str(stage_one / "sft"), "--reward", str(reward), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main(["improve", *run, "--threshold", "1", *TINY])
    message = capsys.readouterr().err
    assert "must have the spaces of the reward's checkpoint, agent_pos 2" in message
    assert not (tmp_path / "out").exists()


def test_improve_reward_without_a_calibration_asks_for_a_threshold(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    reward = tmp_path / "reward"
    shutil.copytree((stage_one / "sft/checkpoints/reward").resolve(), reward)
    run = ["--run", str(stage_one / "sft"), "--reward", str(reward), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        main(["improve", *run, *TINY])
    assert "pass --threshold STEPS" in capsys.readouterr().err


def test_calibration_of_a_checkpoint_is_that_of_its_run(tmp_path: Path) -> None:
    calibration = tmp_path / "run/calibration.json"
    model_folder = tmp_path / "run/checkpoints/reward/pretrained_model"
    model_folder.mkdir(parents=True)
    assert calibration_of(model_folder) == model_folder / "calibration.json"
    calibration.write_text("{}")
    for path in (model_folder, model_folder.parent, tmp_path / "run"):
        assert calibration_of(path) == calibration
