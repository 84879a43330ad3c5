"""Does a model keep the contract of `nearer.algorithm.model.FoundationModel`?"""

import numpy as np
import torch

from nearer.algorithm.model import FoundationModel, Inputs


def check_model(model: FoundationModel, inputs: Inputs) -> None:
    """Check that a model keeps the contract of `nearer.algorithm.model.FoundationModel`.

    Sampling depends on nothing but the generators, log-probabilities of sampled actions are
    exact, and steps-to-go logits have a row an observation and a column a bin.

    Raises:
        AssertionError: names what is broken.
    """
    rows = len(inputs.state)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, _generators(rows))
        again, _ = model.sample(inputs, _generators(rows))
        assert torch.equal(actions, again), "the same generators must give the same actions"
        assert actions.shape == (rows, model.spaces.action), f"actions have shape {actions.shape}"
        exact = model.log_prob(inputs, actions)
        assert torch.allclose(log_prob, exact, atol=1e-3), (
            f"sample and log_prob must agree, got {log_prob} and {exact}"
        )
        logits = model.steps_to_go_logits(inputs)
        assert logits.shape == (rows, model.bins.count), f"logits have shape {logits.shape}"
        assert bool(logits.isfinite().all()), "logits must be finite"


def _generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng([7, row]) for row in range(count)]
