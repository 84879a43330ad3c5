"""A robot as an env: its rate, limits, watchdog and resets, and what happens when it fails."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from nearer.core.errors import ConfigError, EnvError, Interrupted
from nearer.envs.robots.driver import RobotDriver
from nearer.envs.robots.env import RobotEnv
from nearer.envs.robots.watchdog import RobotStopped
from nearer.fleets.gym import make_fleet
from simulated_robot import AXES, FPS, FREE, LIMITS, SimulatedArm

HOME = dict.fromkeys(AXES, 0.5)
PERIOD_S = 1 / FPS


class Person:
    """Confirms whatever they are asked, and remembers it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, sentence: str) -> None:
        self.asked.append(sentence)


def env_of(arm: SimulatedArm, **settings: Any) -> RobotEnv:
    whole: dict[str, Any] = {"fps": FPS, "ask": Person(), "limits": FREE} | settings
    return RobotEnv(arm, **whole)


def action(*positions: float) -> Any:
    return np.array(positions, np.float32)


def test_simulated_arm_is_a_driver() -> None:
    assert isinstance(SimulatedArm(), RobotDriver)


def test_steps_keep_the_rate_and_commands_reach_the_robot() -> None:
    arm = SimulatedArm()
    env = env_of(arm)
    env.reset()
    began_s = time.monotonic()
    for step in range(9):
        env.step(action(0.01 * step, 0))
    observation, reward, terminated, truncated, info = env.step(action(0.09, 0))
    took_s = time.monotonic() - began_s
    assert took_s >= 9.9 * PERIOD_S
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info["executed_action"] == pytest.approx([0.09, 0])
    assert (info["clipped"], info["held"], info["stopped"]) == ((), False, None)
    assert isinstance(info["late"], bool)
    assert observation["agent_pos"] == pytest.approx([0.09, 0], abs=0.02)
    assert env.summary().clock.periods == 10
    env.close()


def test_commands_obey_the_limits_and_clips_are_counted() -> None:
    arm = SimulatedArm()
    env = env_of(arm, limits=LIMITS)
    env.reset()
    for wanted in (action(5, 0), action(np.nan, 0)):
        env.step(wanted)
    info = env.step(action(5, 0))[4]
    sent = np.array(arm.commands)
    assert np.isfinite(sent).all()
    assert np.abs(np.diff(sent[:, 0], prepend=0)).max() <= 2.0 * PERIOD_S + 1e-9
    assert info["clipped"] == ("position", "velocity", "acceleration")
    clips = env.summary().clips
    assert (clips.commands, clips.not_finite, clips.velocity) == (3, 1, 2)
    assert env.action_space.contains(action(1, -1))
    assert not env.action_space.contains(action(1.1, 0))
    env.close()


def test_observations_are_copies_of_the_drivers_buffers() -> None:
    env = env_of(SimulatedArm())
    first, _ = env.reset()
    env.step(action(0.5, 0))
    env.step(action(0.5, 0))
    assert first["agent_pos"] == pytest.approx([0, 0])
    env.close()


