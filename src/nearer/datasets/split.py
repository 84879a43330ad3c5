"""Which episodes of a data set a run trains on: drawn once by nearer sft, kept in RUN/split.json.

Whoever needs to know later (held-out demonstrations of `nearer eval-reward`, results of a study)
reads that file; nobody draws again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from nearer.algorithm.demonstrations import draw_fraction, leave_out, split_episodes
from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.reader import Dataset
from nearer.runs.files import write_text
from nearer.runs.json_files import read_json_object

SPLIT = "split.json"
"""The file of a run that holds its split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSplit:
    """The episodes that a run uses, and which of them it holds out.

    Attributes:
        data_sha256: `contents_hash` of the data set.
        total_episodes: of the data set, used or not.
        episodes: rows of the episodes that the run uses, in the order in which it loads them.
        train: those of `episodes` that the model is trained on, in random order.
        validation: all others of `episodes`: they choose checkpoints and calibrate the detector.
    """

    data_sha256: str
    total_episodes: int
    episodes: Int64[Array, "episodes"]
    train: Int64[Array, "train"]
    validation: Int64[Array, "validation"]

    @property
    def not_trained_on(self) -> Int64[Array, "others"]:
        """Rows of the data set's episodes that are not trained on, in ascending order."""
        return np.setdiff1d(np.arange(self.total_episodes), self.train)

    @property
    def train_positions(self) -> Int64[Array, "train"]:
        """Where in `episodes` the training episodes are."""
        return self._positions(self.train)

    @property
    def validation_positions(self) -> Int64[Array, "validation"]:
        """Where in `episodes` the validation episodes are."""
        return self._positions(self.validation)

    def _positions(self, rows: Int64[Array, "rows"]) -> Int64[Array, "rows"]:
        ascending = np.argsort(self.episodes)
        return ascending[np.searchsorted(self.episodes, rows, sorter=ascending)]

    def to_json(self) -> dict[str, object]:
        """Return the split as JSON values."""
        return {
            "data_sha256": self.data_sha256,
            "total_episodes": self.total_episodes,
            "episodes": self.episodes.tolist(),
            "train": self.train.tolist(),
            "validation": self.validation.tolist(),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, object], path: Path) -> "TrainingSplit":
        """Return the split that `to_json` described.

        Args:
            document: the parsed JSON.
            path: where it came from, for the message.

        Raises:
            ConfigError: a key is missing or unknown, or the rows do not fit together.
        """
        names = {field.name for field in fields(cls)}
        if set(document) != names:
            raise ConfigError(
                f"{path} must have the keys {sorted(names)}, got {sorted(document)}; use a run of "
                "this version of nearer"
            )
        split = cls(
            data_sha256=str(document["data_sha256"]),
            total_episodes=_count(document["total_episodes"]),
            episodes=_rows(document["episodes"]),
            train=_rows(document["train"]),
            validation=_rows(document["validation"]),
        )
        if not split._is_consistent():
            raise ConfigError(
                f"{path} must name every used episode of the data set once, for training or for "
                "validation, got something else; restore the file, or start a new run"
            )
        return split

    def _is_consistent(self) -> bool:
        split = np.concatenate([self.train, self.validation])
        once = np.unique(split).size == split.size
        whole = np.array_equal(np.sort(split), np.sort(self.episodes))
        in_range = not np.setdiff1d(split, np.arange(self.total_episodes)).size
        return once and whole and in_range and min(len(self.train), len(self.validation)) > 0


def draw_split(
    dataset: Dataset,
    *,
    fraction: float,
    leave_out_phrases: Sequence[str],
    val_fraction: float,
    seed: int,
) -> TrainingSplit:
    """Return a random split of a data set's episodes.

    Args:
        dataset: whose episodes.
        fraction: of the episodes that is used, in (0, 1].
        leave_out_phrases: episodes whose instruction holds one of these are not used.
        val_fraction: of the used episodes that is held out for validation.
        seed: of both draws.

    Raises:
        ConfigError: fewer than two episodes are left, so that one part would be empty.
    """
    total = len(dataset.episode_lengths)
    drawn = draw_fraction(total, fraction, seed)
    instructions = [dataset.task_of_episode(int(row)) for row in drawn]
    episodes = leave_out(drawn, instructions, leave_out_phrases)
    train, validation = split_episodes(len(episodes), val_fraction, seed)
    return TrainingSplit(
        data_sha256=contents_hash(dataset),
        total_episodes=total,
        episodes=episodes,
        train=episodes[train],
        validation=episodes[validation],
    )


def write_split(run: Path, split: TrainingSplit) -> None:
    """Keep a split in a run's folder; raises NearerError where the disk does not take it."""
    write_text(run / SPLIT, json.dumps(split.to_json()) + "\n")


def read_split(run: Path) -> TrainingSplit:
    """Return the split that a run of nearer sft keeps.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    path = run / SPLIT
    advice = "name a run of nearer sft of this version, or restore the file"
    return TrainingSplit.from_json(read_json_object(path, advice), path)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0


def _rows(values: object) -> Int64[Array, "rows"]:
    """Return rows of episodes; none where the values are no list of whole numbers."""
    try:
        rows: Array = np.array(values)
    except ValueError:  # lists of different lengths
        return np.empty(0, dtype=np.int64)
    fits = rows.ndim == 1 and rows.dtype == np.int64
    return rows if fits else np.empty(0, dtype=np.int64)
