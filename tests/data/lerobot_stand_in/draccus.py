"""Stands in for draccus: configs that register themselves by name, and are made from dicts."""

import dataclasses
from typing import Any, ClassVar


class DecodingError(Exception):
    """A dict is no config."""


class ChoiceRegistry:
    choices: ClassVar[dict[str, type]]

    def __init_subclass__(cls) -> None:
        if ChoiceRegistry in cls.__bases__:
            cls.choices = {}

    @classmethod
    def register_subclass(cls, name: str) -> Any:
        def register(config: type) -> type:
            cls.choices[name] = config
            return config

        return register

    @classmethod
    def get_known_choices(cls) -> dict[str, type]:
        return cls.choices


def decode(registry: Any, raw: dict[str, Any]) -> Any:
    """Return the config that `raw` describes; one a level deeper is made in the same way."""
    values = dict(raw)
    config = registry.choices[values.pop("type")]
    names = {field.name: field for field in dataclasses.fields(config)}
    for name in values:
        if name not in names:
            raise DecodingError(f"The fields `{name}` are not valid for {config.__name__}")
    for name, field in names.items():
        if "registry" in field.metadata and name in values:
            values[name] = {
                key: decode(field.metadata["registry"], value)
                for key, value in values[name].items()
            }
    try:
        return config(**values)
    except TypeError as error:
        raise DecodingError(str(error)) from error
