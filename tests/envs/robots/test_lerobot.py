"""Robots of lerobot as envs, tested with a stand-in that has lerobot's interface."""

import json
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from lerobot_stand_in import lerobot_without_hardware
from nearer.core.errors import ConfigError, EnvError
from nearer.envs.robots.lerobot import LeRobotDriver, LeRobotEnv
from nearer.envs.robots.lerobot_robots import connect, make_robot
from nearer.fleets.env_settings import EnvSettings
from nearer.fleets.find_env import make_env
from nearer.fleets.gym import make_fleet

LIMITS = {"lift.pos": [0, 90], "gripper.pos": [0, 100]}
CAMERA = {"front": {"type": "painted", "width": 12, "height": 8}}
SETTINGS: dict[str, Any] = {
    "type": "bench_arm",
    "port": "/dev/ttyACM0",
    "limits": LIMITS,
    "max_velocity": 50,
    "fps": 50,
    "reset": "script",
    "home": {"lift.pos": 10, "gripper.pos": 50},
}
NUMBERS = count()


@pytest.fixture
def lerobot() -> Iterator[None]:
    """Put a lerobot without hardware on the path."""
    with lerobot_without_hardware():
        yield


def settings_of(**changed: Any) -> dict[str, Any]:
    """Return settings of a robot that no other test has."""
    return SETTINGS | {"id": f"arm-{next(NUMBERS)}"} | changed


def env_of(**changed: Any) -> LeRobotEnv:
    return LeRobotEnv(**settings_of(**changed))


def env_settings_of(**changed: Any) -> EnvSettings:
    return EnvSettings(env_kwargs=(json.dumps(settings_of(**changed)),), instruction="lift it")


def robot_of(env: LeRobotEnv) -> Any:
    assert isinstance(env.driver, LeRobotDriver)
    return env.driver.robot


def action(lift: float, gripper: float = 50, wheel: float = 0) -> Any:
    return np.array([lift, gripper, wheel], np.float32)


@pytest.mark.usefixtures("lerobot")
def test_names_spaces_and_rate_are_those_of_the_robot() -> None:
    env = env_of(cameras=CAMERA)
    assert env.axes == ("lift.pos", "gripper.pos", "wheel.vel")
    assert env.control_hz == 50
    box: Any = env.action_space
    assert (box.low.tolist(), box.high.tolist()) == ([0, 0, -50], [90, 100, 50])
    space: Any = env.observation_space
    assert space["agent_pos"].shape == (4,)
    assert space["pixels"]["front"].shape == (8, 12, 3)
    env.close()


@pytest.mark.usefixtures("lerobot")
def test_episode_moves_the_robot_by_lerobots_names() -> None:
    env = env_of(cameras=CAMERA)
    observation, _ = env.reset()
    assert env.observation_space.contains(observation)
    assert observation["agent_pos"] == pytest.approx([10, 50, 0, 0.1])
    observation, *_, info = env.step(action(10.05, 50, 0.5))
    assert robot_of(env).sent[-1] == pytest.approx(
        {"lift.pos": 10.05, "gripper.pos": 50, "wheel.vel": 0.5}
    )
    assert observation["agent_pos"][0] == pytest.approx(10.05)
    assert info["clipped"] == ()
    *_, info = env.step(action(80, 50, -500))
    # 2.5 units/s before, and 200 units/s^2 in a period of 0.02 s.
    assert robot_of(env).sent[-1]["lift.pos"] == pytest.approx(10.05 + 6.5 / 50)
    assert info["clipped"] == ("velocity", "acceleration")
    env.close()
    assert robot_of(env).sent[-1]["wheel.vel"] == 0
    assert not robot_of(env).is_connected


@pytest.mark.usefixtures("lerobot")
def test_robot_that_hears_nothing_is_held_where_it_is_and_its_wheel_stops() -> None:
    env = env_of(watchdog_s=0.1)
    env.reset()
    env.step(action(10.05, 50, 3))
    time.sleep(0.3)
    assert robot_of(env).sent[-1] == pytest.approx(
        {"lift.pos": 10.05, "gripper.pos": 50, "wheel.vel": 0}
    )
    assert env.step(action(10.5))[-1]["held"]
    env.close()


@pytest.mark.usefixtures("lerobot")
def test_id_and_json_of_the_command_line_make_a_fleet_of_one() -> None:
    fleet = make_fleet("lerobot", 1, env_settings_of(cameras=CAMERA))
    starts = fleet.reset(np.arange(1), [7])
    assert list(starts.instructions) == ["lift it"]
    assert [str(camera) for camera in fleet.spaces.cameras] == ["front 8x12"]
    assert (fleet.spaces.agent_pos, fleet.spaces.action, fleet.spaces.control_hz) == (4, 3, 50)
    fleet.step(np.arange(1), np.array([[10, 50, 0]], np.float32))
    with pytest.raises(EnvError, match="--audits person"):
        fleet.ground_truth(np.arange(1))
    fleet.close()


