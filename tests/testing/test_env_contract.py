"""check_env passes an env that keeps the contract, and names what each broken one breaks."""

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from nearer.core.errors import ConfigError, EnvError
from nearer.envs.robots.env import RobotEnv
from nearer.fleets.env_settings import EnvSettings
from nearer.testing.__main__ import main
from nearer.testing.env_contract import check_env
from nearer.testing.env_report import EnvContractError, EnvReport, Severity
from simulated_robot import LIMITS, SimulatedArm

CAMERAS: Any = Dict({"front": Box(0, 255, (6, 8, 3), np.uint8)})


class Reach(gymnasium.Env[Any, Any]):
    """Two joints that go to their targets, seen by a camera; it breaks no rule."""

    control_hz: int | None = 10
    observation_space: Any = Dict({"agent_pos": Box(-1, 1, (2,), np.float32), "pixels": CAMERAS})
    action_space: Any = Box(-1, 1, (2,), np.float32)
    task = "reach"
    steps_to_end = 60

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.joints = self.np_random.uniform(-0.5, 0.5, 2).astype(np.float32)
        self.num_steps = 0
        return self.observe(), {"is_success": False}

    def step(self, action: Any) -> Any:
        self.num_steps += 1
        self.move(np.clip(action, -1, 1))
        ended = self.num_steps >= self.steps_to_end
        return self.observe(), 0.0, False, ended, {"is_success": False}

    def move(self, action: Any) -> None:
        self.joints = self.joints + np.clip(action - self.joints, -0.1, 0.1).astype(np.float32)

    def observe(self) -> Any:
        return {"agent_pos": self.joints.copy(), "pixels": {"front": self.image()}}

    def image(self) -> Any:
        image = np.zeros((6, 8, 3), np.uint8)
        image[:, :4], image[:, 4:] = (128 + 100 * self.joints).astype(np.uint8)[:, None, None]
        image[0, 0] = 10, 20, 30
        return image


def report_of(env: Any, **settings: Any) -> EnvReport:
    """Return the report, whether there are errors or not."""
    try:
        return check_env(env, **settings)
    except EnvContractError as broken:
        return broken.report


def test_env_that_keeps_the_contract_has_no_findings() -> None:
    report = check_env(Reach)
    assert report.findings == ()
    assert report.observes == "agent_pos 2, environment_state 0, action 2, camera front 6x8"
    assert (report.control_hz, report.visible_after_steps) == (10, 1)
    assert (report.instruction, report.reports_success) == ("reach", True)
    assert "action shows  after 1 steps" in str(report)


class Float64(Reach):
    def observe(self) -> Any:
        return super().observe() | {"agent_pos": self.joints.astype(np.float64)}


class ChannelsFirst(Reach):
    def image(self) -> Any:
        return np.moveaxis(super().image(), -1, 0)


class Swapped(Reach):
    def image(self) -> Any:
        return np.swapaxes(super().image(), 0, 1)


class Batched(Reach):
    def observe(self) -> Any:
        return super().observe() | {"agent_pos": self.joints[None]}


class UnitImage(Reach):
    def image(self) -> Any:
        return (super().image() / 255).astype(np.float32)


class BinaryImage(Reach):
    def image(self) -> Any:
        return (super().image() > 20).astype(np.uint8)


class NoImage(Reach):
    def observe(self) -> Any:
        return {"agent_pos": self.joints.copy()}


class Degrees(Reach):
    def observe(self) -> Any:
        return super().observe() | {"agent_pos": np.rad2deg(self.joints).astype(np.float32)}


class NotANumber(Reach):
    def observe(self) -> Any:
        joints = self.joints.copy()
        if self.num_steps == 3:
            joints[1] = np.nan
        return super().observe() | {"agent_pos": joints}


class Besides(Reach):
    def observe(self) -> Any:
        return super().observe() | {"current": np.zeros(2)}


class Unseeded(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=None)


class SameStart(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=0)


class ForgetsToReset(Reach):
    drift = 0.0

    def move(self, action: Any) -> None:
        self.drift += 0.001
        super().move(np.clip(action + self.drift, -1, 1))


class DeadCamera(Reach):
    def image(self) -> Any:
        if not hasattr(self, "still"):
            self.still = super().image()
        return self.still.copy()


class SlowCamera(Reach):
    def image(self) -> Any:
        if self.num_steps % 3 == 0:
            self.still = super().image()
        return self.still.copy()


class FirstFrameEmpty(Reach):
    def image(self) -> Any:
        return super().image() if self.num_steps else np.zeros((6, 8, 3), np.uint8)


class FirstFrameStale(Reach):
    last: Any = None

    def image(self) -> Any:
        shown = super().image() if self.num_steps or self.last is None else self.last
        self.last = super().image()
        return shown.copy()


class Deaf(Reach):
    def move(self, action: Any) -> None: ...


