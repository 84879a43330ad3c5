"""Files of a data set, which may be a stranger's: none leads out of its folder, all are files."""

import stat
from pathlib import Path, PurePosixPath

from nearer.core.errors import DatasetError
from nearer.runs.links import leads_out


def stored_file(root: Path, name: str, most_bytes: int | None = None) -> Path:
    """Return the path of a data set's file; it need not exist.

    Args:
        root: The data set's folder.
        name: Of the file, relative to the root.
        most_bytes: Size that it must not exceed; None for any.

    Raises:
        DatasetError: The name leads out of the folder, or what is there is no file.
    """
    path = root / name
    relative = PurePosixPath(name)
    if "\0" in name or relative.is_absolute() or ".." in relative.parts or leads_out(path, root):
        raise DatasetError(
            f"every file of {root} must lie in it, got {_short(name)!r}, which leads out of it; "
            "copy the file into the folder, or do not use this data set"
        )
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except OSError as error:
        raise DatasetError(
            f"{root}/{_short(name)} must be readable, got {error.strerror!r}; restore the file"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        raise DatasetError(f"{path} must be a file, got something else there; restore the file")
    if most_bytes is not None and found.st_size > most_bytes:
        raise DatasetError(
            f"{path} must have at most {most_bytes:,} bytes, got {found.st_size:,}; restore it"
        )
    return path


def _short(name: str) -> str:
    return name if len(name) <= 200 else name[:200] + "..."
