"""Damaged data sets: whoever reads one gets every frame, or one sentence."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hostile_attempts import Attempts
from mutations import Rng, changed_value, mutations
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.episodes import dataset_spaces
from nearer.datasets.lerobot.cameras import camera_key, cameras_of
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.reader import open_dataset


def damage_datasets(samples: Sequence[Path], cases: int, seed: int, scratch: Path) -> Attempts:
    """Return what became of so many cases: one file of a data set damaged, the set read whole.

    Args:
        samples: data sets; they stay as they are.
        cases: how many.
        seed: of the damage; a case depends on seed and number alone.
        scratch: new folder for the damaged copies.
    """
    attempts = Attempts()
    scratch.mkdir(parents=True)
    for case in range(cases):
        rng = np.random.default_rng([seed, case])
        root = scratch / "data"
        shutil.copytree(samples[case % len(samples)], root)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        file = files[int(rng.integers(len(files)))]
        _damage(file, rng)
        name = f"{file.relative_to(root)} of sample {case % len(samples)}, case {case}"
        attempts.call(name, lambda root=root: read_whole(root))
        shutil.rmtree(root)
    return attempts


def read_whole(root: Path) -> None:
    """Read what training reads of a data set, and every image."""
    dataset = open_dataset(root)
    dataset_spaces(dataset)
    contents_hash(dataset)
    load_demonstrations(dataset)
    for camera in cameras_of(dataset):
        dataset.frames(camera_key(dataset, camera.name), np.arange(len(dataset.columns["index"])))


def _damage(file: Path, rng: Rng) -> None:
    """Damage a file: its values where it has such, else its bytes."""
    if file.suffix == ".json":
        file.write_text(json.dumps(changed_value(json.loads(file.read_text()), rng)))
    elif file.suffix == ".parquet" and rng.random() < 0.6:
        pq.write_table(_changed_table(pq.read_table(file), rng), file)
    else:
        file.write_bytes(next(mutations(file.read_bytes(), rng)))


def _changed_table(table: pa.Table, rng: Rng) -> pa.Table:
    """Return a table with one column of another kind, none, two of it, or its rows in disorder."""
    place = int(rng.integers(table.num_columns))
    name, rows = table.column_names[place], len(table)
    columns = (
        *(pa.array([value] * rows) for value in (0, -1, 2**62, 1e300, "x", b"x", True, [1.0])),
        *(pa.array([value] * rows) for value in (float("nan"), {"a": 1}, [["a"]])),
        *(pa.nulls(rows), pa.array([2**63] * rows, pa.uint64())),
    )
    way = int(rng.integers(len(columns) + 3))
    if way < len(columns):
        return table.set_column(place, name, columns[way])
    changed = (
        table.drop([name]),
        table.append_column(name, table[name]),
        table.take(rng.permutation(rows)),
    )
    return changed[way - len(columns)]