class Slow(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.queue: list[Any] = []
        return super().reset(seed=seed)

    def move(self, action: Any) -> None:
        self.queue.append(action)
        if len(self.queue) > 5:
            super().move(self.queue.pop(0))


class Refuses(Reach):
    def step(self, action: Any) -> Any:
        if not self.action_space.contains(action):
            raise ValueError(f"action {action} is out of range")
        return super().step(action)


class Unlimited(Reach):
    action_space: Any = Box(-np.inf, np.inf, (2,), np.float32)


class OneBuffer(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.buffer = getattr(self, "buffer", np.zeros(2, np.float32))
        return super().reset(seed=seed)

    def observe(self) -> Any:
        self.buffer[:] = self.joints
        return super().observe() | {"agent_pos": self.buffer}


class OldGym(Reach):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated or truncated, info


class OldReset(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class NoSeedArgument(Reach):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class NoInfo(Reach):
    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], None


class Score(Reach):
    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], {"is_success": 0.7}


class StartsDone(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], {"is_success": True}


class Mute(Reach):
    task = ""

    def step(self, action: Any) -> Any:
        return *super().step(action)[:4], {}


class BytesInstruction(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0], {"instruction": b"reach"}


class ResetsItself(Reach):
    def step(self, action: Any) -> Any:
        if self.num_steps >= self.steps_to_end:
            return *self.reset(seed=1001)[:1], 0.0, False, False, {"is_success": False}
        return super().step(action)


class ClosesOnce(Reach):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("the port is closed")
        self.closed = True


class NoRate(Reach):
    control_hz = None


class IntegerFlags(Reach):
    def step(self, action: Any) -> Any:
        observation, _, _, _, info = super().step(action)
        return observation, float("nan"), 0, False, info


ERROR, WARNING, NOTE = Severity
BREAK_SEVERAL = (BinaryImage, DeadCamera, FirstFrameStale)


@pytest.mark.parametrize(
    ("broken", "severity", "rule", "sentence", "cause"),
    [
        (Float64, WARNING, "dtype", "agent_pos must be float32, got float64", "np.asarray(values"),
        (ChannelsFirst, ERROR, "shape", "(6, 8, 3), got (3, 6, 8)", "channels come first"),
        (Swapped, ERROR, "shape", "(6, 8, 3), got (8, 6, 3)", "width and height are swapped"),
        (Batched, ERROR, "shape", "shape (2,), got (1, 2)", "a batch axis in front"),
        (UnitImage, ERROR, "dtype", "must be uint8, got float32", "scaled to 0..1"),
        (BinaryImage, ERROR, "range", "must be an image in 0..255", "cast to uint8"),
        (NoImage, ERROR, "observation", "pixels must be observed", "another name"),
        (Degrees, WARNING, "range", "agent_pos must lie within", "degrees where"),
        (NotANumber, ERROR, "finite", "agent_pos must be finite, got nan", "did not answer"),
        (Besides, WARNING, "observation", "got current besides", "nobody reads it"),
        (Unseeded, ERROR, "same seed", "the same seed must give the same start", "self.np_random"),
        (SameStart, WARNING, "seeds", "the same one for 3 seeds", "reset draws nothing"),
        (ForgetsToReset, ERROR, "same episode", "another one from step 1 on", "not set back"),
        (DeadCamera, ERROR, "frozen image", "got the same image in 7 steps", "thread has died"),
        (SlowCamera, WARNING, "frozen image", "got the one before in", "slower than the control"),
        (FirstFrameEmpty, ERROR, "first image", "got 0 everywhere", "wait for a frame"),
        (FirstFrameStale, ERROR, "first image", "the last image of the episode", "not emptied"),
        (Deaf, ERROR, "action", "an action must show", "motors are off"),
        (Slow, WARNING, "action", "must show within 3 steps, got 6", "answers slowly"),
        (Refuses, ERROR, "action range", "must be clipped, got: step must not raise", "np.clip"),
        (Unlimited, WARNING, "action limits", "got [-inf, inf]", "nobody has set them"),
        (OneBuffer, ERROR, "buffer", "agent_pos must stay as it was", "array.copy()"),
        (OldGym, ERROR, "step", "got 4 values", "gym before 0.26"),
        (OldReset, ERROR, "reset", "must return (observation, info), got 1 value", "gym before"),
        (
            NoSeedArgument,
            ERROR,
            "reset",
            "got TypeError",
            "reset(self, *, seed=None, options=None)",
        ),
        (NoInfo, ERROR, "info", "step must return a dict as info, got None", "forgot"),
        (Score, ERROR, "success", "is_success must be true or false, got 0.7", "a score"),
        (StartsDone, WARNING, "success", "got is_success at reset", "done already"),
        (Mute, NOTE, "success", "practise with --audits person", ""),
        (Mute, NOTE, "instruction", "gives no instruction", ""),
        (BytesInstruction, ERROR, "instruction", "must be a sentence, got b'reach'", "decode it"),
        (ResetsItself, ERROR, "autoreset", "must not start another one", "resets itself in step"),
        (ClosesOnce, ERROR, "close", "got RuntimeError: the port is closed", "gone already"),
        (NoRate, WARNING, "rate", "must state its control rate", "--fps HZ"),
        (IntegerFlags, WARNING, "flags", "terminated must be a bool, got 0", "a number"),
        (IntegerFlags, WARNING, "reward", "must be a finite number, got nan", "return 0.0"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_broken_env_is_told_what_it_breaks_and_why(
    broken: Callable[[], Any], severity: Severity, rule: str, sentence: str, cause: str
) -> None:
    report = report_of(broken)
    found = [one for one in report.findings if (one.rule, one.severity) == (rule, severity)]
    assert len(found) >= 1, str(report)
    assert any(sentence in one.sentence and cause in one.likely_cause for one in found), str(report)
    others = [one.rule for one in report.errors if one.rule != rule]
    assert not others or broken in BREAK_SEVERAL, str(report)


def test_errors_of_all_rules_are_raised_at_once() -> None:
    class Everything(Score, FirstFrameEmpty, OneBuffer): ...

    with pytest.raises(EnvContractError, match="got 3 errors; mend them") as raised:
        check_env(Everything)
    errors = raised.value.report.errors
    assert isinstance(raised.value, AssertionError)
    assert all(str(found) in str(raised.value) for found in errors)
    rules = {found.rule for found in errors}
    assert rules == {"success", "first image", "buffer"}


def test_autoreset_wrapper_is_found_without_an_end() -> None:
    report = report_of(gymnasium.wrappers.Autoreset(Reach()), end_within=5)
    assert [found.rule for found in report.errors] == ["autoreset"]
    assert [found.rule for found in report.findings[1:]] == ["end"]


def test_spaces_that_nearer_cannot_read_end_the_check() -> None:
    report = report_of(gymnasium.make("CartPole-v1"))
    (found,) = report.errors
    assert (found.rule, report.observes) == ("spaces", "")
    assert "must have a Box action space" in found.sentence


def test_settings_are_those_of_the_command_line() -> None:
    class Foreign(Mute):
        observation_space: Any = Dict({"joints": Box(-1, 1, (2,), np.float32)})
        control_hz = None

        def observe(self) -> Any:
            return {"joints": self.joints.copy()}

    settings = EnvSettings(rename=("joints=agent_pos",), instruction="reach", fps=5)
    report = check_env(Foreign, settings)
    assert (report.instruction, report.control_hz) == ("reach", 5)
    with pytest.raises(EnvError, match="must be a registered Gymnasium id"):
        check_env("nowhere/Nothing-v0")
    with pytest.raises(ConfigError, match="steps must be 10 or more, got 3"):
        check_env(Reach, steps=3)


RATE = 20


def robot_of(arm: SimulatedArm) -> RobotEnv:
    home = {"shoulder": 0.0, "elbow": 0.0}
    return RobotEnv(arm, LIMITS, fps=RATE, task="reach", reset="script", home=home)


def test_robot_env_keeps_the_contract() -> None:
    report = check_env(robot_of(SimulatedArm()), steps=20)
    assert {found.rule for found in report.findings} <= {"same seed", "success"}
    assert report.measured_hz == pytest.approx(RATE, rel=0.1)
    assert report.visible_after_steps == 1


class Unpaced(Reach):
    control_hz = 20

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=None)


class Dawdles(Unpaced):
    def move(self, action: Any) -> None:
        time.sleep(0.08)
        super().move(action)


@pytest.mark.parametrize(
    ("kind", "cause"), [(Unpaced, "ControlClock"), (Dawdles, "longer than a period")]
)
def test_rate_of_a_robot_is_checked_and_its_starts_are_not(kind: type[Reach], cause: str) -> None:
    report = report_of(kind, real_robot=True, steps=12)
    (found,) = report.errors
    assert found.rule == "rate"
    assert cause in found.likely_cause
    notes = {note.rule for note in report.findings if note.severity is NOTE}
    assert notes == {"same seed", "action range"}


def test_robot_that_does_not_move_is_found_without_a_second_start() -> None:
    arm = SimulatedArm()
    arm.stuck = True
    report = report_of(robot_of(arm), steps=20)
    assert [found.rule for found in report.errors] == ["action"]


def test_command_line_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nearer/PointMass-v0", "--steps", "20"]) == 0
    assert "observes      agent_pos 4, environment_state 2, action 2" in capsys.readouterr().out
    assert main(["CartPole-v1"]) == 1
    assert "error, spaces: the env must have a Box action space" in capsys.readouterr().out
    assert main(["nowhere/Nothing-v0"]) == 1
    assert "must be a registered Gymnasium id" in capsys.readouterr().err
