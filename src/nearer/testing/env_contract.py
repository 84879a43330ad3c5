"""Does a live env keep the contract of an env, and if not, what is that likely to come of?"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, cast

import gymnasium
import numpy as np

from nearer.core.errors import ConfigError, EnvError
from nearer.envs.robots.env import RobotEnv
from nearer.envs.robots.safety import SafeActions
from nearer.fleets.env_errors import making
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings
from nearer.fleets.env_spaces import EnvSpaces, control_rate, env_spaces
from nearer.fleets.find_env import AnyEnv, make_env
from nearer.testing.env_checks import (
    check_after_end,
    check_autoreset,
    check_cameras,
    check_rate,
    check_same_episode,
    check_same_start,
    check_start_is_new,
    check_starts_differ,
    check_success,
    check_visible,
    measured_rate,
    reports_success,
    visible_after,
)
from nearer.testing.env_probe import REST_STEPS, BrokenEnvError, Frame, Probe, actions_of
from nearer.testing.env_report import (
    EnvContractError,
    EnvReport,
    Finding,
    by_severity,
    error,
    note,
)
from nearer.testing.env_spaces_check import check_action_space, check_instruction

_SEEDS = (1001, 1002, 1003)


def check_env(
    env: str | Callable[..., AnyEnv] | AnyEnv,
    settings: EnvSettings = AS_IT_IS,
    *,
    real_robot: bool | None = None,
    steps: int = 40,
    amplitude: float = 0.1,
    visible_steps: int = 3,
    end_within: int = 300,
) -> EnvReport:
    """Try a live env, say what is wrong with it and what that is likely to come of, and close it.

    A robot is moved: clear its space. It is reset three times, and moves by `amplitude` from where
    it starts.

    Args:
        env: a Gymnasium id, an env class or function, or an env that is made already.
        settings: how it is made and read, as on the command line.
        real_robot: starts need not repeat, the rate must be kept, and nothing beyond the action's
            limits is sent unless `SafeActions` or `RobotEnv` is in between; None: if it is one.
        steps: of each episode.
        amplitude: of the motion, a fraction of half the room of an action.
        visible_steps: within which an action must show in an observation.
        end_within: steps in which a simulator's episode is waited for to end.

    Raises:
        EnvContractError: there are errors; all of them are in its message.
        EnvError: the env cannot be made.
    """
    if steps < 2 * REST_STEPS:
        raise ConfigError(f"steps must be {2 * REST_STEPS} or more, got {steps}; leave it out")
    live = _made(env, settings)
    name = live.spec.id if live.spec else type(live.unwrapped).__name__
    real = isinstance(live.unwrapped, RobotEnv) if real_robot is None else real_robot
    trial = _Trial(live, settings, real, visible_steps)
    with suppress(BrokenEnvError):
        trial.run(steps, amplitude, end_within)
    trial.close()
    report = trial.report(name)
    if report.errors:
        raise EnvContractError(report)
    return report


class _Trial:
    """One env that is tried, and what was found so far."""

    def __init__(
        self, env: AnyEnv, settings: EnvSettings, real_robot: bool, visible_steps: int
    ) -> None:
        self._env = env
        self._settings = settings
        self._real_robot = real_robot
        self._visible_steps = visible_steps
        self._findings: list[Finding] = []
        self._spaces: EnvSpaces | None = None
        self._probe: Probe | None = None
        self._starts: list[Frame] = []
        self._walks: list[list[Frame]] = []
        self._visible: int | None = None

    def run(self, steps: int, amplitude: float, end_within: int) -> None:
        """Try everything that can be tried.

        Raises:
            BrokenEnvError: nothing more can.
        """
        self._spaces = self._read_spaces()
        self._probe = probe = Probe(self._env, self._spaces)
        try:
            self._try_episodes(probe, steps, amplitude)
            if self._is_guarded():
                self._step_beyond(probe)
            if not self._real_robot:
                self._reach_end(probe, end_within)
        except BrokenEnvError as broken:
            self._findings.append(broken.finding)
            raise

    def close(self) -> None:
        """Close the env twice."""
        for _ in range(2):
            try:
                self._env.close()
            except Exception as exception:
                self._findings.append(
                    error(
                        "close",
                        "close must not raise, also the second time, got "
                        f"{type(exception).__name__}: {exception!s:.100}",
                        "it lets go of something that is gone already",
                    )
                )
                return

    def report(self, name: str) -> EnvReport:
        """Return what was found."""
        after = [frame for walk in self._walks for frame in walk]
        instruction = self._instruction()
        measured_hz = measured_rate(self._walks)
        control_hz = None if self._spaces is None else self._spaces.sizes.control_hz
        if self._spaces is not None:
            stated = self._settings.fps or control_rate(self._env.unwrapped)
            self._findings += check_rate(measured_hz, stated, self._real_robot)
            self._findings += check_instruction(instruction)
            self._findings += check_autoreset(self._env, after)
        if after:
            self._findings += check_success(after)
        probed = self._probe.findings if self._probe else []
        return EnvReport(
            env=name,
            observes="" if self._spaces is None else str(self._spaces.sizes),
            control_hz=control_hz,
            measured_hz=measured_hz,
            reset_s=max((start.took_s for start in self._starts), default=0.0),
            visible_after_steps=self._visible,
            instruction=instruction,
            reports_success=reports_success(after),
            findings=by_severity([*self._findings, *probed]),
        )

    def _read_spaces(self) -> EnvSpaces:
        try:
            spaces = env_spaces(
                self._env.unwrapped,
                self._env.observation_space,
                self._env.action_space,
                self._settings,
            )
        except EnvError as refusal:
            finding = error("spaces", str(refusal), "")
            self._findings.append(finding)
            raise BrokenEnvError(finding) from refusal
        self._findings += check_action_space(self._env.action_space)
        return spaces

    def _try_episodes(self, probe: Probe, steps: int, amplitude: float) -> None:
        """Walk, repeat the start and, in a simulator, the walk; then rest, and start elsewhere."""
        first = self._reset(probe, _SEEDS[0])
        moves, rests = actions_of(self._env.action_space, first, steps, amplitude)
        walk = self._walk(probe, moves)
        again = self._reset(probe, _SEEDS[0])
        self._findings += check_same_start(first, again, self._real_robot)
        self._findings += check_start_is_new(again, walk[-1])
        self._findings += check_cameras([first, *walk[REST_STEPS:]])
        resting = None
        if first.is_same_as(again) and not self._real_robot:
            self._findings += check_same_episode(walk, self._walk(probe, moves))
            resting = [self._reset(probe, _SEEDS[0]), *self._walk(probe, rests)]
        if len(walk) > REST_STEPS:
            self._visible = visible_after([first, *walk], resting)
            observes_numbers = len(first.numbers) > 0
            self._findings += check_visible(self._visible, self._visible_steps, observes_numbers)
        others = [self._reset(probe, seed) for seed in _SEEDS[1 : 2 if self._real_robot else None]]
        if not self._real_robot:
            self._findings += check_starts_differ([first, *others])

    def _is_guarded(self) -> bool:
        """Tell whether a command beyond the limits may be sent, and say so if it may not."""
        layer: Any = self._env
        while isinstance(layer, gymnasium.Wrapper) and not isinstance(layer, SafeActions):
            layer = cast(Any, layer).env
        if not self._real_robot or isinstance(layer, RobotEnv | SafeActions):
            return True
        self._findings.append(
            note(
                "action range",
                "nothing beyond the limits was sent to a robot without SafeActions around it",
            )
        )
        return False

    def _step_beyond(self, probe: Probe) -> None:
        space = cast(Any, self._env.action_space)
        high = np.nan_to_num(space.high, posinf=1e3, neginf=-1e3).ravel()
        low = np.nan_to_num(space.low, posinf=1e3, neginf=-1e3).ravel()
        try:
            self._walks.append([probe.step((high + (high - low)).astype(np.float32))])
        except BrokenEnvError as broken:
            self._findings.append(
                error(
                    "action range",
                    f"an action beyond the limits must be clipped, got: {broken.finding.sentence}",
                    "policies sample from distributions without bounds; np.clip the action in step",
                )
            )
            self._reset(probe, _SEEDS[-1])

    def _reach_end(self, probe: Probe, end_within: int) -> None:
        """Step until the episode ends, and once more."""
        start = self._reset(probe, _SEEDS[-1])
        _, rests = actions_of(self._env.action_space, start, end_within, 0)
        walk = self._walk(probe, rests)
        if not walk[-1].ended:
            self._findings.append(
                note("end", f"no episode ended within {end_within} steps, so ends were not tried")
            )
            return
        try:
            after = probe.step(rests[0])
        except BrokenEnvError:
            return  # an env may refuse to be stepped after the end
        self._findings += check_after_end(walk[-1], after, self._starts)

    def _reset(self, probe: Probe, seed: int) -> Frame:
        self._starts.append(probe.reset(seed))
        return self._starts[-1]

    def _walk(self, probe: Probe, actions: Any) -> list[Frame]:
        self._walks.append(probe.walk(actions))
        return self._walks[-1]

    def _instruction(self) -> str | None:
        drawn = [start.info["instruction"] for start in self._starts if "instruction" in start.info]
        of_env = (getattr(self._env.unwrapped, name, None) for name in ("task_description", "task"))
        texts: Iterator[Any] = iter([*drawn[:1], self._settings.instruction, *of_env])
        return next((text for text in texts if isinstance(text, str) and text.strip()), None)


def _made(env: str | Callable[..., AnyEnv] | AnyEnv, settings: EnvSettings) -> AnyEnv:
    if isinstance(env, str):
        return make_env(env, settings)
    if isinstance(env, gymnasium.Env):
        return cast(AnyEnv, env)
    with making(getattr(env, "__name__", repr(env))):
        return cast(Any, env)(**settings.kwargs)
