"""Is what an env returns what its spaces say?"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Dict

from nearer.core.arrays import Array
from nearer.testing.env_report import Finding, error, note, warning

_IMAGE_AXES = 3
_DEGREES = 180 / np.pi


def check_action_space(space: Any) -> Iterator[Finding]:
    """Yield what is wrong with a Box of actions."""
    low, high = cast(Array, space.low), cast(Array, space.high)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        yield warning(
            "action limits",
            f"action_space must have finite limits, got [{low.min()}, {high.max()}]",
            "nobody has set them: a policy that learns asks for anything, so write what the robot "
            "can do",
        )
    elif (low >= high).any():
        axis = int(np.argmax((low >= high).ravel()))
        yield error(
            "action limits",
            f"every axis of an action must have room, got {low.ravel()[axis]} to "
            f"{high.ravel()[axis]} for axis {axis}",
            "the limits of one joint are missing or mixed up",
        )


def check_value(space: Any, value: Any, name: str = "observation") -> Iterator[Finding]:
    """Yield what is wrong with an observation, or a part of one.

    Args:
        space: what the env says that it observes.
        value: what it returned.
        name: of the part, with slashes.
    """
    if isinstance(space, Dict):
        yield from _check_dict(cast(Space[Any], space), value, name)
    elif isinstance(space, Box):
        yield from _check_array(cast(Any, space), value, name)
    elif not space.contains(value):
        yield error(
            "observation",
            f"{name} must be in {space}, got {value!r:.80}",
            "the space was written for something else",
        )


def _check_dict(space: Space[Any], value: Any, name: str) -> Iterator[Finding]:
    spaces = cast(Mapping[str, Any], cast(Any, space).spaces)
    if not isinstance(value, Mapping):
        yield error(
            "observation",
            f"{name} must be a dict with {', '.join(spaces)}, got {type(value).__name__}",
            "reset and step return different things, or a wrapper flattens one of them",
        )
        return
    parts = cast(Mapping[str, Any], value)
    prefix = "" if name == "observation" else f"{name}/"
    for key, part in spaces.items():
        if key in parts:
            yield from check_value(part, parts[key], f"{prefix}{key}")
        else:
            yield error(
                "observation",
                f"{prefix}{key} must be observed, as observation_space says, got "
                f"{', '.join(parts) or 'nothing'}",
                "it has another name there, or is left out when a sensor has nothing new",
            )
    for key in parts.keys() - spaces.keys():
        yield warning(
            "observation",
            f"observation_space must name what is observed, got {prefix}{key} besides",
            "it was added to the observation alone; nobody reads it",
        )


def _check_array(space: Box, value: Any, name: str) -> Iterator[Finding]:
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        yield error(
            "dtype",
            f"{name} must be an array of {space.dtype}, got {value!r:.60}",
            "a sensor gave None or text, or lists of different lengths",
        )
        return
    if array.shape != space.shape:
        yield error(
            "shape",
            f"{name} must have shape {space.shape}, got {array.shape}",
            _cause_of_shape(space.shape, array.shape),
        )
        return
    yield from _check_dtype(space, array, name)
    yield from _check_range(space, array, name)


def _cause_of_shape(wanted: tuple[int, ...], got: tuple[int, ...]) -> str:
    if len(wanted) == len(got) == _IMAGE_AXES:
        height, width, channels = wanted
        if got == (channels, height, width):
            return "channels come first; np.moveaxis(image, 0, -1) moves them last"
        if got == (width, height, channels):
            return "width and height are swapped: OpenCV's size is (width, height)"
        return "the camera runs at another resolution than the space was written for"
    if got == (1, *wanted):
        return "a batch axis in front; return value[0]"
    return "another number of joints or sensors than the space was written for"


def _check_dtype(space: Box, array: Array, name: str) -> Iterator[Finding]:
    if array.dtype == space.dtype:
        return
    sentence = f"{name} must be {space.dtype}, got {array.dtype}"
    if space.dtype == np.uint8:
        yield error(
            "dtype", sentence, "an image that was scaled to 0..1; return the camera's own bytes"
        )
    elif array.dtype.kind == "f":
        yield warning(
            "dtype", sentence, "Python's floats are float64; np.asarray(values, np.float32)"
        )
    else:
        yield warning("dtype", sentence, "the sensor counts; np.asarray(values, np.float32)")


def _check_range(space: Box, array: Array, name: str) -> Iterator[Finding]:
    if space.dtype == np.uint8 and array.ndim == _IMAGE_AXES:
        if array.max() == 1 and array.min() == 0:
            yield error(
                "range",
                f"{name} must be an image in 0..255, got values 0 and 1",
                "an image in 0..1 that was cast to uint8; multiply it by 255 first",
            )
        return
    if not np.isfinite(array).all():
        yield error(
            "finite",
            f"{name} must be finite, got {array[~np.isfinite(array)][0]}",
            "a sensor that did not answer, or a division by zero in the simulator",
        )
        return
    low, high = cast(Array, space.low), cast(Array, space.high)
    slack = 1e-6 * (1 + np.abs(array))
    outside = (array < low - slack) | (array > high + slack)
    if not outside.any():
        return
    worst = float(np.abs(array[outside]).max())
    limit = float(max(np.abs(low[outside]).max(), np.abs(high[outside]).max()))
    degrees = limit * 2 < worst <= limit * _DEGREES * 2
    cause = (
        "degrees where the space says radians"
        if degrees
        else "limits of the space that are guesses; nearer does not clip by them"
    )
    yield warning("range", f"{name} must lie within observation_space, got {worst:.4g}", cause)


def check_image(name: str, image: Array) -> Iterator[Finding]:
    """Yield what is wrong with the first image of an episode."""
    if image.size and (image == image.flat[0]).all():
        yield error(
            "first image",
            f"camera {name} must show the scene after a reset, got {image.flat[0]} everywhere",
            "the first frame is read before the camera or the renderer has drawn one; wait for a "
            "frame, or render twice and keep the second",
        )


def check_info(info: Any, call: str) -> Iterator[Finding]:
    """Yield what is wrong with what an env reports beside an observation."""
    if not isinstance(info, Mapping):
        yield error(
            "info", f"{call} must return a dict as info, got {info!r:.40}", "it forgot to return {}"
        )
        return
    reported = cast(Mapping[str, Any], info)
    for key in ("is_success", "success"):
        value = reported.get(key, False)
        if np.shape(value) or value not in (0, 1):
            yield error(
                "success",
                f"{key} must be true or false, got {value!r:.40}",
                "a score or an array; say whether the instruction is done now",
            )
        elif value and call == "reset":
            yield warning(
                "success",
                f"an episode must start before its instruction is done, got {key} at reset",
                "success of the episode before, or a start that is done already",
            )
    drawn = reported.get("instruction", "-")
    if call == "reset" and not (isinstance(drawn, str) and drawn.strip()):
        yield error(
            "instruction",
            f"info['instruction'] must be a sentence, got {drawn!r:.40}",
            "bytes or an index; decode it, or leave the key out",
        )


def check_instruction(instruction: str | None) -> Iterator[Finding]:
    """Yield a note where nobody says what to do."""
    if not instruction:
        yield note(
            "instruction",
            "the env gives no instruction, in info['instruction'] at reset or an attribute task; "
            "pass --instruction",
        )
