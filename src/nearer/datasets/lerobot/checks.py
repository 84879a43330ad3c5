"""What a data set must have before it can be trained on.

`open_dataset` has already refused files that are damaged or contradict each other: lengths and
`episode_index` against the data rows, shapes against info.json.
"""

import numpy as np

from nearer.core.errors import DatasetError
from nearer.core.instructions import MAX_CHARACTERS
from nearer.datasets.lerobot.feature import ACTION, AGENT_POS, ENVIRONMENT_STATE
from nearer.datasets.lerobot.reader import Dataset


def check_trainable(dataset: Dataset) -> None:
    """Raise DatasetError unless steps-to-go and actions can be learnt from the data set.

    It must have episodes and a feature `action`, every episode at least two frames (one step and
    its final observation), actions and states no NaN and no infinity, and instructions the length
    that `nearer serve` takes.
    """
    if not len(dataset.episode_lengths):
        raise DatasetError(f"{dataset.root} must hold episodes, got none; record some first")
    if ACTION not in dataset.columns:
        raise DatasetError(
            f"{dataset.root} must have a numeric feature 'action', got "
            f"{sorted(dataset.info.features)}; rename the feature that holds the actions"
        )
    short = np.flatnonzero(dataset.episode_lengths < 2)
    if len(short):
        raise DatasetError(
            f"every episode of {dataset.root} must have 2 frames or more, a step and its final "
            f"observation, got 1 in episode "
            f"{dataset.episode_numbers[short[0]]}; remove this episode"
        )
    for key in (ACTION, AGENT_POS, ENVIRONMENT_STATE):
        if key in dataset.columns:
            _check_finite(dataset, key)
    _check_instructions(dataset)


def _check_instructions(dataset: Dataset) -> None:
    for row, number in enumerate(dataset.episode_numbers.tolist()):
        length = len(dataset.task_of_episode(row))
        if length > MAX_CHARACTERS:
            raise DatasetError(
                f"an instruction must have at most {MAX_CHARACTERS} characters, as "
                f"many as nearer serve takes, got {length} in episode {number} of {dataset.root}; "
                "say it in a sentence"
            )


def _check_finite(dataset: Dataset, key: str) -> None:
    finite = np.isfinite(dataset.columns[key]).reshape(dataset.info.total_frames, -1)
    wrong = np.argwhere(~finite)
    if not len(wrong):
        return
    index, number = wrong[0].tolist()
    value = dataset.columns[key].reshape(dataset.info.total_frames, -1)[index, number]
    row = dataset.columns["episode_index"][index]
    episode, frame = dataset.episode_numbers[row], index - dataset.episode_starts[row]
    raise DatasetError(
        f"{key} must be finite, got {value} as number {number} in frame {frame} of episode "
        f"{episode} of {dataset.root}; remove this episode or repair its recording"
    )
