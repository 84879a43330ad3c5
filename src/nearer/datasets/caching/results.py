"""What a frozen model says of frames, and what calibration takes long for: computed once, kept.

    <cache>/scores/<model, frames, code>.npz          p(k | o, g) and facts of every frame
    <cache>/rollouts/<models, env, seed, code>.npz    what a policy did, and what was true
    <cache>/replays/<env, actions, code>.npz          what was true along recorded episodes
    <cache>/rivals/<lessons, frames, code>.npz        what trained comparisons say of frames

A name is the hash of all that the values are made of, so none of them is ever out of date; all are
safe to delete.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.caching.arrays import default_cache
from nearer.runs.files import StagedFiles
from nearer.runs.run import git_revision


def cached_columns(
    name: str,
    made_of: Mapping[str, object],
    cache: Path | None,
    make: Callable[[], dict[str, Array]],
) -> dict[str, Array]:
    """Return arrays by name, made now unless they are on disk.

    Code that is not committed has no name to keep what it makes by: it makes everything anew. What
    depends on code of others must not come here.

    Args:
        name: of their folder.
        made_of: everything that they depend on besides the code, as JSON values.
        cache: folder of what was computed; None for ~/.cache/nearer.
        make: makes them.

    Raises:
        DatasetError: the cache cannot be written.
    """
    revision = git_revision()
    if revision.endswith("+"):
        return make()
    made_of = {**made_of, "code": [version("nearer"), revision]}
    known = hashlib.blake2b(json.dumps(made_of, sort_keys=True).encode(), digest_size=16)
    path = (cache or default_cache()) / name / f"{known.hexdigest()}.npz"
    found = _columns(path)
    if found is None:
        found = make()
        _keep(path, lambda: _write_columns(path, found))
    return found


def digest_of(values: Iterable[Array]) -> str:
    """Return a hash of arrays, taken one by one: of their numbers, types and shapes."""
    digest = hashlib.blake2b(digest_size=16)
    for one in values:
        digest.update(f"{one.dtype} {one.shape}\n".encode())
        digest.update(np.ascontiguousarray(one).tobytes())
    return digest.hexdigest()


def _columns(path: Path) -> dict[str, Array] | None:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as found:
            return {key: found[key] for key in found.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        return None


def _write_columns(path: Path, columns: Mapping[str, Array]) -> None:
    with StagedFiles() as staged:
        with staged.open(path, replace=True) as handle:
            np.savez(handle, allow_pickle=False, **dict[str, Any](columns))
        staged.commit()


def _keep(path: Path, write: Callable[[], None]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise DatasetError(
            f"{path.parent} must be on a disk that can be written and has room, got "
            f"{error.strerror or error}; free some space or choose another folder with --cache"
        ) from error
