"""Temporal consistency: which of two peaks is the object, given where it was before.

`track` uses the frames so far, as a robot must; `most_probable_path` uses a whole recorded episode.

The paper's model sees the previous frame, too. Here the previous frame gives each object's
position: in a fifth of a second objects move by centimetres, so a peak across the table is another
object, detected because the effector occludes the right one. Measured on demonstrations, this
halves the encodings that are wrong near contact (docs/log.md).
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from nearer.core.arrays import Array
from nearer.models.pointing.tower import peaks

NUM_PEAKS = 2
_MIN_DISTANCE_CELLS = 5.0
"""The second peak is the highest at least so far from the first."""
_MOTION_STD = 0.03
"""Standard deviation of an object's motion between two frames, in image heights."""
_JUMP_WEIGHT = 0.02
"""Relative weight of a jump across the image, which corrects a wrong previous position."""
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
    before: Float32[Array, "robots slots 3"] | None,
    candidates: Float32[Array, "robots slots 2 3"],
    aspect: float,
) -> Float32[Array, "robots slots 3"]:
    """Return the peak of every slot that is most probable given its position before.

        score = log p + log(w + exp(-distance^2 / 2 sigma^2))

    with p the peak's softmax probability, w the weight of a jump, sigma the motion's standard
    deviation: a random walk with outliers.

    Args:
        before: what this returned for the previous frame; None at the start of an episode, where
            the highest peak is taken.
        candidates: from `two_peaks`.
        aspect: width of the images over their height.
    """
    if before is None:
        return candidates[:, :, 0]
    offsets = candidates[..., :2] - before[:, :, None, :2]
    squared = (offsets[..., 0] * aspect) ** 2 + offsets[..., 1] ** 2  # in image heights
    motion = np.log(_JUMP_WEIGHT + np.exp(-squared / 2 / _MOTION_STD**2))
    score = np.log(candidates[..., 2] + _MIN_PROBABILITY) + motion
    best = score.argmax(axis=2)[..., None, None]
    return np.take_along_axis(candidates, best, axis=2)[:, :, 0]


def most_probable_path(
    encodings: Float32[Array, "frames slots 2 3"], aspect: float
) -> Float32[Array, "frames slots 3"]:
    """Return the most probable path of every object through an episode, with hindsight.

    Maximises the sum of the scores of `track` over whole paths: a frame in which an object is
    occluded is decided by those before and after it.

    Source: Viterbi 1967, IEEE Transactions on Information Theory 13 (2), 260-269; the hidden state
    is which of the two peaks is the object.

    Args:
        encodings: from `two_peaks`, every frame of one episode.
        aspect: width of the images over their height.
    """
    scale = np.array([aspect, 1.0], dtype=np.float32)
    positions = encodings[..., :2] * scale  # in image heights
    log_p = np.log(encodings[..., 2] + _MIN_PROBABILITY)
    best = log_p[0]  # best score of a path that ends in each peak
    back_pointers: list[Int64[Array, "slots 2"]] = []
    for now in range(1, len(encodings)):
        # Axes: slots, peak in this frame, peak in the previous frame.
        offsets = positions[now, :, :, None] - positions[now - 1, :, None]
        motion = np.log(_JUMP_WEIGHT + np.exp(-(offsets**2).sum(axis=-1) / 2 / _MOTION_STD**2))
        paths = best[:, None, :] + motion
        back_pointers.append(paths.argmax(axis=2))
        best = paths.max(axis=2) + log_p[now]
    # From the best last peak backwards.
    peak = best.argmax(axis=1)
    path = [peak]
    for back in reversed(back_pointers):
        peak = np.take_along_axis(back, peak[:, None], axis=1)[:, 0]
        path.append(peak)
    index = np.stack(path[::-1])[..., None, None]
    return np.take_along_axis(encodings, index, axis=2)[:, :, 0]
