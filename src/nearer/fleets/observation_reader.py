"""What an env observes, whatever its space looks like, as lerobot's keys.

Numbers are flattened: matrices row by row, and the entries of nested dicts in the order of their
names. Of several renamed to one key, the order is that of `--rename`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiBinary

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import EnvError
from nearer.core.spaces import Camera
from nearer.fleets.env_settings import IMAGE_KEY, NUMBER_KEYS

Path = tuple[str, ...]
"""Keys of nested dicts, the outermost first; none for a space that is no dict."""
WHOLE = "observation"
"""What `--rename` calls an observation that is no dict."""
_COLOURS = 3
_IMAGE_AXES = 3


class _Part(NamedTuple):
    """One array of an observation, where it stands, and its space."""

    path: Path
    space: Any

    @property
    def name(self) -> str:
        return "/".join(self.path) or WHOLE

    def __str__(self) -> str:
        shape = getattr(self.space, "shape", None)
        dtype = getattr(self.space, "dtype", None)
        return f"{self.name} ({type(self.space).__name__}, shape {shape}, {dtype})"


class Unread(NamedTuple):
    """Something an env observes and nobody reads, and the key it could be read as, if any."""

    name: str
    target: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservationReader:
    """Turns what one env returns into an `Observation`.

    Attributes:
        numbers: lerobot's key -> where its numbers stand, in this order.
        widths: lerobot's key -> how many numbers there are.
        images: camera -> where its image stands.
        cameras: the same with their sizes.
        unread: what nobody asks for.
    """

    numbers: Mapping[str, tuple[Path, ...]]
    widths: Mapping[str, int]
    images: Mapping[str, Path]
    cameras: tuple[Camera, ...]
    unread: tuple[Unread, ...] = field(default=())

    def read(self, raw: Any, *, batch_axes: int = 0) -> Observation:
        """Return what an env observed.

        Args:
            raw: as `reset` or `step` returned it.
            batch_axes: 1 for a vectorised env.

        Raises:
            KeyError, TypeError: it is not of the env's space.
        """
        images = {camera: np.asarray(_at(raw, path)) for camera, path in self.images.items()}
        parts = {
            key: [_flat(_at(raw, path), batch_axes) for path in paths]
            for key, paths in self.numbers.items()
        }
        arrays = [*images.values(), *(array for part in parts.values() for array in part)]
        none = np.zeros((*arrays[0].shape[:batch_axes], 0), np.float32)
        agent_pos, environment_state = (
            np.concatenate(parts[key], axis=-1) if parts[key] else none for key in NUMBER_KEYS
        )
        return Observation(agent_pos=agent_pos, environment_state=environment_state, images=images)


def read_observation(raw: Mapping[str, Any]) -> Observation:
    """Return an observation that has lerobot's keys, of whatever sizes.

    Args:
        raw: `agent_pos`, `environment_state` and `pixels` (an image, or camera -> image), as far
            as there are any.
    """
    pixels = raw.get(IMAGE_KEY, {})
    named = cast(Mapping[str, Any], pixels if isinstance(pixels, Mapping) else {IMAGE_KEY: pixels})
    agent_pos, environment_state = (np.asarray(raw.get(key, ()), np.float32) for key in NUMBER_KEYS)
    return Observation(
        agent_pos=agent_pos,
        environment_state=environment_state,
        images={camera: np.asarray(image) for camera, image in named.items()},
    )


def observation_reader(
    space: Any, renamed: Mapping[str, str], advice: str = ""
) -> ObservationReader:
    """Return how to read observations of a space.

    A dict is read by lerobot's keys: `agent_pos`, `environment_state` and `pixels` (an image, or a
    dict of images). A space that is no dict is the image of camera `pixels` if it is one, and
    `agent_pos` otherwise.

    Args:
        space: of one env.
        renamed: source -> target of keys that are called otherwise; a source may be a whole dict.
        advice: how the env itself may be told to observe something else; ends a refusal.

    Raises:
        EnvError: nothing of it can be read, or something that should be is no number and no image.
    """
    parts = list(_parts(space))
    targets = [_target(part, renamed) for part in parts]
    _check_sources(parts, renamed)
    if not any(targets):
        names = ", ".join(map(str, parts)) or str(space)
        raise EnvError(
            "the env must observe agent_pos, environment_state or pixels, got "
            f"{names}; {advice}name yours with --rename KEY=agent_pos"
        )
    order = {source: row for row, source in enumerate(renamed)}
    chosen = sorted(
        ((part, target) for part, target in zip(parts, targets, strict=True) if target),
        key=lambda pair: min(
            (order[source] for source in _sources(pair[0], renamed)), default=len(order)
        ),
    )
    numbers: dict[str, list[Path]] = {key: [] for key in NUMBER_KEYS}
    widths: dict[str, int] = dict.fromkeys(NUMBER_KEYS, 0)
    images: dict[str, Path] = {}
    cameras: list[Camera] = []
    for part, target in chosen:
        if target in NUMBER_KEYS:
            _check_numbers(part, target, advice)
            numbers[target].append(part.path)
            widths[target] += math.prod(part.space.shape)
            continue
        camera = target.removeprefix(f"{IMAGE_KEY}/")
        _check_image(part)
        if camera in images:
            raise EnvError(
                f"the env must have one image for camera {camera}, got {'/'.join(images[camera])} "
                f"and {part.name}; rename one with --rename {part.name}=pixels/NAME"
            )
        images[camera] = part.path
        cameras.append(Camera(camera, *part.space.shape[:2]))
    return ObservationReader(
        numbers={key: tuple(paths) for key, paths in numbers.items()},
        widths=widths,
        images=images,
        cameras=tuple(sorted(cameras)),
        unread=tuple(
            Unread(part.name, _possible_target(part))
            for part, target in zip(parts, targets, strict=True)
            if target is None
        ),
    )


def _parts(space: Any, path: Path = ()) -> Iterator[_Part]:
    """Yield the arrays of a space, those of a dict in the order of their names."""
    if not isinstance(space, Dict):
        yield _Part(path, space)
        return
    for key, part in sorted(cast(Mapping[str, Any], space.spaces).items()):
        yield from _parts(part, (*path, str(key)))


def _sources(part: _Part, renamed: Mapping[str, str]) -> list[str]:
    """Return which sources name a part or a dict that holds it."""
    names = ["/".join(part.path[: end + 1]) for end in range(len(part.path))] or [WHOLE]
    return [name for name in names if name in renamed]


def _check_sources(parts: Sequence[_Part], renamed: Mapping[str, str]) -> None:
    found = {source for part in parts for source in _sources(part, renamed)}
    for source in renamed:
        if source not in found:
            raise EnvError(
                f"--rename must name what the env observes, got {source!r}; it observes "
                f"{', '.join(part.name for part in parts)}"
            )


def _target(part: _Part, renamed: Mapping[str, str]) -> str | None:
    """Return the key that a part is read as; None: nobody reads it."""
    sources = _sources(part, renamed)
    if sources:
        return renamed[sources[-1]]
    if not part.path:
        return IMAGE_KEY if _looks_like_image(part.space) else "agent_pos"
    if part.path[0] in NUMBER_KEYS:
        return part.path[0]
    if part.path[0] == IMAGE_KEY:
        return "/".join((IMAGE_KEY, "_".join(part.path[1:]))) if part.path[1:] else IMAGE_KEY
    return None


def _possible_target(part: _Part) -> str | None:
    """Return the key that a part could be renamed to; None: it is neither numbers nor an image."""
    if not isinstance(part.space, Box | MultiBinary):
        return None
    axes, of_bytes = len(part.space.shape), part.space.dtype == np.uint8
    may_be_image = axes == _IMAGE_AXES or (axes > 1 and of_bytes)
    return f"{IMAGE_KEY}/{part.path[-1]}" if may_be_image else "agent_pos"


def _looks_like_image(space: Any) -> bool:
    return isinstance(space, Box) and len(space.shape) == _IMAGE_AXES and space.dtype == np.uint8


def _check_numbers(part: _Part, target: str, advice: str) -> None:
    """Raise EnvError unless a part is an array of numbers."""
    if _looks_like_image(part.space):
        raise EnvError(
            f"{target} must be numbers, got the image {part}; "
            f"{advice}name it with --rename {part.name}=pixels"
        )
    if isinstance(part.space, Box | MultiBinary) and math.prod(part.space.shape) > 0:
        return
    category = isinstance(part.space, gymnasium.spaces.Discrete | gymnasium.spaces.MultiDiscrete)
    why = (
        "whose values are categories, not quantities; write them as zeros and ones in a "
        "gymnasium.ObservationWrapper"
        if category
        else f"which is none; {advice}turn it into one in a gymnasium.ObservationWrapper"
    )
    raise EnvError(f"{target} must be a Box of numbers, got {part}, {why}")


def _check_image(part: _Part) -> None:
    """Raise EnvError unless a part is an image of uint8 (height, width, 3)."""
    shape = cast(tuple[int, ...], getattr(part.space, "shape", None) or ())
    if part.space.dtype == np.uint8 and len(shape) == _IMAGE_AXES and shape[2] == _COLOURS:
        return
    channels_first = len(shape) == _IMAGE_AXES and shape[0] in (1, _COLOURS, 4)
    if channels_first and shape[2] not in (1, _COLOURS, 4):
        why = "whose channels come first; move them last in a gymnasium.ObservationWrapper"
    elif part.space.dtype != np.uint8:
        why = "which is not uint8; scale it to 0..255 in a gymnasium.ObservationWrapper"
    else:
        why = "which is not red, green and blue; convert it in a gymnasium.ObservationWrapper"
    raise EnvError(
        f"camera {part.name} must be an image of uint8 (height, width, 3), got {part}, {why}"
    )


def _at(raw: Any, path: Path) -> Any:
    for key in path:
        raw = raw[key]
    return raw


def _flat(values: Any, batch_axes: int) -> Array:
    with np.errstate(over="ignore"):  # infinity, which `checked` refuses
        array = np.asarray(values, np.float32)
    return array.reshape(*array.shape[:batch_axes], -1)
