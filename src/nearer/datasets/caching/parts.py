"""An array that takes long to compute, kept part by part: a kill loses less than one part."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nearer.core.arrays import Array
from nearer.datasets.caching.arrays import write_array, write_header
from nearer.runs.files import StagedFiles


def write_in_parts(
    path: Path,
    shape: tuple[int, int],
    dtype: str,
    rows_a_part: int,
    make: Callable[[slice], Array],
) -> None:
    """Write a .npy file whole or not at all; parts that an earlier process made are kept.

    Args:
        path: of the file; the parts lie beside it until it is there.
        shape: [rows, columns].
        dtype: of the numbers.
        rows_a_part: durable once they are computed.
        make: computes these rows: [rows, columns].
    """
    rows = shape[0]
    slices = [slice(r, min(r + rows_a_part, rows)) for r in range(0, rows, rows_a_part)]
    parts = [path.with_name(f"{path.stem}.part-{n:05d}.npy") for n in range(len(slices))]
    for part, of_part in zip(parts, slices, strict=True):
        if not _is_whole(part, (of_part.stop - of_part.start, shape[1]), dtype):
            write_array(part, make(of_part))
    with StagedFiles() as staged:
        with staged.open(path, replace=True) as handle:
            write_header(handle, shape, dtype)
            for part in parts:
                handle.write(np.load(part).tobytes())
        staged.commit()
    for part in parts:
        part.unlink()


def _is_whole(part: Path, shape: tuple[int, int], dtype: str) -> bool:
    try:
        values: Array = np.load(part, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return values.shape == shape and values.dtype == np.dtype(dtype)
