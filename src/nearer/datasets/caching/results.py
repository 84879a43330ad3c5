"""Results that take long to compute, such as a frozen model's predictions: computed once, kept.

    <cache>/<name>/<hash of what they are computed from>.npz

A file is named after all that its values are computed from, the code included, so none of them is
ever out of date; all are safe to delete.
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
from nearer.datasets.caching.arrays import cache_errors_as_sentences, default_cache
from nearer.runs.files import StagedFiles
from nearer.runs.provenance import git_revision


def cached_columns(
    name: str,
    made_of: Mapping[str, object],
    cache: Path | None,
    make: Callable[[], dict[str, Array]],
) -> dict[str, Array]:
    """Return arrays by name, computed now unless they are on disk.

    Code that is not committed has no name to keep its results under: it computes everything anew.
    What depends on code outside this package must not be kept here.

    Args:
        name: of their folder.
        made_of: everything that they depend on besides this package's code, as JSON values.
        cache: folder of what was computed; None for ~/.cache/nearer.
        make: computes them.

    Raises:
        DatasetError: the cache cannot be written.
    """
    revision = git_revision()
    if revision.endswith("+"):
        return make()
    made_of = {**made_of, "code": [version("nearer"), revision]}
    digest = hashlib.blake2b(json.dumps(made_of, sort_keys=True).encode(), digest_size=16)
    path = (cache or default_cache()) / name / f"{digest.hexdigest()}.npz"
    columns = _read_columns(path)
    if columns is None:
        columns = make()
        with cache_errors_as_sentences(path.parent):
            _write_columns(path, columns)
    return columns


def digest_of(values: Iterable[Array]) -> str:
    """Return a hash of arrays, read one by one: of their numbers, types and shapes."""
    digest = hashlib.blake2b(digest_size=16)
    for array in values:
        digest.update(f"{array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read_columns(path: Path) -> dict[str, Array] | None:
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile):
        return None


def _write_columns(path: Path, columns: Mapping[str, Array]) -> None:
    with StagedFiles() as staged:
        with staged.open(path, replace=True) as handle:
            np.savez(handle, allow_pickle=False, **dict[str, Any](columns))
        staged.commit()
