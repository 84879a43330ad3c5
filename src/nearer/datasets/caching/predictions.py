"""What a frozen model predicts for the frames of a data set, kept until labels are written of it.

Predicting takes hours where the model is a VLM. A process that continues after a kill predicts only
what its predecessor had not.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.episode import StepsToGoPrediction
from nearer.datasets.caching.arrays import CachedArray
from nearer.datasets.caching.parts import write_in_parts
from nearer.datasets.lerobot.reader import Dataset
from nearer.runs.provenance import git_revision, package_versions

_COLUMNS = 5  # mean, standard deviation, three quantiles


@dataclass(frozen=True, slots=True)
class KeptPredictions:
    """Predictions for all frames of a data set, one array of the cache.

    Attributes:
        dataset: whose frames.
        model: identity of the model that predicts, with its weights.
        cache: folder of all arrays; None for ~/.cache/nearer.
    """

    dataset: Dataset
    model: str
    cache: Path | None

    def open(
        self,
        predict: Callable[[slice], StepsToGoPrediction],
        rows_a_part: int,
        on_progress: ProgressCallback = ignore_progress,
    ) -> StepsToGoPrediction:
        """Return p(k | o, g) of every frame, summed up; predicted now where it has not been.

        Args:
            predict: predicts for these rows of the data set's frames.
            rows_a_part: predicted at once, and durable then.
            on_progress: sees the progress.

        Raises:
            DatasetError: the cache cannot be written, or the disk is full.
        """
        array = self._array
        total = array.shape[0]

        def make(path: Path) -> None:
            write_in_parts(path, (total, _COLUMNS), array.dtype, rows_a_part, predicted)

        def predicted(rows: slice) -> Array:
            on_progress(Progress(stage="labelling", done=rows.start, total=total))
            prediction = predict(rows)
            columns = (prediction.mean, prediction.std, *prediction.quantiles.T)
            return np.stack(columns, axis=1).astype(array.dtype)

        values = array.open(self.dataset, self.cache, make)
        on_progress(Progress(stage="labelling", done=total, total=total))
        return StepsToGoPrediction(
            mean=values[:, 0].copy(), std=values[:, 1].copy(), quantiles=values[:, 2:].copy()
        )

    def delete(self) -> None:
        """Delete them from the cache: labels have been written."""
        self._array.delete(self.dataset, self.cache)

    @property
    def _array(self) -> CachedArray:
        made_by = f"{self.model} {package_versions()['nearer']} {git_revision()}"
        name = hashlib.blake2b(f"{made_by}{self.dataset.view}".encode(), digest_size=16)
        return CachedArray(
            name=f"predictions-{name.hexdigest()}",
            shape=(self.dataset.info.total_frames, _COLUMNS),
            dtype="float32",
            mode="r",
        )
