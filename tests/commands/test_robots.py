"""A policy practises on a robot that knows no success, from the command line."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

import nearer
from commands.tiny_runs import TINY_SFT
from lerobot_stand_in import lerobot_without_hardware
from nearer.cli import main
from nearer.core.interfaces import Decision
from nearer.datasets.lerobot.reader import open_dataset
from refusals import refused

LIMITS = {"lift.pos": [0, 90], "gripper.pos": [0, 100]}
SETTINGS = {
    "type": "bench_arm",
    "port": "/dev/ttyACM0",
    "limits": LIMITS,
    "max_velocity": 100,
    "fps": 50,
    "reset": "script",
    "home": {"lift.pos": 5, "gripper.pos": 50},
}
ROBOT = ["--env", "lerobot", "--num-envs", "1", "--max-steps", "10", "--threshold", "0.5"]


class BenchArmInSimulation(gymnasium.Env[Any, Any]):
    """Has the sizes and the rate of the stand-in, and knows when it is done."""

    control_hz = 50
    observation_space: Any = Dict({"agent_pos": Box(-1e3, 1e3, (4,), np.float32)})
    action_space = Box(-100, 100, (3,), np.float32)
    task = "lift it"

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(0, 9, 4).astype(np.float32)
        return {"agent_pos": self.state.copy()}, {}

    def step(self, action: Any) -> Any:
        self.state[:3] += np.clip(action - self.state[:3], -1, 1)
        done = bool(self.state[0] > 15)
        return {"agent_pos": self.state.copy()}, 0.0, False, False, {"is_success": done}


class Lifts:
    def begin(self, robots: Any, rngs: Any) -> None: ...

    def act(self, observation: Any, instructions: Any, robots: Any, rngs: Any) -> Decision:
        actions = observation.agent_pos[:, :3] + np.array(
            [[rng.normal(1, 0.1), 0, 0] for rng in rngs]
        )
        return Decision(
            actions=actions.astype(np.float32), log_prob=np.zeros(len(robots), np.float32)
        )


@pytest.fixture(scope="module")
def sft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny Stage 1 on demonstrations with the robot's sizes."""
    root = tmp_path_factory.mktemp("robot")
    env = nearer.register_env(BenchArmInSimulation)
    config = nearer.configs.CollectConfig(env=env, episodes=8, out=root / "data")
    nearer.collect(config, demonstrator=Lifts())
    main(["sft", "--data", str(root / "data"), "--out", str(root / "sft"), *TINY_SFT])
    return root / "sft"


@pytest.fixture
def lerobot() -> Iterator[None]:
    """Put a lerobot without hardware on the path."""
    with lerobot_without_hardware():
        yield


@pytest.mark.usefixtures("lerobot")
def test_policy_practises_on_a_robot_without_ground_truth(sft: Path, tmp_path: Path) -> None:
    out = tmp_path / "practice"
    short = ["--max-env-steps", "60", "--updates-per-iteration", "1", "--batch-size", "16"]
    settings = ["--env-kwargs", json.dumps(SETTINGS), "--audit-every", "0"]
    main(["improve", "--run", str(sft), "--out", str(out), *ROBOT, *short, *settings])
    assert (out / "FINISHED").exists()
    practice = open_dataset(out / "practice")
    assert practice.tasks == ("lift it",)
    assert practice.info.fps == 50


@pytest.mark.usefixtures("lerobot")
def test_audits_of_a_robot_are_refused_with_the_flag_that_helps(
    sft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--env-kwargs", json.dumps(SETTINGS | {"id": "audited"})]
    message = refused(capsys, "improve", "--run", sft, "--out", tmp_path / "no", *ROBOT, *settings)
    assert "lerobot must report is_success" in message
    assert "nearer improve --audits person" in message


@pytest.mark.usefixtures("lerobot")
def test_default_number_of_envs_is_refused_for_a_robot(
    sft: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["--env-kwargs", json.dumps(SETTINGS | {"id": "eight"})]
    start = ["improve", "--run", sft, "--out", tmp_path / "no", "--env", "lerobot", *settings]
    message = refused(capsys, *start)
    assert re.search("got a second one for bench_arm; pass --num-envs 1", message)
