"""How an env is made and read: the settings that collect, improve and eval share."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from nearer.core.errors import ConfigError
from nearer.core.instructions import check_instruction
from nearer.core.renames import parse_renames
from nearer.core.settings import check_settings

NUMBER_KEYS = ("agent_pos", "environment_state")
"""lerobot's names of the numbers that an env observes."""
IMAGE_KEY = "pixels"
"""lerobot's name of an env's image, or of its dict camera -> image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSettings:
    """How an env is made and read.

    Attributes:
        env_kwargs: settings of the env: KEY=VALUE ..., or one JSON object.
        instruction: for an env that has none; none: the data's only one.
        rename: SOURCE=TARGET ...: keys as agent_pos, pixels/CAMERA.
        fps: control rate of an env that does not state one, Hz.
    """

    env_kwargs: tuple[str, ...] = ()
    instruction: str | None = None
    rename: tuple[str, ...] = ()
    fps: int | None = None

    def __post_init__(self) -> None:
        if self.fps is not None:
            check_settings(self, fps="[1, inf)")
        if self.instruction is not None:
            check_instruction(self.instruction)
        _kwargs(self.env_kwargs)
        _renamed(self.rename)

    @property
    def kwargs(self) -> dict[str, Any]:
        """Return what the env is made with."""
        return _kwargs(self.env_kwargs)

    @property
    def renamed(self) -> Mapping[str, str]:
        """Return source -> target of the observation keys, in the order they were given."""
        return _renamed(self.rename)


def _kwargs(given: tuple[str, ...]) -> dict[str, Any]:
    """Return keyword arguments; a value is JSON where it can be, else text.

    Raises:
        ConfigError: neither pairs nor one JSON object, or a key given twice.
    """
    if len(given) == 1 and given[0].lstrip().startswith("{"):
        return _json_object(given[0])
    kwargs: dict[str, Any] = {}
    for pair in given:
        key, equals, text = pair.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(
                f"--env-kwargs must be KEY=VALUE or one JSON object, got {pair!r}; write for "
                "example obs_type=pixels_agent_pos"
            )
        if key in kwargs:
            raise ConfigError(f"--env-kwargs must name {key} once, got it twice; leave one out")
        kwargs[key] = _value(text)
    return kwargs


def _json_object(text: str) -> dict[str, Any]:
    try:
        kwargs = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"--env-kwargs must be KEY=VALUE or one JSON object, got {text!r}: {error}; mend it"
        ) from error
    return cast(dict[str, Any], kwargs)


def _value(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _renamed(given: tuple[str, ...]) -> Mapping[str, str]:
    """Return source -> target.

    Raises:
        ConfigError: not pairs, a source given twice, or a target that is none of lerobot's keys.
    """
    renamed = parse_renames(given, joined=True)
    for source, target in renamed.items():
        camera = target.removeprefix(f"{IMAGE_KEY}/")
        known = target in (*NUMBER_KEYS, IMAGE_KEY) or (camera != target and "/" not in camera)
        if not known or not camera:
            raise ConfigError(
                "--rename must name agent_pos, environment_state, pixels or pixels/CAMERA, got "
                f"{target} for {source}; write for example state=agent_pos"
            )
    return renamed


def shown(settings: Mapping[str, Any]) -> str:
    """Return keyword arguments as `--env-kwargs` takes them."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


AS_IT_IS = EnvSettings()
"""An env as its package registers it."""
