"""What an action was worth beyond what could be expected: a deviation from algorithm 1.

    A_t = R_t - b(o_t)

The return R_t holds d(o_t) itself, so where the frozen model misjudges a place, all actions taken
there seem good, or all bad. b, fitted to returns of iterations before, learns such misjudgements;
what is left says more of the action. It is fitted anew for every iteration from episodes that are
stored anyway, so there is no state to resume, and never to the returns it is subtracted from.

Source of the idea: Williams 1992 (REINFORCE with a baseline), section 5. The paper has no value
network: its baseline is -V(o_t) = d(o_t) alone (docs/method.md).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nearer.algorithm.batch import Batch, join
from nearer.algorithm.model import FoundationModel

_HIDDEN = 128
_UPDATES = 240
_BATCH_SIZE = 256
_LEARNING_RATE = 2e-3
_WEIGHT_DECAY = 1e-2


def less_expected(
    model: FoundationModel, fresh: Batch, past: Sequence[Batch], draw: np.random.Generator
) -> Batch:
    """Return the samples with what was expected subtracted from their returns.

    Args:
        model: whose facts the expectation is fitted to; not changed.
        fresh: of this iteration.
        past: of iterations before; without any, the mean return is what is expected.
        draw: of initial weights and minibatches.
    """
    if not past:
        return replace(fresh, returns=fresh.returns - fresh.returns.mean())
    known = join(past)
    with torch.no_grad():
        facts, asked = model.normalised_inputs(known.inputs), model.normalised_inputs(fresh.inputs)
    expected = _fitted(facts, known.returns, draw)
    with torch.no_grad():
        return replace(fresh, returns=fresh.returns - expected(asked).squeeze(1))


def _fitted(
    facts: Float[Tensor, "samples facts"],
    returns: Float[Tensor, "samples"],
    draw: np.random.Generator,
) -> nn.Sequential:
    """Return a small network that tells the mean return from facts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draw.integers(2**62)))
        network = nn.Sequential(
            nn.Linear(facts.shape[1], _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, 1),
        )
    mean, std = returns.mean(), returns.std() + 1e-6
    targets = (returns - mean) / std
    optimizer = torch.optim.AdamW(
        network.parameters(), _LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True
    )
    for _ in range(_UPDATES):
        rows = torch.from_numpy(draw.integers(0, len(facts), _BATCH_SIZE))
        loss = (network(facts[rows]).squeeze(1) - targets[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    last = network[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():  # in control steps, like the returns
        last.weight.mul_(std)
        last.bias.mul_(std).add_(mean)
    return network
