"""A progress sidecar for a data set that is there already, whole or not at all.

The writer keeps a progress file beside every data file, append by append (writer.py). A sidecar
that is made afterwards is one file for all frames, where `read_progress` finds it: one rename makes
it appear. Its schema metadata say under `nearer`, as JSON, what made it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from nearer.data import parquet
from nearer.data.reader import Dataset, runs
from nearer.data.schema import PROGRESS_PATH, numbered_file
from nearer.data.staging import StagedFiles
from nearer.errors import DatasetError
from nearer.shapes import Array

_PRACTISED = "log_prob"
"""A column that only robots that acted leave; it cannot be made again."""


def sidecar_place(dataset: Dataset) -> Path:
    """Return where the sidecar of a data set is, or would be."""
    return dataset.root / numbered_file(PROGRESS_PATH, *next(runs(dataset.data_files)))


def check_free(dataset: Dataset, path: Path, *, overwrite: bool) -> None:
    """Raise DatasetError unless a sidecar may be written to a path.

    One that practice wrote is never replaced: it says what robots did.

    Args:
        dataset: Whose sidecar.
        path: Of the file.
        overwrite: Whether an earlier sidecar may be replaced.
    """
    inside = path.absolute() == sidecar_place(dataset).absolute()
    folder = sidecar_place(dataset).parent.parent
    there = sorted(folder.rglob("*.parquet")) if inside else [path] if path.exists() else []
    if not there:
        return
    other = next((one for one in there if one.absolute() != path.absolute()), None)
    if other is not None or (inside and _PRACTISED in parquet.column_names(path)):
        raise DatasetError(
            f"{dataset.root} must have no sidecar of its practice to be labelled, got "
            f"{other or path}; pass --out FILE"
        )
    if not overwrite:
        raise DatasetError(
            f"{path} must not exist yet, got a file; pass --overwrite to replace it, or --out FILE"
        )


def write_sidecar(
    dataset: Dataset, path: Path, columns: Mapping[str, Array], made_by: Mapping[str, object]
) -> None:
    """Write what a model says of every frame, with the frames' `index` and `episode_index`.

    Args:
        dataset: Whose frames.
        path: Of the file, as `check_free` allowed it.
        columns: [frames] or [frames, n].
        made_by: What made it, as JSON values.

    Raises:
        DatasetError: The disk does not take it; what was there before is unharmed.
    """
    named = {name: dataset.columns[name] for name in ("index", "episode_index")}
    arrays = {name: parquet.fixed_lists(values) for name, values in {**named, **columns}.items()}
    table = parquet.noted_table(arrays, {"nearer": json.dumps(made_by)})
    try:
        with StagedFiles() as staged:
            with staged.open(path, replace=True) as handle:
                parquet.write_tables(handle, [table])
            staged.commit()
    except OSError as error:
        raise DatasetError(
            f"{path} must be on a disk that can be written, got {error.strerror or error}; nothing "
            "was changed, free some space or pass --out FILE"
        ) from error
