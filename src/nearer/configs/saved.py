"""A config as run.json keeps it, and the config of a run that is continued."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

from nearer.algorithm.sft_settings import Kind
from nearer.configs.collect import CollectConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import SFTConfig, settings_of
from nearer.core.errors import ConfigError
from nearer.runs import json_files
from nearer.runs.json_files import UnexpectedJson

Config = TypeVar("Config", SFTConfig, ImproveConfig, CollectConfig)
"""A config of what can be continued."""
_MAY_CHANGE = ("out", "resume", "training.processes", "practice.processes", "audits.on_alarm")
"""What a run that is continued need not have been started with."""


def read_config(kind: type[Config], document: Mapping[str, object]) -> Config:
    """Return the config that a run was started with, as its run.json keeps it.

    Raises:
        ConfigError: a setting is missing, unknown or of another type: another version of nearer
            wrote it, or someone else did.
    """
    try:
        config = json_files.from_json(kind, document)
    except (UnexpectedJson, ConfigError) as error:
        raise _not_a_config(str(error)) from error
    # A setting with a default may be missing for `from_json`, but then nobody knows its value.
    for name in _flat_json(config_document(config)).keys() - _flat_json(document).keys():
        raise _not_a_config(f"no {name}")
    return config


def absolute(config: Config) -> Config:
    """Return a config whose paths mean the same in every working folder.

    A name that is no path here stays as it is: the hub may know it.
    """
    same = replace(config, out=config.out.absolute())
    if isinstance(same, SFTConfig):
        is_built_in = settings_of(same.model) != "vlm"
        return replace(
            same,
            data=_absolute(same.data),
            model=same.model if is_built_in else _absolute(same.model),
            cache=same.cache and same.cache.absolute(),
        )
    if isinstance(same, ImproveConfig):
        return replace(
            same,
            run=Path(_absolute(str(same.run))),
            reward=same.reward and Path(_absolute(str(same.reward))),
        )
    return replace(same, policy=same.policy and Path(_absolute(str(same.policy))))


def _absolute(name: str) -> str:
    """Return a name as an absolute path, if it is that of something here."""
    named = name not in ("", ".")  # what a setting is that nobody has given
    return str(Path(name).absolute()) if named and os.path.exists(name) else name


def config_document(config: SFTConfig | ImproveConfig | CollectConfig) -> Mapping[str, object]:
    """Return a config as JSON values, for run.json."""
    return cast(Mapping[str, object], json_files.to_json(config))


def processes_of(config: SFTConfig | ImproveConfig | CollectConfig) -> Kind:
    """Return how processes of torchrun share the model."""
    match config:
        case SFTConfig():
            return config.training.processes
        case ImproveConfig():
            return config.practice.processes
        case CollectConfig():
            return "one"


def _not_a_config(got: str) -> ConfigError:
    return ConfigError(
        f"the run's config must be one this version of nearer wrote, got: {got}; "
        "continue the run with the version that run.json names"
    )


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
    if isinstance(same, ImproveConfig) and isinstance(given, ImproveConfig):
        same = replace(same, audits=replace(same.audits, on_alarm=given.audits.on_alarm))
    return same


def as_resumed(saved: Config, out: Path) -> Config:
    """Return the settings of a run with which `--resume` continues it."""
    return replace(saved, out=out, resume=True)


def check_same(given: Config, saved: Config) -> None:
    """Raise ConfigError unless both mean the same run."""
    _check_same(given, saved, saved)


def _check_same(given: Config, saved: Config, default: Config) -> None:
    wanted, before, unset = (
        _flat_json(config_document(absolute(config))) for config in (given, saved, default)
    )
    for name, value in wanted.items():
        if name not in _MAY_CHANGE and value not in (unset[name], before[name]):
            raise ConfigError(
                f"--resume must continue {given.out} as it was started, with {name} = "
                f"{before[name]}, got {value}; leave the flag out, or start a new run with another "
                "--out"
            )


def _flat_json(document: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    rows: dict[str, object] = {}
    for name, value in document.items():
        if isinstance(value, Mapping):
            rows |= _flat_json(cast(Mapping[str, object], value), f"{prefix}{name}.")
        else:
            rows[prefix + name] = value
    return rows
