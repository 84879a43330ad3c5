"""Where clients keep what a checkpoint reads, and how their images lie.

A client of nearer uses the names of `request.py`. Other clients' keys are given those names by
`nearer serve --rename KEY=NAME`, and those of openpi's robots by `--client` (`client_profiles.py`).
Several keys of one name are joined in the order in which they were given.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Num

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError, MessageError
from nearer.core.spaces import Camera
from nearer.datasets.lerobot.camera_names import IMAGES
from nearer.datasets.lerobot.feature import AGENT_POS, ENVIRONMENT_STATE
from nearer.serving.client_profiles import PROFILES
from nearer.serving.message_values import as_array, described, names_in, value_at

PROMPT, RESET, ACT = "prompt", "reset", "act"
_NUMBERS = {"agent_pos": AGENT_POS, "environment_state": ENVIRONMENT_STATE}
"""What Gymnasium's envs call the numbers of an observation, and what data sets do."""
_COLOURS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientFormat:
    """What must be known of a server's clients to read their messages.

    Attributes:
        keys: of a name of `request.py`, the client's keys; names that are missing are the keys.
        channels_first: images are 3 x h x w; those of h x w x 3 are taken as well.
        filters: by camera, the filter that resizes its images; without one, images must fit.
        instruction: of robots that send none; None: they must.
    """

    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    channels_first: bool = False
    filters: Mapping[str, str] = field(default_factory=dict[str, str])
    instruction: str | None = None

    def translated(self, message: Mapping[str, object]) -> Mapping[str, object]:
        """Return a message with the names of `request.py` beside the client's keys.

        Raises:
            MessageError: a key is missing, or has no numbers that could be joined.
        """
        values = {name: self._value(message, name) for name in self.keys}
        return {**message, **{name: value for name, value in values.items() if value is not None}}

    def _value(self, message: Mapping[str, object], name: str) -> object:
        values = {key: value_at(message, key) for key in self.keys[name]}
        if name in _NUMBERS.values():
            return np.concatenate([_numbers(message, *item, name) for item in values.items()])
        ((key, value),) = values.items()
        if not name.startswith(IMAGES):
            return value
        if value is None:
            raise _missing(message, key, name)
        image = as_array(value)
        if self.channels_first and image is not None and is_channels_first(image):
            return image.transpose(1, 2, 0)
        return value


OWN_FORMAT = ClientFormat()
"""Of clients that use the names of `request.py`."""


def is_channels_first(image: Array) -> bool:
    """Tell whether an image is 3 x h x w."""
    return image.ndim == 3 and image.shape[0] == _COLOURS and image.shape[2] != _COLOURS


def _numbers(
    message: Mapping[str, object], key: str, value: object, name: str
) -> Num[Array, "numbers"]:
    if value is None:
        raise _missing(message, key, name)
    array = np.asarray(value) if type(value) in (int, float) else as_array(value)
    if array is None or array.ndim > 1 or array.dtype.kind not in "iuf":
        raise MessageError(
            f"{key} must be numbers, which are part of {name}, got {described(value)}; send a "
            "number or a row of them"
        )
    return np.atleast_1d(array)


def _missing(message: Mapping[str, object], key: str, name: str) -> MessageError:
    return MessageError(
        f"an observation must have {key}, which is read as {name}, got {names_in(message)}; send "
        "it, or start nearer serve with another --rename or --client"
    )


def keys_by_name(
    client: str | None, renames: Sequence[tuple[str, str]], cameras: Sequence[Camera]
) -> Mapping[str, tuple[str, ...]]:
    """Return the client's keys of what the checkpoint reads, by the names of `request.py`.

    Args:
        client: of `PROFILES`; None: a client that uses our names.
        renames: key and name; they replace all of the client's keys of that name.
        cameras: of the checkpoint.

    Raises:
        ConfigError: a name is none of the checkpoint's, or a camera has no key or several.
    """
    images = {camera.name: IMAGES + camera.name for camera in cameras}
    others = {**_NUMBERS, PROMPT: PROMPT, RESET: RESET, ACT: ACT}
    keys = _renamed(renames, {**images, **others})
    if client:
        own = PROFILES[client].keys
        keys = {**own, **keys}
        for camera, name in images.items():
            if name not in keys:
                sent = {key for each in own if each.startswith(IMAGES) for key in own[each]}
                raise ConfigError(
                    f"--client {client} must send the images of every camera of the checkpoint, "
                    f"got none for {camera}: it sends {', '.join(sorted(sent))}; add --rename "
                    f"KEY={camera} with the one that shows the same"
                )
    read = {*images.values(), *others.values()}
    return {name: own for name, own in keys.items() if name in read}


def _renamed(
    renames: Sequence[tuple[str, str]], names: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return the keys of every name that --rename mentions.

    Args:
        renames: key and name, short or as in `request.py`.
        names: those of `request.py`, by their short ones.
    """
    renamed: dict[str, tuple[str, ...]] = {}
    for key, short in renames:
        name = names.get(short, short)
        if name not in names.values():
            raise ConfigError(
                f"--rename must name what the checkpoint reads, one of {', '.join(names)}, got "
                f"{key}={short}; write --rename KEY=NAME, the client's key first"
            )
        joined = (*renamed.get(name, ()), key)
        if len(joined) > 1 and (name not in _NUMBERS.values() or len(set(joined)) < len(joined)):
            raise ConfigError(
                f"--rename must give {short} one key (agent_pos and environment_state may have "
                f"several different ones, which are joined), got {' and '.join(joined)}; leave "
                "one out"
            )
        renamed[name] = joined
    return renamed
