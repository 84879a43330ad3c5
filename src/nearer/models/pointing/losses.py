"""What pretraining minimises: pointing, naming what is there, matching captions."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy


def pointing_loss(
    logits: Float[Tensor, "frames num_sentences slots rows columns"],
    points: Float[Tensor, "frames num_sentences slots matches 2"],
    weights: Float[Tensor, "frames num_sentences slots matches"],
) -> Float[Tensor, "slots"]:
    """Return the mean cross-entropy of each slot's softmax over cells against its target.

        L = - sum_m w_m sum_c b_mc log p_c

    where b_mc shares point m among the four cells around it, bilinearly, so that the expectation
    over cells is the point itself.
    """
    rows, columns = logits.shape[-2:]
    log_p = logits.flatten(3).log_softmax(dim=3)
    x = (points[..., 0] * columns - 0.5).clamp(0, columns - 1)
    y = (points[..., 1] * rows - 0.5).clamp(0, rows - 1)
    left, top = x.floor().clamp(max=columns - 2), y.floor().clamp(max=rows - 2)
    loss = weights.new_zeros(weights.shape[:3])
    for right in (0, 1):
        for below in (0, 1):
            share = (1 - (x - left - right).abs()) * (1 - (y - top - below).abs())
            index = ((top + below) * columns + left + right).long()
            loss = loss - (weights * share * log_p.gather(3, index)).sum(dim=3)
    asked = weights.sum(dim=3) > 0
    return (loss * asked).sum(dim=(0, 1)) / asked.sum(dim=(0, 1)).clamp(min=1)


def matching_loss(
    keys: Float[Tensor, "frames width rows columns"],
    queries: Float[Tensor, "frames slots width"],
    sharpness: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return InfoNCE between pictures and captions, both ways.

        S_ij = mean over slots of log mean over cells exp(sharpness q_j . k_i)

    Each mention of caption j looks for its best place in picture i, and the caption fits as well
    as they all do. Source: van den Oord et al. 2018, arXiv:1807.03748, for the loss; Yao et al.
    2022 (FILIP), arXiv:2111.07783, for scores that let words find their own places.
    """
    cells = keys.flatten(2)
    scores = sharpness * torch.einsum("jsw,iwc->ijsc", queries, cells)
    fits = (scores.logsumexp(dim=3) - math.log(cells.shape[2])).mean(dim=2)
    own = torch.arange(len(keys), device=keys.device)
    return (cross_entropy(fits, own) + cross_entropy(fits.T, own)) / 2


def naming_loss(
    at_things: Float[Tensor, "things width"],
    words: Float[Tensor, "words width"],
    right: Int[Tensor, "things"],
    sharpness: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return the cross-entropy of the right word at every thing's place, among all such words.

    Every thing in a picture teaches, not only those that a sentence names. Worth little: after 500
    updates without it, wrong things rose from 0.33 to 0.34, of unseen names from 0.33 to 0.36 (one
    seed, n = 300). Source: Li et al. 2022 (GLIP), arXiv:2112.03857, where regions meet words.
    """
    return cross_entropy(sharpness * at_things @ words.T, right)
