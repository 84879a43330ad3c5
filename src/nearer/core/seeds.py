"""Every random number of a run is a function of its seed, a purpose and an index.

So nothing has to be remembered to resume, and training never draws what evaluation draws.
"""

from collections.abc import Iterator
from enum import IntEnum
from itertools import count

import numpy as np


class Purpose(IntEnum):
    """What random numbers are for. Streams of different purposes are independent."""

    DEMONSTRATION = 0
    SFT_SPLIT = 1
    SFT_BATCH = 2
    CALIBRATION = 3
    PRACTICE = 4
    PRACTICE_BATCH = 5
    EVALUATION = 6
    AUDIT = 7
    WEIGHTS = 8
    ACTIONS = 9
    SFT_FRACTION = 10
    SFT_VISION_ENCODER = 11
    SFT_DROPOUT = 12
    SFT_CANDIDATES = 13
    PRACTICE_BASELINE = 14
    BASELINES = 15
    SERVING = 16
    BASELINE_INTERVALS = 17
    LABELLED_EPISODES = 18
    SFT_OBJECTIVES = 19
    PRACTICE_ACTORS = 20
    GOAL_REGION = 21
    KEYFRAMES = 22


def generator(purpose: Purpose, *keys: int) -> np.random.Generator:
    """Return the generator of this purpose and these keys (run seed, iteration, ...).

    A purpose has the same number of keys everywhere: a last key of 0 is the same as none.
    """
    return np.random.default_rng([int(purpose), *keys])


def episode_seed(purpose: Purpose, *keys: int) -> int:
    """Return a seed of 62 bits for one episode."""
    high, low = np.random.SeedSequence([int(purpose), *keys]).generate_state(2, np.uint32)
    return (int(high) << 30) ^ int(low)


def episode_seeds(purpose: Purpose, *keys: int) -> Iterator[int]:
    """Yield the seeds of episodes 0, 1, 2, ... of this purpose and these keys."""
    return (episode_seed(purpose, *keys, index) for index in count())
