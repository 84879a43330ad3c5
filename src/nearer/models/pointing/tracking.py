"""Where an object is, given the frames so far: a Bayes filter over a few hypotheses an object.

The paper's model sees the previous frame, too. Here the previous frame gives, for each object, up
to three positions and the probability of each. From one frame to the next an object

    is seen        at a peak of this frame's softmax, near where it was
    is hidden      and stays where it was, or moves with the effector that pushes it
    was elsewhere  and is seen at a peak that is far from all hypotheses: rare, a correction

An object is hidden where the effector covers it: just above the effector in the image, for a camera
above the table. The softmax then points at another object with high probability,
frame after frame for the same reason, so its logarithm counts for less than independent evidence.

`track` is the filter, one frame at a time, as a robot must. `smoothed_paths` is for recorded
episodes: the filter forwards and backwards, and where both agree. Constants are measured on
trial rollouts (docs/log.md). Positions are in image heights.

Source: Thrun, Burgard and Fox 2005, Probabilistic Robotics, section 2.4, for the filter; keeping
the likeliest few hypotheses is that of Reid 1979, IEEE Transactions on Automatic Control 24 (6).
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from torch import Tensor

from nearer.core.arrays import Array
from nearer.core.vision import track_episodes
from nearer.models.pointing.tower import EFFECTOR, peaks

NUM_PEAKS = 2
NUM_HYPOTHESES = 3
_MIN_DISTANCE_CELLS = 5.0
"""The second peak is the highest at least so far from the first."""
_MOTION_STD = 0.03
"""Standard deviation of an object's motion between two frames."""
_CORRECTION = 1e-5
"""Probability that an object was elsewhere, which corrects a wrong start."""
_EVIDENCE = 0.3
"""Power of a softmax probability: errors of consecutive frames are not independent."""
_HIDDEN, _COVERED = 0.003, 0.5
"""Probability that an object is hidden anywhere, and in addition behind the effector."""
_COVER_WIDTH, _COVER_HEIGHT, _COVER_ABOVE = 0.035, 0.04, 0.045
"""The region behind the effector: half-widths of a Gaussian, and how far above its point."""
_CONTACT = 0.085
"""An object that is closer to the effector may be pushed by it."""
_PUSHED = 0.5
"""Probability that it moves as the effector does, while it is hidden."""
_SAME = 0.025
"""Closer hypotheses are one, at the likelier place, with the probability of all."""
_AGREEMENT = 0.03
"""Forward and backward pass agree on an object where they are not further apart."""
_MIN_PROBABILITY = 1e-6  # a softmax underflows to 0, whose logarithm is -inf


def two_peaks(
    logits: Float[Tensor, "frames slots rows columns"],
) -> Float[Tensor, "frames slots 2 3"]:
    """Return u, v and softmax probability of the two highest peaks."""
    rows, columns = logits.shape[2:]
    first = peaks(logits)
    # Distance of every cell's centre to the first peak, in cells.
    y = torch.arange(rows)[:, None] + 0.5 - first[..., 1, None, None] * rows
    x = torch.arange(columns) + 0.5 - first[..., 0, None, None] * columns
    rest = logits.float().masked_fill(y.square() + x.square() < _MIN_DISTANCE_CELLS**2, -1e9)
    second = peaks(rest)
    # `peaks` normalises over the cells that are left; convert to the softmax over all cells.
    left = rest.flatten(2).logsumexp(dim=2) - logits.float().flatten(2).logsumexp(dim=2)
    second = torch.cat([second[..., :2], second[..., 2:] * left.exp()[..., None]], dim=2)
    return torch.stack([first, second], dim=2)


def track(
    before: Float32[Array, "robots slots hypotheses 3"] | None,
    candidates: Float32[Array, "robots slots 2 3"],
    aspect: float,
) -> Float32[Array, "robots slots hypotheses 3"]:
    """Return u, v and posterior probability of each object's hypotheses, the likeliest first.

        b'(peak j)   = q_j^e (c + sum_i b(i) (1 - h(i)) exp(-|x_i - y_j|^2 / 2 sigma^2))
        b'(hidden i) = b(i) h(i)

    with b the belief before, x_i its hypotheses (each as it stands and as it is pushed), h the
    probability that an object there is hidden, q_j and y_j probability and place of the peaks, c a
    correction, e the power of evidence.

    Args:
        before: what this returned for the previous frame; None at the start of an episode, where
            the peaks are the hypotheses.
        candidates: from `two_peaks`.
        aspect: width of the images over their height.
    """
    scale = np.array([aspect, 1.0], dtype=np.float32)
    seen = candidates[..., :2] * scale
    probability = candidates[..., 2] + np.float32(_MIN_PROBABILITY)
    if before is None:
        return _likeliest(seen, probability, scale)
    evidence = probability ** np.float32(_EVIDENCE)
    effector = seen[:, EFFECTOR, 0]
    places, belief = _moved(before[..., :2] * scale, before[..., 2], effector)
    hidden = _hidden(places, effector)
    squared = np.square(seen[:, :, None] - places[:, :, :, None]).sum(axis=-1)
    motion = np.exp(-squared / np.float32(2 * _MOTION_STD**2))
    reached = ((belief * (1 - hidden))[..., None] * motion).sum(axis=2)
    weights = [evidence * (reached + np.float32(_CORRECTION)), belief * hidden]
    places = np.concatenate([seen, places], axis=2)
    return _likeliest(places, np.concatenate(weights, axis=2), scale)


