"""Parquet files as numpy arrays: the only module that knows pyarrow.

pyarrow has no type stubs, so its tables and arrays are `Any` here, and outside only opaque values
that one function of this module returns and another takes.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int, Shaped

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.feature import Feature
from nearer.datasets.lerobot.parquet_metadata import huggingface_metadata, pandas_metadata
from nearer.datasets.lerobot.schema import has_room

ArrowTable = Any
ArrowArray = Any

_UNREADABLE: tuple[type[Exception], ...] = (pa.ArrowException, OSError, UnicodeDecodeError)

ROWS_PER_GROUP = 1 << 20
"""Rows per row group of numbers. lerobot starts a group per episode; for 10,000 episodes of 72
frames with 8 numbers that takes 3.3 s to write and 0.58 s to read in 57 MB, one group 0.28 s and
0.08 s in 28 MB (one core, pyarrow 26)."""


_MAX_BYTES = 2**31
"""Of one file's columns in memory; lerobot's files have 100 MB."""
_BYTES_A_NUMBER = {"FLOAT": 4, "DOUBLE": 8, "INT32": 4, "INT64": 8}
"""In memory. Equal numbers take next to nothing in a file."""
_MAX_IMAGE_BYTES = 2**26
_ROWS_AT_ONCE, _IMAGES_AT_ONCE = 2**16, 16
"""A file may be small and hold a lot: it is unpacked bit by bit, and given up in time."""


def read_columns(
    path: Path, names: Sequence[str] | None = None, optional: Sequence[str] = ()
) -> dict[str, Array]:
    """Return columns of numbers, or all columns, as arrays, [rows, *axes of the lists] each.

    Args:
        path: A parquet file.
        names: Of the columns; None: all.
        optional: Names of further columns, which are left out where they are missing, ragged, or
            have holes.

    Raises:
        DatasetError: The file is missing, damaged or too large, or a column is missing, ragged or
            has holes.
    """
    there = set(column_names(path)) if optional else set[str]()
    optional = [name for name in optional if name in there]
    table = _read_table(path, names and [*names, *optional])
    columns: dict[str, Array] = {}
    for name in table.column_names if names is None else [*names, *optional]:
        try:
            columns[name] = _to_numpy(table.column(name), f"column {name!r} of {path}")
        except DatasetError:
            if name not in optional:
                raise
    return columns


def read_lists(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Return columns as Python lists, for the few that hold text; raises as `read_columns`."""
    table = _read_table(path, names, texts_once=True)
    try:
        return {name: _to_list(table.column(name).combine_chunks()) for name in names}
    except (UnicodeDecodeError, IndexError) as error:
        raise _unreadable(path, error) from error


def _to_list(array: ArrowArray) -> list[Any]:
    if not isinstance(array, pa.DictionaryArray):
        return array.to_pylist()
    texts: list[Any] = array.dictionary.to_pylist()
    indices: list[int | None] = array.indices.to_pylist()
    if any(index is not None and index < 0 for index in indices):
        raise IndexError("an entry below the first of a dictionary")
    return [None if index is None else texts[index] for index in indices]


