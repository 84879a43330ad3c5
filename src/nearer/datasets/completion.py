"""Where demonstrations end: many go on after success, while nothing moves.

Steps-to-go counts the steps to the last frame, so still frames at the end count as work that is
left, and the frame that is taken for the success comes too late.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, Int64

from nearer.core.arrays import Array
from nearer.datasets.lerobot.feature import ACTION, AGENT_POS, ENVIRONMENT_STATE
from nearer.datasets.lerobot.reader import Dataset

_STILL = 0.01
"""Of a number's range over the data set: what moves less has not moved."""
_LONG_TAIL_S = 0.5
_LEAST_FRAMES = 2


def still_steps(dataset: Dataset) -> Int64[Array, "episodes"]:
    """Return how many steps at the end of each episode change nothing.

    Nothing changes where every number of the state stays within a hundredth of its range from its
    last value; of the action, where there is no state.
    """
    numbers = _numbers(dataset)
    starts, lengths = dataset.episode_starts, dataset.episode_lengths
    episode = dataset.columns["episode_index"]
    last = numbers[starts + lengths - 1][episode]
    away = np.abs(numbers - last) > _STILL * np.ptp(numbers, axis=0)
    frame = np.arange(len(episode)) - starts[episode]
    # One after the last frame that is elsewhere; 0 where all frames are at the end already.
    arrival = np.maximum.reduceat(np.where(away.any(axis=1), frame + 1, 0), starts)
    return np.maximum(lengths - 1 - arrival, 0)


def cut_after_completion(dataset: Dataset, kept_steps: int) -> Dataset:
    """Return the data set with fewer still frames at the end of its episodes.

    Args:
        dataset: whose episodes.
        kept_steps: that an episode keeps after the last movement.
    """
    dropped = np.maximum(still_steps(dataset) - kept_steps, 0)
    lengths = np.maximum(dataset.episode_lengths - dropped, _LEAST_FRAMES)
    return replace(dataset, episode_lengths=lengths)


def still_tails(dataset: Dataset) -> str | None:
    """Return a sentence about demonstrations that go on while nothing moves; None if none do."""
    still = still_steps(dataset)
    long = still > _LONG_TAIL_S * dataset.info.fps
    if not long.any():
        return None
    return (
        f"{int(long.sum())} of {len(still)} demonstrations go on for {int(still[long].sum()):,} "
        f"frames in which nothing moves, each for more than {_LONG_TAIL_S} s: they count as steps "
        "to go; --completion-cutoff STEPS keeps so many of them"
    )


def _numbers(dataset: Dataset) -> Float64[Array, "frames numbers"]:
    """Return what tells whether something moves."""
    keys = [key for key in (AGENT_POS, ENVIRONMENT_STATE) if key in dataset.columns] or [ACTION]
    rows = len(dataset.columns["episode_index"])
    parts = [dataset.columns[key].reshape(rows, -1) for key in keys]
    numbers = np.concatenate(parts, axis=1, dtype=np.float64)
    if keys == [ACTION]:  # the last frame's action is never carried out
        ends = dataset.episode_starts + dataset.episode_lengths - 1
        numbers[ends] = numbers[np.maximum(ends - 1, dataset.episode_starts)]
    return numbers
