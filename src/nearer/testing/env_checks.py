"""What frames of several episodes say about an env: repeatability, cameras, delays and rates."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np

from nearer.testing.env_probe import REST_STEPS, Frame
from nearer.testing.env_report import Finding, error, note, warning

_REPEATED_IMAGES = 0.2  # fraction of frames of a camera that is slower than the control rate
_FEWEST_PAIRS = 5
_MOTION = 1e-3  # of a joint in a step, in whatever unit: less may not show in an image
_RATE_ERROR = 0.1
_AUTORESET_KEYS = ("final_observation", "final_obs", "final_info", "_final_observation")


def check_same_start(first: Frame, again: Frame, real_robot: bool) -> Iterator[Finding]:
    """Yield a finding where the same seed gives two starts; of a real robot, a note."""
    if first.is_same_as(again):
        return
    numbers = np.array_equal(first.numbers, again.numbers)
    what = "images" if numbers else "numbers"
    if real_robot:
        yield note("same seed", "starts of a real robot need not repeat, and these do not")
        return
    cause = (
        "the first frame is rendered before the scene has settled, or noise is added that the seed "
        "does not draw"
        if numbers
        else "randomness that reset(seed=...) does not seed; call super().reset(seed=seed) and "
        "draw from self.np_random"
    )
    yield error("same seed", f"the same seed must give the same start, got other {what}", cause)


def check_same_episode(first: Sequence[Frame], again: Sequence[Frame]) -> Iterator[Finding]:
    """Yield an error where the same seed and actions give two episodes."""
    for step, (one, other) in enumerate(zip(first, again, strict=False)):
        if not one.is_same_as(other):
            yield error(
                "same episode",
                f"the same seed and actions must give the same episode, got another one from step "
                f"{step + 1} on",
                "state that reset does not set back, or randomness that the seed does not draw",
            )
            return


def check_starts_differ(starts: Sequence[Frame]) -> Iterator[Finding]:
    """Yield a warning where every seed gives the same start."""
    if all(start.is_same_as(starts[0]) for start in starts[1:]):
        yield warning(
            "seeds",
            f"other seeds must give other starts, got the same one for {len(starts)} seeds",
            "reset draws nothing, or draws from a generator that is seeded once",
        )


def check_start_is_new(start: Frame, last: Frame) -> Iterator[Finding]:
    """Yield an error where a start shows the last image of the episode before."""
    for camera, digest in start.digests.items():
        if digest == last.digests.get(camera) and not np.array_equal(start.numbers, last.numbers):
            yield error(
                "first image",
                f"camera {camera} must show the scene after a reset, got the last image of the "
                "episode before, bit by bit",
                "the frame was read before the reset, or the camera's buffer was not emptied",
            )


def check_cameras(frames: Sequence[Frame]) -> Iterator[Finding]:
    """Yield what is wrong with cameras while the robot moves."""
    pairs = [(one, other) for one, other in pairwise(frames) if _moved(one, other)]
    for camera in frames[0].digests:
        repeated = sum(one.digests[camera] == other.digests[camera] for one, other in pairs)
        if len(pairs) >= _FEWEST_PAIRS and repeated == len(pairs):
            yield error(
                "frozen image",
                f"camera {camera} must show what moves, got the same image in {repeated} steps, "
                "bit by bit",
                "its thread has died or is never started, or one frame is returned again and again",
            )
        elif repeated > _REPEATED_IMAGES * len(pairs):
            yield warning(
                "frozen image",
                f"camera {camera} must show a new image each step, got the one before in "
                f"{repeated} of {len(pairs)} steps",
                "the camera is slower than the control rate; lower the rate, or raise its fps",
            )


def _moved(one: Frame, other: Frame) -> bool:
    """Tell whether a robot moved between two observations; of one without numbers, it did."""
    return not len(one.numbers) or bool((np.abs(one.numbers - other.numbers) > _MOTION).any())


def visible_after(moving: Sequence[Frame], resting: Sequence[Frame] | None) -> int | None:
    """Return in which observation after a new action the action shows first; None: in none.

    Args:
        moving: a start, then `REST_STEPS` steps of rest, then the new action.
        resting: the same start and rest all the time; None: it cannot be repeated, and what moves
            more than during the rest counts.
    """
    if resting is not None:
        pairs = zip(moving[REST_STEPS + 1 :], resting[REST_STEPS + 1 :], strict=False)
        different = [step for step, (one, other) in enumerate(pairs) if not one.is_same_as(other)]
        return different[0] + 1 if different else None
    numbers = np.stack([frame.numbers for frame in moving]).astype(np.float64)
    if len(numbers) <= REST_STEPS + 1 or not numbers.shape[1]:
        return None
    rest = numbers[1 : REST_STEPS + 1]
    noise = 3 * np.ptp(rest, axis=0) + 1e-4 * (1 + np.abs(rest[-1]))
    away = np.abs(numbers[REST_STEPS + 1 :] - rest[-1]) > noise
    steps = np.flatnonzero(away.any(axis=1))
    return int(steps[0]) + 1 if len(steps) else None


def check_visible(visible: int | None, most: int, observes_numbers: bool) -> Iterator[Finding]:
    """Yield an error where an action does not show, and a warning where it shows late."""
    if visible is None and not observes_numbers:
        yield note("action", "only images are observed, so whether an action shows was not tried")
    elif visible is None:
        yield error(
            "action",
            "an action must show in the observations after it, got none that moves with it",
            "actions are not sent, motors are off, or observations are read off a buffer that "
            "nothing fills",
        )
    elif visible > most:
        yield warning(
            "action",
            f"an action must show within {most} steps, got {visible}",
            "the observation is read before the control period has passed, or the robot answers "
            "slowly; a lower rate makes credit assignment easier",
        )


def check_rate(
    measured_hz: float | None, control_hz: float | None, real_robot: bool
) -> Iterator[Finding]:
    """Yield what is wrong with the control rate."""
    if control_hz is None:
        yield warning(
            "rate",
            "an env must state its control rate, in control_hz or metadata['render_fps'], got none",
            "it was forgotten; steps-to-go counts control steps, so pass --fps HZ until then",
        )
    if measured_hz is None or control_hz is None or not real_robot:
        return
    if measured_hz < control_hz * (1 - _RATE_ERROR):
        yield error(
            "rate",
            f"steps must come at {control_hz:g} Hz, got {measured_hz:.1f} Hz",
            "reading cameras or motors takes longer than a period; read them in threads, or state "
            "a lower rate",
        )
    elif measured_hz > control_hz * (1 + _RATE_ERROR):
        yield error(
            "rate",
            f"steps must come at {control_hz:g} Hz, got {measured_hz:.1f} Hz",
            "step does not wait for the end of its period; nearer.core.control_clock.ControlClock "
            "does",
        )


def measured_rate(walks: Sequence[Sequence[Frame]]) -> float | None:
    """Return how many steps came in a second, at the median; None: there were too few."""
    gaps = [later.at_s - earlier.at_s for frames in walks for earlier, later in pairwise(frames)]
    return 1 / max(float(np.median(gaps)), 1e-9) if gaps else None


def check_autoreset(env: Any, ends: Sequence[Frame]) -> Iterator[Finding]:
    """Yield an error where an env resets itself at the end of an episode."""
    names = [type(layer).__name__ for layer in _layers(env)]
    keys = [key for frame in ends for key in _AUTORESET_KEYS if key in frame.info]
    if "Autoreset" in names or "AutoResetWrapper" in names or keys:
        yield error(
            "autoreset",
            "an env must leave resets to whoever steps it, got one that resets itself",
            "a wrapper such as gymnasium.wrappers.Autoreset; leave it out",
        )


def check_after_end(last: Frame, after: Frame, starts: Sequence[Frame]) -> Iterator[Finding]:
    """Yield an error where the step after an end is a start."""
    jumped = any(after.is_same_as(start) for start in starts) and not after.is_same_as(last)
    if jumped and not after.ended:
        yield error(
            "autoreset",
            "a step after the end of an episode must not start another one, got a start",
            "the env resets itself in step",
        )


def check_success(frames: Sequence[Frame]) -> Iterator[Finding]:
    """Yield a note where success is not reported."""
    if not reports_success(frames):
        yield note(
            "success",
            "no is_success in the info of steps: practise with --audits person, and let people "
            "judge how well the policy does",
        )


def reports_success(frames: Sequence[Frame]) -> bool:
    """Tell whether every step says whether the instruction is done."""
    return bool(frames) and all(
        "is_success" in frame.info or "success" in frame.info for frame in frames
    )


def _layers(env: Any) -> Iterator[Any]:
    while env is not None:
        yield env
        inner = cast(Mapping[str, Any], vars(env)).get("env")
        env = inner if inner is not env else None
