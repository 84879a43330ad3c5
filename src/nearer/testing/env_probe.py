"""Episodes of a live env, and what is kept of each observation to compare it with others."""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, SupportsFloat, cast

import numpy as np
from jaxtyping import Float32, Float64

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.fleets.env_spaces import EnvSpaces
from nearer.fleets.find_env import AnyEnv
from nearer.testing.env_report import Finding, error, warning
from nearer.testing.env_spaces_check import check_image, check_info, check_value

_RESET_VALUES, _STEP_VALUES = 2, 5
Info = Mapping[str, Any]
"""What Gymnasium's `reset` and `step` return last."""
REST_STEPS = 5
"""Steps of an episode in which the action does not change, before one that does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is kept of one observation.

    Attributes:
        numbers: proprioception and environment state, side by side.
        digests: camera -> a hash of its image.
        info: beside it.
        took_s: how long the call took, seconds.
        at_s: when the call had returned, seconds of a clock.
        ended: terminated or truncated; False after a reset.
    """

    numbers: Float32[Array, "state"]
    digests: Mapping[str, bytes]
    info: Info
    took_s: float
    at_s: float
    ended: bool = False

    def is_same_as(self, other: "Frame") -> bool:
        """Tell whether two observations are equal to the last bit."""
        equal = np.array_equal(self.numbers, other.numbers, equal_nan=True)
        return equal and self.digests == other.digests


