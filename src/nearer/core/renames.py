"""Flags of the form NAME=NEW_NAME."""

from collections.abc import Mapping, Sequence

from nearer.core.errors import ConfigError


def parse_renames(
    pairs: Sequence[str], flag: str = "--rename", *, joined: bool = False
) -> Mapping[str, str]:
    """Return the new name of each name, in their order.

    Args:
        pairs: such as "wrist_image=observation.images.wrist".
        flag: that they were given with, for the sentence.
        joined: several may have the same new name: their numbers are joined in this order.

    Raises:
        ConfigError: a pair is none, or a name stands in two of them.
    """
    renames: dict[str, str] = {}
    for pair in pairs:
        name, separator, new = pair.partition("=")
        if not (name and separator and new) or "=" in new:
            raise ConfigError(f"{flag} must be pairs NAME=NEW_NAME, got {pair!r}; correct it")
        if name in renames or (new in renames.values() and not joined):
            raise ConfigError(
                f"{flag} must give each name once, got {pair!r} beside another; leave one out"
            )
        renames[name] = new
    return renames
