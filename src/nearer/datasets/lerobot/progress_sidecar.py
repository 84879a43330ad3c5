"""A progress sidecar for a data set that is there already, whole or not at all.

The writer keeps a progress file beside every data file, append by append (writer.py). A sidecar
that is made afterwards is one file for all frames, where `read_progress` finds it: one rename makes
it appear. Its schema metadata say under `nearer`, as JSON, what made it.
"""

import fcntl
import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot import parquet
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.numbers import runs
from nearer.datasets.lerobot.reader import Dataset
from nearer.datasets.lerobot.schema import PROGRESS_PATH, numbered_file
from nearer.datasets.lerobot.stored_files import stored_file
from nearer.runs.files import StagedFiles

_PRACTISED = "log_prob"
"""A column that only robots that acted leave; it cannot be made again."""
_LABELLED = "data_sha256"


def sidecar_place(dataset: Dataset) -> Path:
    """Return where the sidecar of a data set is, or would be."""
    return stored_file(dataset.root, numbered_file(PROGRESS_PATH, *next(runs(dataset.data_files))))


def check_free(dataset: Dataset, path: Path, *, overwrite: bool) -> None:
    """Raise DatasetError unless a sidecar may be written to a path.

    Nothing but labels is ever replaced: what practice wrote says what robots did.

    Args:
        dataset: Whose sidecar.
        path: Of the file.
        overwrite: Whether an earlier sidecar may be replaced.
    """
    own, place = path.resolve(), sidecar_place(dataset)
    inside = own == place.resolve()
    there = sorted(place.parent.parent.rglob("*.parquet")) if inside else []
    other = next((sidecar for sidecar in there if sidecar.resolve() != own), None)
    practised = other is None and path.exists() and _says(path, _PRACTISED)
    if other is not None or practised:
        raise DatasetError(
            f"{dataset.root} must have no sidecar of its practice to be labelled, got "
            f"{other or path}; pass --out FILE"
        )
    if path.exists() and not (path.is_file() and _says(path, "steps_to_go")):
        raise DatasetError(
            f"{path} must be a place for labels, got something else there, which is not replaced; "
            "pass --out FILE"
        )
    if path.exists() and not overwrite:
        raise DatasetError(
            f"{path} must not exist yet, got a file; pass --overwrite to replace it, or --out FILE"
        )


def write_sidecar(
    dataset: Dataset,
    path: Path,
    columns: Mapping[str, Array],
    made_by: Mapping[str, object],
    *,
    overwrite: bool = False,
) -> None:
    """Write a model's labels of every frame, with the frames' `index` and `episode_index`.

    Args:
        dataset: Whose frames.
        path: Of the file, as `check_free` allowed it.
        columns: [frames] or [frames, n].
        made_by: What made it, as JSON values.
        overwrite: Whether earlier labels may be replaced.

    Raises:
        DatasetError: The disk does not take it, or somebody else has written there since; what was
            there before is unharmed.
    """
    named = {
        "index": dataset.columns["index"],
        "episode_index": dataset.episode_numbers[dataset.columns["episode_index"]],
    }
    arrays = {name: parquet.fixed_lists(values) for name, values in {**named, **columns}.items()}
    noted = {**made_by, _LABELLED: contents_hash(dataset)}
    table = parquet.noted_table(arrays, {"nearer": json.dumps(noted)})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent), StagedFiles() as staged:
            check_free(dataset, path, overwrite=overwrite)
            with staged.open(path, replace=True) as handle:
                parquet.write_tables(handle, [table])
            staged.commit()
    except OSError as error:
        raise DatasetError(
            f"{path} must be on a disk that can be written, got {error.strerror or error}; nothing "
            "was changed, free some space or pass --out FILE"
        ) from error


def check_current(dataset: Dataset) -> None:
    """Raise DatasetError where labels are of frames that have since been recorded anew."""
    path = sidecar_place(dataset)
    made_by_json = parquet.notes_of(path).get("nearer", "{}") if path.exists() else "{}"
    try:
        made_by: Any = json.loads(made_by_json)
        labelled: Any = made_by.get(_LABELLED)
    except (ValueError, AttributeError, RecursionError):
        return  # not written by nearer: nothing is known of the frames
    if labelled is not None and labelled != contents_hash(dataset):
        raise DatasetError(
            f"{path} must be labels of the frames that are there, got those of an earlier "
            "recording; make them again with nearer label --overwrite, or delete the file"
        )


def _says(path: Path, column: str) -> bool:
    """Tell whether a file is one of nearer's sidecars with such a column."""
    try:
        names = parquet.column_names(path)
    except DatasetError:
        return False
    return column in names and ("nearer" in parquet.notes_of(path) or _PRACTISED in names)


@contextmanager
def _alone_in(folder: Path) -> Generator[None, None, None]:
    """Let one process at a time write labels into a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
