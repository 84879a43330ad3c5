"""Labels beside an existing data set: which may be replaced, and to which recording they belong."""

from pathlib import Path

import numpy as np
import pytest

from nearer.core.errors import DatasetError
from nearer.datasets.caching.results import cached_columns, digest_of
from nearer.datasets.lerobot.progress_sidecar import (
    check_current,
    check_free,
    sidecar_place,
    write_sidecar,
)
from nearer.datasets.lerobot.reader import Dataset, open_dataset, read_progress
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames

LABELS = {"steps_to_go": np.arange(4, dtype=np.float32)}


def record_dataset(root: Path, *, practised: bool = False) -> Dataset:
    """Return a data set of one episode of four frames, with the sidecar of practice if asked."""
    features = {"action": Feature(dtype="float32", shape=(2,))}
    frames = EpisodeFrames(task="push left", columns={"action": np.ones((4, 2), np.float32)})
    progress = [{**LABELS, "log_prob": np.zeros(4, np.float32)}] if practised else None
    DatasetWriter.create(root, features, fps=5).append([frames], progress)
    return open_dataset(root)


def test_write_sidecar_labels_are_read_back_by_read_progress(tmp_path: Path):
    dataset = record_dataset(tmp_path)
    write_sidecar(dataset, sidecar_place(dataset), LABELS, {"weights_sha256": "abc"})
    progress = read_progress(dataset)
    assert progress is not None
    assert progress["steps_to_go"].tolist() == [0, 1, 2, 3]
    assert progress["index"].tolist() == [0, 1, 2, 3]
    check_current(dataset)


def test_check_free_with_labels_is_refused_without_overwrite(tmp_path: Path):
    dataset = record_dataset(tmp_path)
    path = sidecar_place(dataset)
    write_sidecar(dataset, path, LABELS, {})
    with pytest.raises(DatasetError, match="must not exist yet, got a file; pass --overwrite"):
        check_free(dataset, path, overwrite=False)
    check_free(dataset, path, overwrite=True)


def test_check_free_with_the_sidecar_of_practice_is_refused(tmp_path: Path):
    dataset = record_dataset(tmp_path, practised=True)
    with pytest.raises(DatasetError, match="must have no sidecar of its practice"):
        check_free(dataset, sidecar_place(dataset), overwrite=True)


def test_check_current_with_labels_of_an_earlier_recording_is_refused(tmp_path: Path):
    dataset = record_dataset(tmp_path / "set")
    write_sidecar(dataset, sidecar_place(dataset), LABELS, {})
    path = tmp_path / "set/data/chunk-000/file-000.parquet"
    longer = path.read_bytes() + b" "  # another size, so another recording
    path.write_bytes(longer)
    with pytest.raises(DatasetError, match="got those of an earlier recording"):
        check_current(dataset)


def test_cached_columns_of_equal_sources_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("nearer.datasets.caching.results.git_revision", lambda: "a revision")
    calls: list[int] = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return dict(LABELS)

    for sources in ({"seed": 0}, {"seed": 0}, {"seed": 1}):
        columns = cached_columns("labels", sources, tmp_path, make)
        assert digest_of(columns.values()) == digest_of(LABELS.values())
    assert len(calls) == 2
