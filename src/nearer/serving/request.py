"""A robot's message as a request whose observation fits the checkpoint, or a sentence why not.

The keys that are read, in either spelling:

    observation.state               or observation/state               numbers
    observation.environment_state   or observation/environment_state   numbers
    observation.images.CAMERA       or observation/images/CAMERA       uint8, h x w x 3, RGB
    prompt                          the instruction
    reset                           true: a new episode starts here
    act                             false: no actions are wanted, between two chunks
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Float32, UInt8

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import MessageError
from nearer.core.instructions import MAX_CHARACTERS
from nearer.core.spaces import Camera, Spaces
from nearer.datasets.lerobot.camera_names import IMAGES, ONLY_CAMERA, ONLY_IMAGE
from nearer.datasets.lerobot.feature import AGENT_POS, ENVIRONMENT_STATE

PROMPT, RESET, ACT = "prompt", "reset", "act"
_SHOWN_NAMES, _SHOWN_CHARACTERS = 12, 60  # of a message, quoted in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class ActRequest:
    """An observation of a robot.

    Attributes:
        observation: one row.
        instruction: None: as before.
        reset: whether an episode starts with this observation.
        act: whether actions are wanted, beside steps-to-go.
    """

    observation: Observation
    instruction: str | None
    reset: bool
    act: bool


def read_request(
    message: Mapping[str, object], spaces: Spaces, cameras: tuple[Camera, ...]
) -> ActRequest:
    """Return the request of a message.

    Args:
        message: by name, as `msgpack_codec.unpack` returns it.
        spaces: of the checkpoint.
        cameras: whose images the checkpoint reads.

    Raises:
        MessageError: something is missing, or has another size or kind than the checkpoint's.
    """
    images = {camera.name: _image(message, camera)[None] for camera in cameras}
    return ActRequest(
        observation=Observation(
            agent_pos=_numbers(message, AGENT_POS, spaces.agent_pos)[None],
            environment_state=_numbers(message, ENVIRONMENT_STATE, spaces.environment_state)[None],
            images=images,
        ),
        instruction=_prompt(message),
        reset=_flag(message, RESET, default=False),
        act=_flag(message, ACT, default=True),
    )


def _numbers(message: Mapping[str, object], name: str, width: int) -> Float32[Array, "numbers"]:
    value = _value(message, name)
    if value is None and not width:
        return np.zeros(0, dtype=np.float32)
    if value is None:
        raise MessageError(
            f"an observation must have {name} (or {_slashed(name)}), {width} numbers, got "
            f"{_names(message)}; send it under one of these names"
        )
    values = _array(value)
    if values is None or values.shape != (width,) or values.dtype.kind not in "iuf":
        raise MessageError(
            f"{name} must be {width} numbers, as the checkpoint was trained with, got "
            f"{_described(value)}; send what the demonstrations had"
        )
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        number = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise MessageError(
            f"{name} must be finite, got {values[number]} as number {number}; check the sensor"
        )
    return numbers


def _array(value: object) -> Array | None:
    """Return an array, or a list of numbers as one; None for anything else."""
    if isinstance(value, np.ndarray):
        return cast(Array, value)
    items = cast(list[object], value) if isinstance(value, list) else None
    if items is not None and all(type(item) in (int, float) for item in items):
        return np.array([float(cast(float, item)) for item in items])
    return None


def _image(message: Mapping[str, object], camera: Camera) -> UInt8[Array, "h w 3"]:
    name = IMAGES + camera.name
    value = _value(message, name)
    if value is None and camera.name == ONLY_CAMERA:
        value = _value(message, ONLY_IMAGE)
    if value is None:
        raise MessageError(
            f"an observation must have the image {name} (or {_slashed(name)}), got "
            f"{_names(message)}; send it under one of these names"
        )
    image = _array(value)
    size = (camera.height, camera.width, 3)
    if image is None or image.dtype != np.uint8 or image.shape != size:
        raise MessageError(
            f"{name} must be uint8 RGB of {camera.height} x {camera.width} x 3, as the checkpoint "
            f"was trained with, got {_described(value)}; resize and convert it on the robot's side"
        )
    return image.copy()  # torch wants memory that can be written to


def _prompt(message: Mapping[str, object]) -> str | None:
    value = message.get(PROMPT)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_CHARACTERS):
        raise MessageError(
            f"{PROMPT} must be the instruction, text of up to {MAX_CHARACTERS} characters, got "
            f"{_described(value)}; send one sentence"
        )
    return value


def _flag(message: Mapping[str, object], name: str, *, default: bool) -> bool:
    value = message.get(name, default)
    if not isinstance(value, bool):
        raise MessageError(
            f"{name} must be true or false, got {_described(value)}; or leave it out"
        )
    return value


def _value(message: Mapping[str, object], name: str) -> object:
    return message.get(name, message.get(_slashed(name)))


def _slashed(name: str) -> str:
    """Return a name with openpi's separator."""
    return name.replace(".", "/", 2 if name.startswith(IMAGES) else 1)


def _names(message: Mapping[str, object]) -> str:
    shown = [name[:_SHOWN_CHARACTERS] for name in list(message)[:_SHOWN_NAMES]]
    more = len(message) - len(shown)
    return f"{shown} and {more} more" if more else f"{shown}"


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        array = cast(Array, value)
        return f"{array.dtype.name} of shape {array.shape}"
    if isinstance(value, str):
        return f"{len(value)} characters"
    if isinstance(value, list | dict):
        return f"a {type(cast(object, value)).__name__} of {len(cast(list[object], value))}"
    return f"{type(value).__name__} {str(value)[:_SHOWN_CHARACTERS]}"