def read_encoded_images(path: Path, name: str, rows: Int[Array, "frames"]) -> list[bytes]:
    """Return the encoded images (PNG or JPEG) of some rows, in the order of `rows`.

    Only the row groups that hold these rows are read. A column holds bytes, or the bytes and the
    name of each image, as `datasets.Image` does.

    Raises:
        DatasetError: The file is missing or damaged, or a row holds no image.
    """
    images: dict[int, bytes | None] = {}
    wanted = set(rows.tolist())
    try:
        is_struct = _is_struct_of_images(pq.read_schema(path), name, path)
        with pq.ParquetFile(path) as file:
            metadata: Any = file.metadata
            groups = [metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            stops = np.cumsum(np.array(groups, dtype=np.int64))
            if rows.max() >= metadata.num_rows:
                message = f"{path} must have more than {rows.max()} rows, got {metadata.num_rows}"
                raise DatasetError(f"{message}; restore the file")
            for group in np.unique(np.searchsorted(stops, rows, side="right")).tolist():
                _check_announced([metadata.row_group(group)], [name], path)
                row = int(stops[group]) - groups[group]
                batches = file.iter_batches(_IMAGES_AT_ONCE, row_groups=[group], columns=[name])
                for batch in batches:
                    column: Any = batch.column(0)
                    encoded = column.field("bytes") if is_struct else column
                    for place in range(len(batch)):
                        if row + place in wanted:
                            images[row + place] = encoded[place].as_py()
                    row += len(batch)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return [_present(images.get(row), path, row) for row in rows.tolist()]


def _is_struct_of_images(schema: Any, name: str, path: Path) -> bool:
    """Tell whether a column holds images with their names, rather than images alone.

    Raises:
        DatasetError: There is no such column, or it holds no images.
    """
    kind: Any = schema.field(name).type if name in _names(schema, path) else None
    held: Any = kind
    is_struct = kind is not None and pa.types.is_struct(kind)
    fields: Any = kind if is_struct else ()
    if is_struct:
        held = {field.name: field.type for field in fields}.get("bytes")
    if held is None or not (pa.types.is_binary(held) or pa.types.is_large_binary(held)):
        raise DatasetError(
            f"column {name!r} of {path} must hold encoded images, got {kind or 'no such column'}; "
            "restore the file"
        )
    return is_struct


def _present(image: bytes | None, path: Path, row: int) -> bytes:
    if image is None:
        raise DatasetError(f"{path} must hold an image in row {row}, got none; restore the file")
    if len(image) > _MAX_IMAGE_BYTES:
        raise DatasetError(
            f"{path} must hold an image of at most {_MAX_IMAGE_BYTES:,} bytes in row {row}, got "
            f"{len(image):,}; restore the file"
        )
    return image


def _read_table(path: Path, names: Sequence[str] | None, *, texts_once: bool = False) -> ArrowTable:
    """Return columns of a file, whose names must be there.

    With `texts_once` a text that is repeated a million times stays one text.
    """
    batches: list[Any] = []
    num_bytes = 0
    try:
        schema: Any = pq.read_schema(path)
        there = _names(schema, path)
        texts = [name for name in names or () if name in there and _is_text(schema.field(name))]
        with pq.ParquetFile(path, read_dictionary=texts if texts_once else None) as file:
            missing = [name for name in names or () if name not in there]
            if missing:
                raise DatasetError(
                    f"{path} must have the column {missing[0]!r}, got {there}; "
                    "write the data set anew with lerobot 0.6 or with DatasetWriter.create"
                )
            columns = there if names is None else list(names)
            groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
            _check_announced(groups, columns, path)
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns):
                num_bytes += batch.nbytes
                if num_bytes > _MAX_BYTES:
                    raise _too_large(path)
                batches.append(batch)
            table: Any = pa.Table.from_batches(batches) if batches else file.read(columns=columns)
            return table
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _check_announced(groups: Sequence[Any], names: Sequence[str], path: Path) -> None:
    """Raise DatasetError where the footer says that columns of row groups take too much memory.

    A batch has a bounded number of rows, and one row may hold any number of numbers.
    """
    if not groups:
        return
    chunks = [groups[0].column(place) for place in range(groups[0].num_columns)]
    sizes = {  # the same columns in every group, of which there may be ten thousand
        place: _BYTES_A_NUMBER.get(chunk.physical_type, 0)
        for place, chunk in enumerate(chunks)
        if any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in names)
    }
    num_bytes = 0
    for group in groups:
        for place, size in sizes.items():
            chunk = group.column(place)
            num_bytes += max(size * chunk.num_values, chunk.total_uncompressed_size)
    if num_bytes > _MAX_BYTES:
        raise _too_large(path)


def _too_large(path: Path) -> DatasetError:
    return DatasetError(
        f"{path} must take at most {_MAX_BYTES / 1e9:.1f} GB of memory, got more; write the data "
        "set in smaller files"
    )


def _names(schema: Any, path: Path) -> list[str]:
    """Return the names of the columns, if no two are the same."""
    names: list[str] = schema.names
    if len(set(names)) < len(names):
        raise DatasetError(f"{path} must have each column once, got {names}; restore the file")
    return names


def _unreadable(path: Path, error: Exception) -> DatasetError:
    if isinstance(error, FileNotFoundError):
        return DatasetError(f"{path} must exist, got no such file; restore or download it again")
    reason = str(error).split("\n")[0]
    return DatasetError(
        f"{path} must be a whole parquet file, got: {reason}; restore or download it again"
    )


def _to_numpy(column: ArrowArray, where: str) -> Shaped[Array, "rows ..."]:
    """Return a column as an array, without a copy when it lies in one piece and is no bool."""
    array: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    rows = len(array)
    axes: list[int] = []
    while _is_list(array.type):
        size = _list_size(array)
        if size is None or array.null_count:
            raise DatasetError(f"{where} must hold lists of one length; repair the data set")
        axes.append(size)
        array = array.flatten()
    if array.null_count:
        raise DatasetError(f"{where} must hold a number in every row, got empty ones; fill them in")
    if not _is_number(array.type):
        raise DatasetError(f"{where} must hold numbers, got {array.type}; repair the data set")
    values: Array = array.to_numpy(zero_copy_only=False)
    return values.reshape(rows, *axes)