def smoothed_paths(
    encodings: Float32[Array, "frames slots 2 3"],
    episode_lengths: Int64[Array, "episodes"],
    aspect: float,
) -> tuple[Float32[Array, "frames slots 2"], Bool[Array, "frames slots"]]:
    """Return u, v of each object along recorded episodes, and in which frames to believe it.

    The filter runs forwards and backwards; a position is believed where both agree, so that an
    object that is hidden for some frames is placed only where it was seen before and after.

    Args:
        encodings: from `two_peaks`, one episode's frames after another's.
        episode_lengths: frames an episode.
        aspect: width of the images over their height.
    """
    step = partial(track, aspect=aspect)
    forwards = track_episodes(step, encodings, episode_lengths)[:, :, 0, :2]
    # Last frame first, of the last episode first.
    backwards = track_episodes(step, encodings[::-1], episode_lengths[::-1])[::-1, :, 0, :2]
    offsets = (forwards - backwards) * np.array([aspect, 1.0], dtype=np.float32)
    agree = np.square(offsets).sum(axis=-1) < _AGREEMENT**2
    return (forwards + backwards) / 2, agree


def behind_effector(
    points: Float32[Array, "frames slots 2"],
    effector: Float32[Array, "frames 2"],
    aspect: float,
) -> Float32[Array, "frames slots"]:
    """Return how much the effector covers a point: 1 in the middle of what it covers, to 0."""
    scale = np.array([aspect, 1.0], dtype=np.float32)
    return _cover(points * scale, effector * scale)


def _moved(places: Array, belief: Array, effector: Array) -> tuple[Array, Array]:
    """Return every hypothesis twice: where it was, and moved as the effector moved."""
    step = effector - places[:, EFFECTOR, 0]
    gap = np.square(places - places[:, EFFECTOR, :1][:, None]).sum(axis=-1)
    pushed = np.where(gap < _CONTACT**2, np.float32(_PUSHED), np.float32(0.0))
    pushed[:, EFFECTOR] = 0.0
    moved = places + step[:, None, None]
    return (
        np.concatenate([places, moved], axis=2),
        np.concatenate([belief * (1 - pushed), belief * pushed], axis=2),
    )


def _hidden(places: Array, effector: Array) -> Array:
    """Return the probability that an object at a place is not to be seen."""
    covered = _COVERED * _cover(places.reshape(len(places), -1, 2), effector)
    covered = covered.reshape(places.shape[:-1])
    covered[:, EFFECTOR] = 0.0  # nothing covers the effector
    return (_HIDDEN + covered).astype(np.float32)


def _cover(places: Array, effector: Array) -> Array:
    offset = places - effector[:, None]
    sideways, above = offset[..., 0], -offset[..., 1]  # v grows downwards
    exponent = (sideways / _COVER_WIDTH) ** 2 + ((above - _COVER_ABOVE) / _COVER_HEIGHT) ** 2
    return np.exp(-exponent / 2).astype(np.float32)


def _likeliest(places: Array, weights: Array, scale: Array) -> Array:
    """Return the likeliest hypotheses that are apart, their weights normalised, back as u, v."""
    left = weights.copy()
    likeliest_places: list[Array] = []
    likeliest_weights: list[Array] = []
    for _ in range(NUM_HYPOTHESES):
        best = left.argmax(axis=2)[..., None, None]
        place = np.take_along_axis(places, best, axis=2)
        same = np.square(places - place).sum(axis=-1) < _SAME**2
        likeliest_places.append(place)
        likeliest_weights.append(np.where(same, left, 0.0).sum(axis=2, keepdims=True))
        left = np.where(same, 0.0, left)
    total = np.concatenate(likeliest_weights, axis=2)
    posterior = total / total.sum(axis=2, keepdims=True)
    uv = np.concatenate(likeliest_places, axis=2) / scale
    return np.concatenate([uv, posterior[..., None]], axis=3).astype(np.float32)
