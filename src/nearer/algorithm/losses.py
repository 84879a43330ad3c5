"""What is minimised, per element and without hidden state; the loops take the mean."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def behavioural_cloning_loss(log_prob: Float[Tensor, "samples"]) -> Float[Tensor, "samples"]:
    """Return -log p_action(a_t | o_t, g), the first Stage-1 objective (paper, section 3.1)."""
    return -log_prob


def steps_to_go_loss(
    logits: Float[Tensor, "samples bins"], bin_index: Int[Tensor, "samples"]
) -> Float[Tensor, "samples"]:
    """Return -log p_steps-to-go(t' - t | o_t, g), the second Stage-1 objective.

    Args:
        logits: unnormalised log-probabilities of the bins.
        bin_index: the bin of t' - t, from `StepsToGoBins.index`; never the raw step count.
    """
    return torch.nn.functional.cross_entropy(logits, bin_index, reduction="none")


def instruction_loss(scores: Float[Tensor, "samples candidates"]) -> Float[Tensor, "samples"]:
    """Return -log p(g | o_0, o_T), the third Stage-1 objective (paper, section on LanguageTable).

        p(g | o_0, o_T) = softmax of the scores of all candidates, at g

    The paper's model generates the instruction; here g is classified among candidates.

    Args:
        scores: unnormalised log-probabilities of an episode's candidates, of its own one first.
    """
    return -scores.log_softmax(dim=1)[:, 0]


def reinforce_loss(
    log_prob: Float[Tensor, "samples"], returns: Float[Tensor, "samples"], scale: float
) -> Float[Tensor, "samples"]:
    """Return the Stage-2 objective of algorithm 1.

        L_RL = - c * R_t * log p_action(a_t | o_t, g)                      (paper, section 3.2)

    Args:
        log_prob: under the policy being trained.
        returns: R_t in control steps; the baseline is already inside (docs/method.md).
        scale: c, 0.05 in the paper; chosen so that c * R_t lies about in [-1, 1].
    """
    return -scale * returns * log_prob


def ppo_loss(
    log_prob: Float[Tensor, "samples"],
    log_prob_acted: Float[Tensor, "samples"],
    returns: Float[Tensor, "samples"],
    scale: float,
    clip: float,
) -> Float[Tensor, "samples"]:
    """Return the clipped surrogate of Schulman et al. 2017 (arXiv:1707.06347, eq. 7).

    Deviates from algorithm 1, which has no importance weights. At the first update after
    collecting, its gradient equals that of `reinforce_loss`.

    Args:
        log_prob: under the policy being trained.
        log_prob_acted: under the policy that acted, kept with the episode.
        returns: R_t in control steps, in place of an advantage.
        scale: c, as in `reinforce_loss`.
        clip: how far the ratio of probabilities may move from 1 before its gradient is cut.
    """
    ratio = (log_prob - log_prob_acted).exp()
    weight = scale * returns
    return -torch.minimum(ratio * weight, ratio.clamp(1 - clip, 1 + clip) * weight)


def truncated_importance_loss(
    log_prob: Float[Tensor, "samples"],
    log_prob_acted: Float[Tensor, "samples"],
    returns: Float[Tensor, "samples"],
    scale: float,
    cap: float,
) -> Float[Tensor, "samples"]:
    """Return `reinforce_loss` of samples of an older policy, weighted by how likely they are now.

        rho_t = min(cap, p_action(a_t | o_t, g) / p_acted(a_t | o_t, g))
        L     = rho_t * L_RL,  rho_t without a gradient

    Deviates from algorithm 1, which never learns from another version's samples. The truncation is
    that of Espeholt et al. 2018 (arXiv:1802.01561, section 4.1, with returns in place of v-trace).

    Args:
        log_prob: under the policy being trained.
        log_prob_acted: under the policy that acted, kept with the episode.
        returns: R_t in control steps.
        scale: c, as in `reinforce_loss`.
        cap: of the weights; bounds their variance at the price of a bias.
    """
    weight = (log_prob.detach() - log_prob_acted).exp().clamp(max=cap)
    return weight * reinforce_loss(log_prob, returns, scale)
