"""Parquet files as arrays, and the sentences about damaged ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot import parquet
from nearer.datasets.lerobot.parquet import (
    column_names,
    feature_column,
    fixed_lists,
    image_column,
    lists,
    noted_table,
    notes_of,
    plain_table,
    read_columns,
    read_encoded_images,
    read_lists,
    tasks_table,
    text_lists,
    write_tables,
)
from nearer.datasets.lerobot.schema import Feature


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.parquet"


def write(path: Path, *tables: pa.Table, max_bytes: float = float("inf")) -> int:
    with path.open("wb") as handle:
        return write_tables(handle, tables, max_bytes)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        *[(fixed_lists, shape) for shape in ((5,), (5, 3), (5, 2, 3), (0, 3))],
        *[(lists, shape) for shape in ((5,), (5, 3), (5, 2, 3))],
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_read_columns_of_any_shape_are_those_that_were_written(
    kind: Callable[[Array], pa.Array], shape: tuple[int, ...], dtype: str, path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    write(path, plain_table({"numbers": kind(values)}))
    read = read_columns(path, ["numbers"])["numbers"]
    assert read.dtype == values.dtype
    assert np.array_equal(read, values)


def test_read_columns_without_names_reads_all_from_every_row_group(path: Path) -> None:
    parts = [plain_table({"a": lists(np.arange(n)), "b": lists(-np.arange(n))}) for n in (2, 3)]
    assert write(path, *parts) == 5
    assert column_names(path) == ("a", "b")
    columns = read_columns(path)
    assert columns["a"].tolist() == [0, 1, 0, 1, 2]
    assert columns["b"].tolist() == [0, -1, 0, -1, -2]


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (pa.array([[1], [1, 2]]), "column 'a' of .* must hold lists of one length; repair"),
        (pa.array([[1], None]), "must hold lists of one length; repair the data set"),
        (pa.array([1, None]), "must hold a number in every row, got empty ones; fill them in"),
        (pa.array(["x", "y"]), "must hold numbers, got string; repair the data set"),
    ],
)
def test_read_columns_that_are_no_arrays_are_refused(
    column: pa.Array, sentence: str, path: Path
) -> None:
    write(path, plain_table({"a": column}))
    with pytest.raises(DatasetError, match=sentence):
        read_columns(path, ["a"])


def test_read_columns_of_a_missing_column_names_it_and_those_there(path: Path) -> None:
    write(path, plain_table({"a": lists(np.arange(2))}))
    with pytest.raises(
        DatasetError, match=r"must have the column 'b', got \['a'\]; write the data"
    ):
        read_columns(path, ["a", "b"])


@pytest.mark.parametrize("read", [read_columns, column_names, notes_of])
def test_read_of_a_missing_or_damaged_file_is_refused(
    read: Callable[[Path], object], path: Path
) -> None:
    with pytest.raises(DatasetError, match="must exist, got no such file; restore or download it"):
        read(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(
        DatasetError, match=r"must be a whole parquet file, got: .*; restore or down"
    ):
        read(path)


def test_read_lists_of_texts_are_those_that_were_written(path: Path) -> None:
    write(path, plain_table({"tasks": text_lists(["push", "größer"])}))
    assert read_lists(path, ["tasks"]) == {"tasks": [["push"], ["größer"]]}


def test_read_encoded_images_come_in_the_order_of_the_rows(path: Path) -> None:
    parts = [[b"a", b"b"], [b"c", b"d", b"e"]]
    tables = [plain_table({"top": image_column(part, ["x.png"] * len(part))}) for part in parts]
    write(path, *tables)
    assert read_encoded_images(path, "top", np.array([4, 0, 2, 2])) == [b"e", b"a", b"c", b"c"]
    with pytest.raises(DatasetError, match="must have more than 5 rows, got 5; restore the file"):
        read_encoded_images(path, "top", np.array([5]))


def test_read_encoded_images_of_an_empty_row_is_refused(path: Path) -> None:
    images = [{"bytes": b"a", "path": "x.png"}, {"bytes": None, "path": "x.png"}]
    write(path, plain_table({"top": pa.array(images)}))
    with pytest.raises(DatasetError, match="must hold an image in row 1, got none; restore the f"):
        read_encoded_images(path, "top", np.array([1]))


def test_notes_of_a_noted_table_are_read_back(path: Path) -> None:
    write(path, noted_table({"a": lists(np.arange(2))}, {"weights": "größer"}))
    assert notes_of(path) == {"weights": "größer"}


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((1,), pa.float32()),
        ((3,), pa.list_(pa.float32(), 3)),
        ((2, 3), pa.list_(pa.list_(pa.float32()))),
    ],
)
def test_feature_column_has_lerobots_type(shape: tuple[int, ...], kind: pa.DataType) -> None:
    values: Array = np.zeros((4, *shape), np.float32)
    assert feature_column(Feature(dtype="float32", shape=shape), values).type == kind


def test_tasks_table_has_task_i_in_row_i() -> None:
    table = tasks_table(["push", "pull"])
    assert table.to_pydict() == {"task_index": [0, 1], "task": ["push", "pull"]}


def test_write_tables_ends_before_the_table_that_would_fill_the_file(path: Path) -> None:
    """A table of random numbers takes 8 kB; the first is written even if it is too large."""
    rng = np.random.default_rng(0)
    tables = [plain_table({"a": lists(rng.random(1000))}) for _ in range(4)]
    assert write(path, *tables, max_bytes=20_000) == 2000
    assert pq.read_metadata(path).num_row_groups == 2
    assert write(path, *tables, max_bytes=10) == 1000


@pytest.mark.parametrize("indices", [[0, 7], [0, -1]])
def test_read_lists_of_a_damaged_dictionary_is_refused(
    indices: list[int], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = pa.array(indices, pa.int32())
    damaged = pa.DictionaryArray.from_arrays(entries, pa.array(["push"]), safe=False)
    table = pa.Table.from_arrays([pa.chunked_array([damaged])], ["tasks"])
    monkeypatch.setattr(parquet, "_read_table", lambda *args, **options: table)
    with pytest.raises(DatasetError, match="must be a whole parquet file, got"):
        read_lists(path, ["tasks"])