def _list_size(array: ArrowArray) -> int | None:
    """Return the one length of all lists of an array, or None if they differ."""
    if pa.types.is_fixed_size_list(array.type):
        return int(array.type.list_size)
    sizes = np.unique(np.diff(array.offsets.to_numpy()))
    return int(sizes[0]) if len(sizes) == 1 else None


def _is_list(kind: Any) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(field: Any) -> bool:
    return pa.types.is_string(field.type) or pa.types.is_large_string(field.type)


def _is_number(kind: Any) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def fixed_lists(values: Shaped[Array, "rows ..."]) -> ArrowArray:
    """Return rows as numbers, or as lists of one fixed length if they have an axis of their own."""
    array: ArrowArray = pa.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def lists(values: Shaped[Array, "rows *axes"]) -> ArrowArray:
    """Return rows as nested lists of any length, the type of the episodes table's statistics."""
    array: ArrowArray = pa.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        offsets = np.arange(0, len(array) + 1, size, dtype=np.int32)
        array = pa.ListArray.from_arrays(pa.array(offsets), array)
    return array


def text_lists(texts: Sequence[str]) -> ArrowArray:
    """Return rows that each hold a list of one text, the type of the episodes' `tasks`."""
    offsets: Any = pa.array(np.arange(len(texts) + 1, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(list(texts), pa.string()))


def feature_column(feature: Feature, values: Shaped[Array, "rows *shape"]) -> ArrowArray:
    """Return a feature's numbers in the type that lerobot gives them.

    A plain number for shape (1,), a list of fixed length for one axis, nested lists for more
    (how `datasets` stores Array2D to Array5D).
    """
    if feature.shape == (1,):
        return pa.array(values.reshape(-1))
    return fixed_lists(values) if len(feature.shape) == 1 else lists(values)


def image_column(encoded: Sequence[bytes], names: Sequence[str]) -> ArrowArray:
    """Return encoded images in the type of `datasets.Image`."""
    pieces: Any = [pa.array(list(encoded), pa.binary()), pa.array(list(names), pa.string())]
    return pa.StructArray.from_arrays(pieces, names=["bytes", "path"])


def data_table(columns: Mapping[str, ArrowArray], features: Mapping[str, Feature]) -> ArrowTable:
    """Return rows of a data file, with the schema metadata from which lerobot decodes them."""
    metadata = {"huggingface": huggingface_metadata(features)}
    table: Any = pa.table(dict(columns))
    return table.replace_schema_metadata(metadata)


def plain_table(columns: Mapping[str, ArrowArray]) -> ArrowTable:
    """Return a table without schema metadata."""
    return pa.table(dict(columns))


def noted_table(columns: Mapping[str, ArrowArray], notes: Mapping[str, str]) -> ArrowTable:
    """Return a table with texts of our own as schema metadata."""
    return plain_table(columns).replace_schema_metadata(dict(notes))


def notes_of(path: Path) -> dict[str, str]:
    """Return what a file's schema says beside its columns.

    Raises:
        DatasetError: The file is missing or damaged.
    """
    try:
        notes: dict[bytes, bytes] = pq.read_schema(path).metadata or {}
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return {key.decode(): value.decode("utf-8", "replace") for key, value in notes.items()}


def column_names(path: Path) -> tuple[str, ...]:
    """Return the names of a file's columns.

    Raises:
        DatasetError: The file is missing or damaged.
    """
    try:
        return tuple(pq.read_schema(path).names)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def tasks_table(tasks: Sequence[str]) -> ArrowTable:
    """Return meta/tasks.parquet's content; task i stands in row i."""
    indices: Any = pa.array(np.arange(len(tasks), dtype=np.int64))
    table: Any = pa.table({"task_index": indices, "task": pa.array(list(tasks), pa.string())})
    return table.replace_schema_metadata({"pandas": pandas_metadata(pa.__version__)})


def write_tables(
    handle: BinaryIO, tables: Iterable[ArrowTable], max_bytes: float = math.inf
) -> int:
    """Write tables of one schema, at least one row group each, and return how many rows.

    Args:
        handle: A file open for writing.
        tables: At least one.
        max_bytes: Before a table that would bring the rows to this size the file ends, unless it
            is the first; the footer, of a few KB, comes on top.

    Raises:
        OSError: Writing to `handle` failed.
    """
    writer: Any = None
    num_rows = 0
    try:
        for table in tables:
            if not has_room(handle.tell(), num_rows, num_rows + table.num_rows, max_bytes):
                break
            writer = writer or pq.ParquetWriter(handle, table.schema, compression="snappy")
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            num_rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return num_rows
