"""A config as run.json keeps it, and the config of a run that is continued."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import SFTConfig
from nearer.core.errors import ConfigError

Config = TypeVar("Config", SFTConfig, ImproveConfig)
_MAY_CHANGE = ("out", "resume", "training.processes")
"""What a run that is continued need not have been started with."""


def to_json(config: Any) -> dict[str, Any]:
    """Return a config as JSON values; `from_json` is its inverse."""
    return _plain(asdict(config))


def from_json(kind: type[Config], document: Any) -> Config:
    """Return the config that `to_json` wrote.

    Raises:
        ConfigError: a setting is missing or unknown: another version of nearer wrote it.
    """
    try:
        return _rebuild(kind, document)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"the run's config must be one this version of nearer wrote, got {error}; "
            "continue the run with the version that run.json names"
        ) from error


def resumed(given: Config, saved: Config) -> Config:
    """Return the settings of a run that is continued: the saved ones.

    Raises:
        ConfigError: a flag asks for something else than the run was started with.
    """
    default = type(given)(out=given.out)
    _check_same(given, saved, default)
    same = as_resumed(saved, given.out)
    if isinstance(same, SFTConfig) and isinstance(given, SFTConfig):
        now = given.training.processes
        same = replace(same, training=replace(same.training, processes=now))
    return same


def as_resumed(saved: Config, out: Path) -> Config:
    """Return the settings of a run with which `--resume` continues it."""
    return replace(saved, out=out, resume=True)


def check_same(given: Config, saved: Config) -> None:
    """Raise ConfigError unless both mean the same run."""
    _check_same(given, saved, saved)


def _check_same(given: Config, saved: Config, default: Config) -> None:
    wanted, kept, unset = (_flat_json(to_json(config)) for config in (given, saved, default))
    for name, value in wanted.items():
        if name not in _MAY_CHANGE and value not in (unset[name], kept[name]):
            raise ConfigError(
                f"--resume must continue {given.out} as it was started, with {name} = "
                f"{kept[name]}, got {value}; leave the flag out, or start a new run with another "
                "--out"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in cast(dict[str, Any], value).items()}
    if isinstance(value, tuple):
        return list(cast(tuple[Any, ...], value))
    return str(value) if isinstance(value, Path) else value


def _rebuild(kind: Any, document: Any) -> Any:
    if not isinstance(document, dict):
        raise TypeError(f"{document!r} in place of settings")
    document = cast(dict[str, Any], document)
    hints = get_type_hints(kind)
    unknown = document.keys() - hints.keys()
    if unknown:
        raise KeyError(*sorted(unknown))
    values = {setting.name: document[setting.name] for setting in fields(kind)}
    for name, value in values.items():
        if is_dataclass(hints[name]):
            values[name] = _rebuild(hints[name], value)
        elif value is not None and hints[name] in (Path, Path | None):
            values[name] = Path(value)
        elif isinstance(value, list):
            values[name] = tuple(cast(list[Any], value))
    return kind(**values)


def _flat_json(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            rows |= _flat_json(cast(dict[str, Any], value), f"{prefix}{name}.")
        else:
            rows[prefix + name] = value
    return rows