@pytest.mark.usefixtures("lerobot")
def test_second_env_of_a_robot_is_refused_until_the_first_is_closed() -> None:
    settings = env_settings_of()
    with pytest.raises(EnvError, match="got a second one for bench_arm; pass --num-envs 1"):
        make_fleet("lerobot", 2, settings)
    make_fleet("lerobot", 1, settings).close()  # the first of the two was let go of
    first = env_of(id="other")
    first.close()
    env_of(id="other").close()


@pytest.mark.usefixtures("lerobot")
def test_robot_that_is_unplugged_in_mid_episode_is_a_sentence() -> None:
    env = env_of()
    env.reset()
    robot_of(env).is_connected = False
    with pytest.raises(EnvError, match=r"take an action without an error, got DeviceNotConnected"):
        env.step(action(10))
    env.close()


@pytest.mark.usefixtures("lerobot")
def test_nan_of_a_motor_is_named_and_stops_the_robot() -> None:
    env = env_of()
    env.reset()
    robot_of(env).fixed["lift.pos"] = float("nan")
    with pytest.raises(EnvError, match=r"lift.pos must be finite, got nan; check the motor"):
        env.step(action(10))
    assert env.stopped == "a fault"
    env.close()


@pytest.mark.usefixtures("lerobot")
def test_image_of_another_size_names_the_camera() -> None:
    env = env_of(cameras=CAMERA)
    env.reset()
    robot_of(env).config.cameras["front"].width = 20
    with pytest.raises(EnvError, match=r"camera front must show uint8 of shape \(8, 12, 3\)"):
        env.step(action(10))
    env.close()


@pytest.mark.usefixtures("lerobot")
def test_depth_cameras_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    env_of(cameras=CAMERA).close()
    assert "lerobot observes front_depth besides, which is not read" in caplog.text


@pytest.mark.usefixtures("lerobot")
@pytest.mark.parametrize(
    ("changed", "error", "sentence"),
    [
        ({"type": None}, ConfigError, "must have type and max_velocity for lerobot, got type None"),
        ({"max_velocity": None}, ConfigError, "must have type and max_velocity"),
        ({"type": "so9"}, ConfigError, r"be a robot of lerobot, bench_arm, got 'so9' \(not impor"),
        ({"prt": "x"}, ConfigError, "settings of lerobot's bench_arm.* got: The fields `prt` are"),
        ({"limits": {"lift.pos": [0, 1]}}, ConfigError, r'"limits": {"gripper.pos": \[LEAST'),
        ({"limits": None}, ConfigError, "got none of lift.pos, gripper.pos; a policy that learns"),
        ({"home": None}, ConfigError, "reset=script must have a home pose"),
        ({"calibrated": False}, EnvError, "lerobot-calibrate --robot.type=bench_arm --robot.port"),
        ({"plugged_in": False}, EnvError, "must answer when it is connected, got DeviceNotConnec"),
        ({"unobserved": ("lift.pos",)}, ConfigError, "must observe lift.pos to be held there"),
    ],
)
def test_what_is_missing_is_a_sentence(
    changed: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        env_of(**changed)


@pytest.mark.usefixtures("lerobot")
def test_axes_that_are_velocities_by_another_name_are_told() -> None:
    robot = make_robot("bench_arm", {"port": "x", "unobserved": ("lift.pos",)})
    driver = LeRobotDriver(robot, velocities=["lift.pos", "wheel.vel"])
    connect(robot, "bench_arm", {})
    driver.hold()
    assert driver.positions()[1] == 50
    assert robot.sent[-1] == {"lift.pos": 0, "gripper.pos": 50, "wheel.vel": 0}  # type: ignore[attr-defined]


@pytest.mark.usefixtures("lerobot")
def test_hold_without_an_answer_uses_what_was_seen_last() -> None:
    robot: Any = make_robot("bench_arm", {"port": "x"})
    driver = LeRobotDriver(robot)
    connect(robot, "bench_arm", {})
    driver.observe()

    def fail() -> Any:
        raise ConnectionError("no status packet")

    robot.get_observation = fail
    driver.hold()
    assert robot.sent[-1] == {"lift.pos": 5, "gripper.pos": 50, "wheel.vel": 0}


@pytest.mark.usefixtures("lerobot")
def test_robot_of_another_package_is_named_with_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_arms.py").write_text(
        "from lerobot.robots import RobotConfig\n"
        "from lerobot.robots.bench_arm import BenchArmConfig\n"
        "RobotConfig.register_subclass('my_arm')(BenchArmConfig)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    env_of(type="my_arms:my_arm").close()


def test_lerobot_that_is_missing_is_a_sentence_with_the_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lerobot", None)
    with pytest.raises(EnvError, match=r"under Python 3.12 or newer with pip install lerobot \(th"):
        make_env("lerobot", env_settings_of())
    assert "lerobot" in gymnasium.registry
