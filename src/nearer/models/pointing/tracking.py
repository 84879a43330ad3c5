"""Keeping an eye on things: which of two peaks a look means, given where the thing was before.

`follow` knows the frames so far, as a robot does; `trace` knows a whole episode, as its recording
does.

The paper shows its model the frame before as well. Here the frame before says where each thing
was: in a fifth of a second things move by centimetres, so a peak across the table is another
thing, seen because the effector hides the right one. Measured on demonstrations, this halves the
looks that are wrong near contact (docs/log.md).
"""

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from nearer.core.arrays import Array
from nearer.models.pointing.tower import peaks

NUM_PEAKS = 2
_APART_CELLS = 5.0
"""The second peak is the highest at least so far from the first."""
_REACH = 0.03
"""How far things get between two frames (standard deviation), in heights of the picture."""
_LEAP = 0.02
"""Weight of a leap across the picture, which is possible after a wrong look."""


def two_peaks(
    logits: Float[Tensor, "frames slots rows columns"],
) -> Float[Tensor, "frames slots 2 3"]:
    """Return u, v and share of the softmax of the two highest peaks."""
    rows, columns = logits.shape[2:]
    first = peaks(logits)
    y = torch.arange(rows)[:, None] + 0.5 - first[..., 1, None, None] * rows
    x = torch.arange(columns) + 0.5 - first[..., 0, None, None] * columns
    rest = logits.float().masked_fill(y.square() + x.square() < _APART_CELLS**2, -1e9)
    second = peaks(rest)
    left = rest.flatten(2).logsumexp(dim=2) - logits.float().flatten(2).logsumexp(dim=2)
    second = torch.cat([second[..., :2], second[..., 2:] * left.exp()[..., None]], dim=2)
    return torch.stack([first, second], dim=2)


def track(
    before: Float32[Array, "robots slots 3"] | None,
    seen: Float32[Array, "robots slots 2 3"],
    aspect: float,
) -> Float32[Array, "robots slots 3"]:
    """Return the peak of every slot that fits best with where it was before.

        score = log share + log(leap + exp(-distance^2 / 2 reach^2))

    Args:
        before: what this returned for the frame before; None at the start of an episode, where
            the highest peak counts.
        seen: from `two_peaks`.
        aspect: width of the pictures over their height.
    """
    if before is None:
        return seen[:, :, 0]
    gaps = seen[..., :2] - before[:, :, None, :2]
    squared = (gaps[..., 0] * aspect) ** 2 + gaps[..., 1] ** 2
    score = np.log(seen[..., 2] + 1e-6) + np.log(_LEAP + np.exp(-squared / 2 / _REACH**2))
    best = score.argmax(axis=2)[..., None, None]
    return np.take_along_axis(seen, best, axis=2)[:, :, 0]


def trace(
    encodings: Float32[Array, "frames slots 2 3"], aspect: float
) -> Float32[Array, "frames slots 3"]:
    """Return the most probable path of every thing through an episode, with hindsight.

    Maximises the sum of the scores of `follow` over whole paths (Viterbi's algorithm): a frame in
    which a thing is hidden is settled by those before and after it.

    Args:
        encodings: from `two_peaks`, every frame of one episode.
        aspect: width of the pictures over their height.
    """
    scale = np.array([aspect, 1.0], dtype=np.float32)
    places = encodings[..., :2] * scale
    fits = np.log(encodings[..., 2] + 1e-6)
    best = fits[0]
    came_from: list[Int64[Array, "slots 2"]] = []
    for now in range(1, len(encodings)):
        gaps = places[now, :, :, None] - places[now - 1, :, None]
        near = np.log(_LEAP + np.exp(-(gaps**2).sum(axis=-1) / 2 / _REACH**2))
        paths = best[:, None, :] + near  # slots, peak now, peak before
        came_from.append(paths.argmax(axis=2))
        best = paths.max(axis=2) + fits[now]
    peak = best.argmax(axis=1)
    chosen = [peak]
    for back in reversed(came_from):
        peak = np.take_along_axis(back, peak[:, None], axis=1)[:, 0]
        chosen.append(peak)
    index = np.stack(chosen[::-1])[..., None, None]
    return np.take_along_axis(encodings, index, axis=2)[:, :, 0]
