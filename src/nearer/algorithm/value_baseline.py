"""What an action was worth beyond what could be expected: a deviation from algorithm 1.

    A_t = R_t - b(o_t)

The return R_t contains d(o_t) itself, so where the frozen model is biased, all actions taken there
look good, or all bad. The baseline b is fitted to the returns of earlier iterations and learns this
bias; what is left depends more on the action. It is fitted anew in every iteration from stored
episodes, so there is no state to resume, and never to the returns that it is subtracted from.

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
from nearer.algorithm.improve_settings import ValueBaseline
from nearer.algorithm.model import FoundationModel


def subtract_expected_returns(
    settings: ValueBaseline,
    model: FoundationModel,
    fresh: Batch,
    past: Sequence[Batch],
    rng: np.random.Generator,
) -> Batch:
    """Return the samples with what was expected subtracted from their returns.

    Args:
        settings: of the value network.
        model: whose normalised inputs the network reads; not changed.
        fresh: of this iteration.
        past: of iterations before; without any, the mean return is what is expected.
        rng: of initial weights and minibatches.
    """
    if not past:
        return replace(fresh, returns=fresh.returns - fresh.returns.mean())
    earlier = join(past)
    with torch.no_grad():
        inputs = model.normalised_inputs(earlier.inputs)
        fresh_inputs = model.normalised_inputs(fresh.inputs)
    value = _fit_value_network(settings, inputs, earlier.returns, rng)
    with torch.no_grad():
        return replace(fresh, returns=fresh.returns - value(fresh_inputs).squeeze(1))


def _fit_value_network(
    settings: ValueBaseline,
    inputs: Float[Tensor, "samples inputs"],
    returns: Float[Tensor, "samples"],
    rng: np.random.Generator,
) -> nn.Sequential:
    """Return a small network that predicts the mean return from normalised inputs."""
    hidden = settings.hidden
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**62)))
        network = nn.Sequential(
            nn.Linear(inputs.shape[1], hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )
    mean, std = returns.mean(), returns.std() + 1e-6
    targets = (returns - mean) / std
    optimizer = torch.optim.AdamW(
        network.parameters(),
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    for _ in range(settings.updates):
        rows = torch.from_numpy(rng.integers(0, len(inputs), settings.batch_size))
        loss = (network(inputs[rows]).squeeze(1) - targets[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    last = network[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():  # in control steps, like the returns
        last.weight.mul_(std)
        last.bias.mul_(std).add_(mean)
    return network