def test_script_moves_home_slowly_along_a_line() -> None:
    arm = SimulatedArm(start=(0.0, 0.4))
    env = env_of(arm, limits=LIMITS, reset="script", home=HOME, home_speed=0.5)
    observation, info = env.reset()
    sent = np.array(arm.commands)
    assert observation["agent_pos"] == pytest.approx([0.5, 0.5], abs=0.06)
    assert info["reset_s"] >= 0.5 / (0.5 * 2.0)
    assert np.diff(sent[:, 0]).max() <= 0.5 * 2.0 * PERIOD_S + 1e-9
    assert sent[-1] == pytest.approx([0.5, 0.5])
    middle = sent[len(sent) // 2]
    assert (middle[0] - 0.0) / 0.5 == pytest.approx((middle[1] - 0.4) / 0.1, abs=0.05)
    assert env.summary().clips.commands == 0
    env.close()


def test_person_is_asked_once_the_robot_is_home() -> None:
    arm, person = SimulatedArm(), Person()
    env = env_of(arm, limits=LIMITS, home=HOME, ask=person, task="fold the towel")
    env.reset()
    assert person.asked == ["Reset the scene for 'fold the towel' and step back."]
    assert arm.commands[-1] == pytest.approx([0.5, 0.5])
    env.close()


def test_robot_that_does_not_arrive_is_a_sentence() -> None:
    arm = SimulatedArm()
    env = env_of(arm, limits=LIMITS, reset="script", home=HOME)
    arm.stuck = True
    with pytest.raises(EnvError, match=r"must reach its home pose, got shoulder 0.5 away"):
        env.reset()
    assert env.stopped == "a fault"
    env.close()


def test_robot_without_actions_is_held_and_goes_on_from_there() -> None:
    arm = SimulatedArm()
    env = env_of(arm, limits=LIMITS, watchdog_s=0.2)
    env.reset()
    env.step(action(0.5, 0))
    time.sleep(0.5)
    assert arm.num_holds == 1
    before = arm.positions()
    info = env.step(action(0.5, 0))[4]
    assert info["held"]
    assert np.abs(arm.commands[-1] - before).max() <= 2.0 * PERIOD_S + 1e-9
    assert not env.step(action(0.5, 0))[4]["held"]
    assert env.summary().watchdog.holds == 1
    env.close()


def test_stop_ends_the_episode_and_a_person_releases_the_robot() -> None:
    arm, person = SimulatedArm(), Person()
    env = env_of(arm, ask=person)
    env.reset()
    env.step(action(0.9, 0))
    threading.Timer(PERIOD_S / 2, env.stop, ["operator"]).start()
    _, _, terminated, truncated, info = env.step(action(1.0, 0))
    assert (terminated, truncated, info["stopped"]) == (False, True, "operator")
    num_commands = len(arm.commands)
    *_, info = env.step(action(-1.0, 0))
    assert "executed_action" not in info
    assert len(arm.commands) == num_commands
    assert arm.num_holds == 1
    env.reset()
    assert person.asked[1] == "The robot was stopped (operator). See that it may move."
    assert env.stopped is None
    env.step(action(0.0, 0))
    assert len(arm.commands) == num_commands + 1
    env.close()


def test_stop_beside_a_learner_that_is_blocked_acts_within_a_period() -> None:
    took_ms: list[float] = []
    for _ in range(5):
        arm = SimulatedArm()
        env = env_of(arm, fps=10, watchdog_s=5.0)
        env.reset()
        env.step(action(0.9, 0))
        threading.Timer(0.02, env.stop, ["operator"]).start()
        time.sleep(0.3)  # the learner computes
        assert arm.num_holds == 1
        took_ms.append(env.summary().watchdog.slowest_stop_ms)
        env.close()
    assert sorted(took_ms)[2] <= 100


def test_stopped_robot_that_nobody_looks_at_is_not_reset() -> None:
    env = env_of(SimulatedArm(), limits=LIMITS, reset="script", home=HOME)
    env.stop("operator")
    with pytest.raises(RobotStopped, match="got one that operator stopped; look at it"):
        env.reset()
    env.release()
    env.reset()
    env.close()


def test_stop_on_the_way_home_asks_the_person_and_goes_on() -> None:
    arm, person = SimulatedArm(), Person()
    env = env_of(arm, limits=LIMITS, home=HOME, ask=person)
    threading.Timer(0.1, env.stop, ["operator"]).start()
    env.reset()
    assert [sentence.split()[0] for sentence in person.asked] == ["The", "Reset"]
    assert arm.positions() == pytest.approx([0.5, 0.5], abs=0.06)
    env.close()


def test_signal_ends_the_program_at_the_next_reset() -> None:
    env = env_of(SimulatedArm())
    env.stop("SIGTERM")
    with pytest.raises(Interrupted, match="stopped by SIGTERM, the robot is held"):
        env.reset()
    env.close()


def test_robot_that_is_disconnected_in_mid_episode_is_a_sentence() -> None:
    arm = SimulatedArm()
    env = env_of(arm)
    env.reset()
    env.step(action(0.1, 0))
    arm.raises = ConnectionError("no status packet")
    with pytest.raises(EnvError, match=r"take an action without an error, got ConnectionError: no"):
        env.step(action(0.2, 0))
    assert env.stopped == "a fault"
    env.close()
    assert arm.num_closes == 1


def test_nan_of_a_sensor_is_a_sentence_and_stops_the_robot() -> None:
    arm = SimulatedArm()
    env = env_of(arm)
    env.reset()
    arm.nan = True
    with pytest.raises(EnvError, match=r"must observe finite numbers, got \[nan nan\] in a"):
        env.step(action(0.1, 0))
    assert env.stopped == "a fault"
    env.close()


def test_close_holds_the_robot_disconnects_it_and_may_be_repeated() -> None:
    arm = SimulatedArm()
    env = env_of(arm)
    env.reset()
    env.step(action(0.9, 0))
    env.close()
    env.close()
    assert (arm.num_holds, arm.num_closes) == (1, 1)
    with pytest.raises(EnvError, match="got a closed env"):
        env.reset()


def test_step_before_reset_is_a_sentence() -> None:
    env = env_of(SimulatedArm())
    with pytest.raises(EnvError, match="reset must come before step"):
        env.step(action(0, 0))
    env.close()


def test_render_shows_the_first_camera() -> None:
    env = env_of(SimulatedArm(), render_mode="rgb_array")
    observation, _ = env.reset()
    assert np.array_equal(env.render(), observation["pixels"]["front"])  # type: ignore[arg-type]
    env.close()


def test_fleet_of_one_robot_reads_rate_limits_and_instruction() -> None:
    fleet = make_fleet(lambda: env_of(SimulatedArm(), task="fold the towel"), 1)
    starts = fleet.reset(np.arange(1), [0])
    assert list(starts.instructions) == ["fold the towel"]
    assert fleet.spaces.control_hz == FPS
    assert fleet.spaces.action_limits == ((-1, -1), (1, 1))
    sensed = fleet.step(np.arange(1), np.zeros((1, 2), np.float32))
    assert not sensed.env_ended.any()
    with pytest.raises(EnvError, match="nearer improve --audits person"):
        fleet.ground_truth(np.arange(1))
    fleet.close()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"fps": 0}, "fps must be a positive number, got 0"),
        ({"reset": "script"}, "reset=script must have a home pose"),
        ({"reset": "robot"}, "reset must be script or person, got 'robot'"),
        ({"home_speed": 2}, "home_speed must be a fraction of max_velocity above 0, got 2"),
        ({"home": {"shoulder": 0.0}}, "home must have a position of each of shoulder, elbow, got"),
        ({"home": HOME | {"elbow": 3.0}}, r"home of elbow must lie within .*\[-1.0, 1.0\], got 3"),
        ({"watchdog_s": 0.001}, "deadline must be a control period of 0.02 s or more"),
    ],
)
def test_settings_that_cannot_work_are_sentences(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        env_of(SimulatedArm(), **settings)
