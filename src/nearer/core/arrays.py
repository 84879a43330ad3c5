"""Names of array axes, in one list, and the array types that carry them.

Axis words used in annotations:

    batch      independent items, any number of axes when written *batch
    robots     robots that act in the same control step, one env slot each
    obs        observations of one episode: one more than its steps
    steps      control steps of one episode: one action each
    samples    (o_t, a_t, g, R_t) tuples, in any order
    frames     rows of a data set: an observation and the action taken on it
    bins       steps-to-go bins
    candidates instructions that an episode may have had, its own one first
    state      numbers in a proprioceptive and environment state
    action     numbers in one action
    h w c      rows, columns and channels (RGB) of an image
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
"""A numpy array; pyright needs the parameters spelled out."""