class BrokenEnvError(Exception):
    """An env does something after which nothing else can be tried."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class Probe:
    """Resets and steps one env, and notes what is wrong with what it returns.

    Attributes:
        findings: so far; an observation's faults are looked for in every one.
        num_steps: so far.
    """

    def __init__(self, env: AnyEnv, spaces: EnvSpaces) -> None:
        self.env = env
        self.findings: list[Finding] = []
        self.num_steps = 0
        self._spaces = spaces
        self._kept: list[tuple[Any, Any]] = []  # what the last call returned, and a copy

    def reset(self, seed: int) -> Frame:
        """Reset, and return the first observation.

        Raises:
            BrokenEnvError: it raised, or returned something else.
        """
        began_s = time.monotonic()
        try:
            returned: Any = self.env.reset(seed=seed)
        except Exception as exception:
            raise BrokenEnvError(_raised("reset", exception)) from exception
        if not isinstance(returned, tuple) or len(cast(Any, returned)) != _RESET_VALUES:
            raise BrokenEnvError(_other_values("reset", "(observation, info)", returned))
        raw, info = cast(tuple[Any, Any], returned)
        frame = self._frame("reset", raw, info, began_s)
        for name, image in self._read("reset", raw).images.items():
            self.findings.extend(check_image(name, image))
        return frame

    def step(self, action: Float32[Array, "action"]) -> Frame:
        """Step, and return the observation.

        Raises:
            BrokenEnvError: it raised, or returned something else.
        """
        began_s = time.monotonic()
        try:
            returned: Any = self.env.step(self._spaces.env_action(action))
        except Exception as exception:
            raise BrokenEnvError(_raised("step", exception)) from exception
        wanted = "(observation, reward, terminated, truncated, info)"
        if not isinstance(returned, tuple) or len(cast(Any, returned)) != _STEP_VALUES:
            raise BrokenEnvError(_other_values("step", wanted, returned))
        raw, reward, terminated, truncated, info = cast(tuple[Any, ...], returned)
        self.num_steps += 1
        self.findings.extend(_check_flags(reward, terminated, truncated))
        return self._frame("step", raw, info, began_s, ended=bool(terminated or truncated))

    def walk(self, actions: Sequence[Float32[Array, "action"]]) -> list[Frame]:
        """Return the observations after these actions, until the episode ends."""
        frames: list[Frame] = []
        for action in actions:
            frames.append(self.step(action))
            if frames[-1].ended:
                break
        return frames

    def _frame(
        self, call: str, raw: Any, info: Any, began_s: float, *, ended: bool = False
    ) -> Frame:
        now_s = time.monotonic()
        self._check_buffers(call)
        self.findings.extend(check_value(self.env.observation_space, raw))
        self.findings.extend(check_info(info, call))
        observation = self._read(call, raw)
        self._kept = [(raw, deepcopy(raw))]
        return Frame(
            numbers=observation.state,
            digests={name: _digest(image) for name, image in observation.images.items()},
            info=cast(Mapping[str, Any], info) if isinstance(info, Mapping) else {},
            took_s=now_s - began_s,
            at_s=now_s,
            ended=ended,
        )

    def _check_buffers(self, call: str) -> None:
        """Note observations that the env has changed after it had returned them."""
        for raw, copy in self._kept:
            for name, before, after in _pairs(copy, raw):
                if not np.array_equal(before, after, equal_nan=before.dtype.kind == "f"):
                    self.findings.append(
                        error(
                            "buffer",
                            f"{name} must stay as it was returned, got other values after the "
                            f"next {call}",
                            "the env fills one array again and again; return array.copy()",
                        )
                    )

    def _read(self, call: str, raw: Any) -> Observation:
        try:
            return self._spaces.reader.read(raw)
        except (KeyError, TypeError, ValueError, IndexError) as exception:
            found = self.findings or [_raised(call, exception)]
            raise BrokenEnvError(found[-1]) from exception


def actions_of(
    space: Any, start: Frame, steps: int, amplitude: float
) -> tuple[list[Float32[Array, "action"]], list[Float32[Array, "action"]]]:
    """Return a walk that rests and moves, `REST_STEPS` steps each in turn, and one that rests.

    An action that has an entry for each of the first numbers observed, all within its limits, is
    taken for targets of joints, and rests at where they are. Other actions rest at zero.

    Args:
        space: of actions.
        start: first observation of the episode.
        steps: of the walk.
        amplitude: of the motion, a fraction of half the room of an action.
    """
    low, high = np.array(space.low, float).ravel(), np.array(space.high, float).ravel()
    rest = np.zeros(len(low))
    if np.isfinite(low).all() and np.isfinite(high).all():
        rest = np.clip(_joints(start, low, high), low, high)
    else:
        low, high = np.full(len(low), -1.0), np.full(len(low), 1.0)
    toward_centre = np.where(rest <= (low + high) / 2, 1, -1)
    move = rest + amplitude * (high - low) / 2 * toward_centre
    walk = [move if step // REST_STEPS % 2 else rest for step in range(steps)]
    return [one.astype(np.float32) for one in walk], [rest.astype(np.float32)] * steps


def _joints(
    start: Frame, low: Float64[Array, "action"], high: Float64[Array, "action"]
) -> Float64[Array, "action"]:
    """Return where joints are that an action names targets of; zeros where it names none."""
    joints = start.numbers[: len(low)].astype(np.float64)
    if len(joints) != len(low):
        return np.zeros(len(low))
    slack = 0.05 * (high - low)
    inside = (joints >= low - slack) & (joints <= high + slack)
    return joints if inside.all() else np.zeros(len(low))


def _check_flags(reward: Any, terminated: Any, truncated: Any) -> Iterator[Finding]:
    for name, flag in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(flag, bool | np.bool_):
            yield warning(
                "flags", f"{name} must be a bool, got {flag!r:.40}", "a number or an array of one"
            )
    if np.shape(reward) or not isinstance(reward, SupportsFloat) or not math.isfinite(reward):
        yield warning(
            "reward",
            f"a reward must be a finite number, got {reward!r:.40}",
            "it has none: return 0.0; nearer does not read it",
        )


def _raised(call: str, exception: Exception) -> Finding:
    cause = {
        "reset": "what it needs is not connected, or it takes other arguments than seed and "
        "options: reset(self, *, seed=None, options=None)",
        "step": "it expects actions of another type or shape than a float32 array of "
        "action_space.shape",
    }[call]
    return error(
        call, f"{call} must not raise, got {type(exception).__name__}: {exception!s:.200}", cause
    )


def _other_values(call: str, wanted: str, returned: Any) -> Finding:
    count = len(cast(Any, returned)) if isinstance(returned, tuple) else 1
    return error(
        call,
        f"{call} must return {wanted}, got {count} value{'s' if count != 1 else ''}",
        "the interface of gym before 0.26; return info too, and done as terminated and truncated",
    )


def _pairs(copy: Any, raw: Any, name: str = "observation") -> Iterator[tuple[str, Array, Array]]:
    """Yield the arrays of an observation beside those of its copy."""
    if isinstance(copy, Mapping):
        for key, value in cast(Mapping[str, Any], copy).items():
            yield from _pairs(value, raw[key], key if name == "observation" else f"{name}/{key}")
    elif isinstance(copy, np.ndarray):
        yield name, copy, raw


def _digest(image: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
