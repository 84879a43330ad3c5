"""Arrays that are kept part by part: what is whole is kept, what is damaged is made again."""

from pathlib import Path

import numpy as np

from nearer.core.arrays import Array
from nearer.core.episode import StepsToGoPrediction
from nearer.datasets.caching.parts import write_in_parts
from nearer.datasets.caching.predictions import KeptPredictions
from nearer.datasets.lerobot.reader import open_dataset

SAMPLE = Path(__file__).parents[1] / "data/lerobot_v3/image"


class Stopped(Exception):
    """A process ended."""


class Rows:
    """Makes rows of an array, and notes which; stops before row `stop`."""

    def __init__(self, stop: int = 100) -> None:
        self.made: list[int] = []
        self._stop = stop

    def __call__(self, rows: slice) -> Array:
        if rows.start >= self._stop:
            raise Stopped
        self.made.append(rows.start)
        index = np.arange(rows.start, rows.stop, dtype=np.float32)
        return np.stack([index, -index], axis=1)


def expect_stop(path: Path, rows: Rows) -> None:
    try:
        write_in_parts(path, (10, 2), "float32", 3, rows)
    except Stopped:
        return
    raise AssertionError("nothing stopped")


def test_write_in_parts_makes_what_is_missing_or_damaged(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    expect_stop(path, Rows(stop=6))
    assert not path.exists()
    first, second = sorted(tmp_path.iterdir())
    first.write_bytes(first.read_bytes()[:-4])
    continued = Rows()
    write_in_parts(path, (10, 2), "float32", 3, continued)
    assert continued.made == [0, 6, 9]
    index = np.arange(10, dtype=np.float32)
    np.testing.assert_array_equal(np.load(path), np.stack([index, -index], axis=1))
    assert not second.exists()


def test_predictions_are_kept_under_the_model_that_made_them(tmp_path: Path) -> None:
    dataset = open_dataset(SAMPLE)

    def predict_all(value: float) -> StepsToGoPrediction:
        def predict(rows: slice) -> StepsToGoPrediction:
            filled = np.full(rows.stop - rows.start, value, np.float32)
            return StepsToGoPrediction(
                mean=filled, std=filled + 1, quantiles=filled[:, None] + np.float32([2, 3, 4])
            )

        return KeptPredictions(dataset, f"model {value % 10}", tmp_path).open(predict, 7)

    first = predict_all(1.0)
    assert first.mean.shape == (dataset.info.total_frames,)
    assert (first.mean[0], first.std[0], *first.quantiles[0]) == (1, 2, 3, 4, 5)
    assert predict_all(2.0).mean[0] == 2
    assert predict_all(11.0).mean[0] == 1  # the same name: what was kept
    KeptPredictions(dataset, "model 1.0", tmp_path).delete()
    assert predict_all(11.0).mean[0] == 11
