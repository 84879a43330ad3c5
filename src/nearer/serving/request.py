"""A robot's message as a request whose observation fits the checkpoint, or a sentence why not.

The keys that are read, in either spelling:

    observation.state               or observation/state               numbers
    observation.environment_state   or observation/environment_state   numbers
    observation.images.CAMERA       or observation/images/CAMERA       uint8, h x w x 3, RGB
    prompt                          the instruction
    reset                           true: a new episode starts here
    act                             false: no actions are wanted, between two chunks

Other keys are given these names by `client_format.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import MessageError
from nearer.core.instructions import MAX_CHARACTERS
from nearer.core.spaces import Camera, Spaces
from nearer.datasets.lerobot.camera_names import IMAGES, ONLY_CAMERA, ONLY_IMAGE
from nearer.datasets.lerobot.feature import AGENT_POS, ENVIRONMENT_STATE
from nearer.serving.client_format import (
    ACT,
    OWN_FORMAT,
    PROMPT,
    RESET,
    ClientFormat,
    is_channels_first,
)
from nearer.serving.image_resizing import MAX_SIDE_PX, resized_image
from nearer.serving.message_values import as_array, described, names_in


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
    message: Mapping[str, object],
    spaces: Spaces,
    cameras: tuple[Camera, ...],
    client: ClientFormat = OWN_FORMAT,
) -> ActRequest:
    """Return the request of a message.

    Args:
        message: by name, as `msgpack_codec.unpack` returns it.
        spaces: of the checkpoint.
        cameras: whose images the checkpoint reads.
        client: how the message is to be read.

    Raises:
        MessageError: something is missing, or has another size or kind than the checkpoint's.
    """
    message = client.translated(message)
    images = {camera.name: _image(message, camera, client.filters)[None] for camera in cameras}
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
            f"{names_in(message)}; send it under one of these names, "
            "or start nearer serve with --rename or --client"
        )
    values = as_array(value)
    if values is None or values.shape != (width,) or values.dtype.kind not in "iuf":
        raise MessageError(
            f"{name} must be {width} numbers, as the checkpoint was trained with, got "
            f"{described(value)}; send what the demonstrations had"
        )
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        number = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise MessageError(
            f"{name} must be finite, got {values[number]} as number {number}; check the sensor"
        )
    return numbers


def _image(
    message: Mapping[str, object], camera: Camera, filters: Mapping[str, str]
) -> UInt8[Array, "h w 3"]:
    name = IMAGES + camera.name
    value = _value(message, name)
    if value is None and camera.name == ONLY_CAMERA:
        value = _value(message, ONLY_IMAGE)
    if value is None:
        raise MessageError(
            f"an observation must have the image {name} (or {_slashed(name)}), got "
            f"{names_in(message)}; send it under one of these names, or start nearer serve with "
            "--rename or --client"
        )
    image = as_array(value)
    if image is None:
        raise _wrong_image(camera, value, "send an array")
    if is_channels_first(image):
        raise _wrong_image(
            camera, value, "its channels come first: send image.transpose(1, 2, 0), or see --client"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise _wrong_image(camera, value, "convert it on the robot's side")
    if image.shape == (camera.height, camera.width, 3):
        return image.copy()  # torch wants memory that can be written to
    if camera.name not in filters:
        raise _wrong_image(
            camera, value, "resize it on the robot's side, or start nearer serve with --resize"
        )
    if max(image.shape) > MAX_SIDE_PX:
        raise _wrong_image(camera, value, f"sides that are resized have up to {MAX_SIDE_PX} pixels")
    return resized_image(image, camera, filters[camera.name])


def _wrong_image(camera: Camera, value: object, advice: str) -> MessageError:
    return MessageError(
        f"{IMAGES}{camera.name} must be uint8 RGB of {camera.height} x {camera.width} x 3, as the "
        f"checkpoint was trained with, got {described(value)}; {advice}"
    )


def _prompt(message: Mapping[str, object]) -> str | None:
    value = message.get(PROMPT)
    if value is not None and (not isinstance(value, str) or len(value) > MAX_CHARACTERS):
        raise MessageError(
            f"{PROMPT} must be the instruction, text of up to {MAX_CHARACTERS} characters, got "
            f"{described(value)}; send one sentence"
        )
    return value


def _flag(message: Mapping[str, object], name: str, *, default: bool) -> bool:
    value = message.get(name, default)
    if not isinstance(value, bool):
        raise MessageError(f"{name} must be true or false, got {described(value)}; or leave it out")
    return value


def _value(message: Mapping[str, object], name: str) -> object:
    return message.get(name, message.get(_slashed(name)))


def _slashed(name: str) -> str:
    """Return a name with openpi's separator."""
    return name.replace(".", "/", 2 if name.startswith(IMAGES) else 1)
