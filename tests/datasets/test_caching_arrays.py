"""Arrays that are made once of a data set, and made anew where they cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.caching.arrays import (
    CachedArray,
    cache_errors_as_sentences,
    default_cache,
    write_array,
    write_header,
)
from nearer.datasets.lerobot.reader import Dataset, open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter

VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)
ARRAY = CachedArray(name="numbers", shape=(2, 3), dtype="float32", mode="r")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    features = {"action": Feature(dtype="float32", shape=(2,))}
    DatasetWriter.create(tmp_path / "data", features, fps=10)
    return open_dataset(tmp_path / "data")


class Maker:
    """Writes an array, and counts how often."""

    def __init__(self, values: Array = VALUES) -> None:
        self.values = values
        self.times = 0

    def __call__(self, path: Path) -> None:
        self.times += 1
        write_array(path, self.values)


def test_open_a_second_time_makes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    make = Maker()
    for _ in range(2):
        assert ARRAY.open(dataset, tmp_path / "cache", make).tolist() == VALUES.tolist()
    assert make.times == 1


@pytest.mark.parametrize("damage", [b"", b"no array", VALUES.tobytes()])
def test_open_of_a_damaged_file_makes_it_anew(
    damage: bytes, dataset: Dataset, tmp_path: Path
) -> None:
    make = Maker()
    ARRAY.open(dataset, tmp_path / "cache", make)
    (path,) = (tmp_path / "cache").rglob("*.npy")
    path.write_bytes(damage)
    assert ARRAY.open(dataset, tmp_path / "cache", make).tolist() == VALUES.tolist()
    assert make.times == 2


def test_open_of_another_shape_or_dtype_makes_it_anew(dataset: Dataset, tmp_path: Path) -> None:
    ARRAY.open(dataset, tmp_path / "cache", Maker())
    other = CachedArray(name="numbers", shape=(6,), dtype="int64", mode="r")
    values = other.open(dataset, tmp_path / "cache", Maker(np.arange(6)))
    assert (values.shape, values.dtype) == ((6,), np.int64)


def test_open_to_read_refuses_writing_and_a_copy_keeps_it_to_itself(
    dataset: Dataset, tmp_path: Path
) -> None:
    kept = ARRAY.open(dataset, tmp_path / "cache", Maker())
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 9
    own = CachedArray(name="numbers", shape=(2, 3), dtype="float32", mode="c")
    own.open(dataset, tmp_path / "cache", Maker())[0, 0] = 9
    assert kept[0, 0] == 0


def test_delete_makes_the_next_open_make_it_anew(dataset: Dataset, tmp_path: Path) -> None:
    make = Maker()
    kept = ARRAY.open(dataset, tmp_path / "cache", make)
    for _ in range(2):  # deleting what is not there is no error
        ARRAY.delete(dataset, tmp_path / "cache")
    assert kept.tolist() == VALUES.tolist(), "who has it open keeps it"
    ARRAY.open(dataset, tmp_path / "cache", make)
    assert make.times == 2


def test_open_in_a_cache_that_cannot_be_made_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="that can be written and has room, got Not a directory"):
        ARRAY.open(dataset, tmp_path / "file", Maker())


def test_cache_errors_as_sentences_say_what_to_do() -> None:
    with (
        pytest.raises(DatasetError, match="got full; nothing is lost, free some space or choose"),
        cache_errors_as_sentences(Path("folder")),
    ):
        raise OSError("full")


def test_write_header_begins_a_file_that_numpy_reads(tmp_path: Path) -> None:
    path = tmp_path / "numbers.npy"
    with path.open("wb") as handle:
        assert write_header(handle, (2, 3), "float32") == handle.tell()
        handle.write(VALUES.tobytes())
    assert np.load(path).tolist() == VALUES.tolist()


def test_default_cache_follows_xdg_cache_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/nearer")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_cache() == Path.home() / ".cache/nearer"
