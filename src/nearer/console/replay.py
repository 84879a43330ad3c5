"""Episodes that were practised, to look at again: d, reward, how they ended, and clips of some."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.episode import Ended
from nearer.core.errors import NearerError
from nearer.datasets.lerobot.reader import Dataset, open_dataset, read_progress
from nearer.datasets.lerobot.schema import INFO_PATH
from nearer.runs.clips import clip_path
from nearer.runs.live import CURVE

_LISTED = 200
_ENDED = tuple(Ended)


class Replay:
    """The practised episodes of a run, read again when there are more.

    Args:
        run: folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._seen: tuple[int, int] | None = None
        self._dataset: Dataset | None = None
        self._progress: Mapping[str, Array] = {}

    def episodes(self) -> list[Mapping[str, object]]:
        """Return the newest episodes, newest first.

        Raises:
            NearerError: the episodes are damaged.
        """
        dataset = self._open()
        if dataset is None:
            return []
        numbers = range(len(dataset.episode_lengths))
        return [self._summary(dataset, number) for number in reversed(numbers[-_LISTED:])]

    def episode(self, number: int) -> Mapping[str, object]:
        """Return an episode with d, its spread and the rewards, at most `CURVE` points of each.

        Raises:
            NearerError: there is none of this number, or the episodes are damaged.
        """
        dataset = self._open()
        if dataset is None or not 0 <= number < len(dataset.episode_lengths):
            raise NearerError(
                f"there must be an episode {number}, got none; look at the list again"
            )
        frames = self._frames(dataset, number)
        length = frames.stop - frames.start
        rows = _evenly(length, min(length, CURVE))
        columns = {
            name: self._progress[name][frames][rows].astype(float).tolist()
            for name in ("steps_to_go", "steps_to_go_std", "reward")
        }
        return {**self._summary(dataset, number), **columns, "decisions": rows.tolist()}

    def clip(self, number: int) -> Path | None:
        """Return the clip of an episode, where it was filmed."""
        dataset = self._open()
        if dataset is None or not 0 <= number < len(dataset.episode_lengths):
            return None
        path = self._clip(self._frames(dataset, number).start)
        return path if path.exists() else None

    def _open(self) -> Dataset | None:
        info = self._run / "practice" / INFO_PATH
        try:
            status = os.stat(info)
        except OSError:  # nothing has been practised
            return None
        version = status.st_mtime_ns, status.st_size
        if version != self._seen:
            self._dataset = open_dataset(self._run / "practice")
            self._progress = read_progress(self._dataset) or {}
            self._seen = version
        return self._dataset if self._progress else None

    def _frames(self, dataset: Dataset, number: int) -> slice:
        start = int(dataset.episode_starts[number])
        return slice(start, start + int(dataset.episode_lengths[number]))

    def _summary(self, dataset: Dataset, number: int) -> Mapping[str, object]:
        frames = self._frames(dataset, number)
        first, last = frames.start, frames.stop - 1
        return {
            "episode": number,
            "iteration": int(self._progress["iteration"][first]),
            "robot": int(self._progress["robot"][first]),
            "instruction": dataset.task_of_episode(number),
            "ended": _ENDED[int(self._progress["ended"][first])].value.replace("_", " "),
            "length": last - first,
            "first_d": float(self._progress["steps_to_go"][first]),
            "last_d": float(self._progress["steps_to_go"][last]),
            "filmed": self._clip(first).exists(),
        }

    def _clip(self, frame: int) -> Path:
        iteration, seed = (int(self._progress[name][frame]) for name in ("iteration", "seed"))
        return clip_path(self._run, iteration, seed)


def _evenly(length: int, points: int) -> Int64[Array, "points"]:
    return np.linspace(0, length - 1, points).round().astype(np.int64)
