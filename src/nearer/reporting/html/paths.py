"""Paths as the page shows them: a page that is passed on tells nobody the folders of a machine.

A path inside the page's folder is shown relative to it; of any other, its last name alone.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import cast

_PATH = re.compile(r"""(?<![^\s("'\[=])(?:~?/|[A-Za-z]:[\\/])[^\s,;"')\]]*[^\s,;:."')\]]""")
"""An absolute path in a sentence: it begins a word."""


def shown_path(path: Path, folders: Sequence[Path]) -> str:
    """Return a path relative to the first of these folders that it is in, else its last name."""
    for folder in folders:
        if path != folder and path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return path.name


def shown_text(words: str, folders: Sequence[Path]) -> str:
    """Return a sentence with its absolute paths as the page shows them."""
    return _PATH.sub(lambda match: _shown(match[0], folders), words)


def shown_setting(value: object, folders: Sequence[Path]) -> str:
    """Return a value of a config as the page shows it; its paths may have spaces."""
    if isinstance(value, list | tuple):
        items = cast(Sequence[object], value)
        return ", ".join(shown_setting(item, folders) for item in items) or "none"
    words = str(value)
    return _shown(words, folders) if _is_absolute(words) else shown_text(words, folders)


def _is_absolute(words: str) -> bool:
    return (
        words.startswith("~")
        or PurePosixPath(words).is_absolute()
        or PureWindowsPath(words).is_absolute()
    )


def _shown(path: str, folders: Sequence[Path]) -> str:
    if PureWindowsPath(path).drive:
        return PureWindowsPath(path).name
    return shown_path(Path(path), folders)
