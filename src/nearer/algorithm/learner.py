"""Line 3 of algorithm 1: N updates on minibatches of B, in one process or in several.

    torchrun --nproc-per-node 2 -m -- nearer improve ... --processes ddp

Of several processes the first has the robots, scores episodes and writes the run; the others get
the samples of each iteration from it. Each computes the gradients of its part of every minibatch,
and all take the same step.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nearer.algorithm.batch import Batch, minibatches
from nearer.algorithm.distributed import ONE, Processes
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.losses import ppo_loss, reinforce_loss, truncated_importance_loss
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.core.callbacks import graceful_interrupt
from nearer.core.errors import NearerError
from nearer.core.seeds import Purpose, generator

_NO_MORE: tuple[Batch, int] | None = None
"""What the others get in place of the samples of an iteration when practice has ended."""


def new_optimizer(practice: Practice, policy: FoundationModel) -> torch.optim.Optimizer:
    """Return AdamW without moments."""
    return torch.optim.AdamW(
        policy.parameters(), practice.learning_rate, weight_decay=practice.weight_decay, fused=True
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What the updates of an iteration came to.

    Attributes:
        loss: mean over updates.
        policy_change: mean of log p_acted(a | o, g) - log p(a | o, g) over the last epoch: an
            estimate of the divergence KL(acted || now), nats a decision.
    """

    loss: float
    policy_change: float


class Learner:
    """Updates a policy, in place.

    All processes begin with the weights and the moments of the first one.

    Args:
        practice: settings.
        deviations: from algorithm 1.
        policy: its weights are updated.
        optimizer: of all its parameters.
        processes: all of those that learn together.
    """

    def __init__(
        self,
        practice: Practice,
        deviations: Deviations,
        policy: FoundationModel,
        optimizer: torch.optim.Optimizer,
        processes: Processes = ONE,
    ) -> None:
        self._practice = practice
        self._deviations = deviations
        self._policy = policy
        self._optimizer = optimizer
        self._processes = processes
        self._log_prob = processes.spread(_LogProb(policy), some_unused=True)
        if processes.count > 1:
            optimizer.load_state_dict(processes.from_first(optimizer.state_dict()))

    def learn(self, buffer: Batch, iteration: int) -> Learned:
        """Take the updates of an iteration, in the first process.

        Raises:
            NearerError: the loss is not finite.
        """
        self._processes.from_first((buffer, iteration))
        learned = self._update_all(buffer, iteration)
        if not np.isfinite(learned.loss):
            raise NearerError(
                f"the loss must be finite, got {learned.loss} in iteration {iteration}; the "
                "checkpoints before it are unharmed, start again with a smaller learning rate"
            )
        return learned

    def follow(self) -> None:
        """Take the same updates as the first process, in another one, until it has finished."""
        with graceful_interrupt():  # the first one decides when to stop
            while (samples := self._processes.from_first(_NO_MORE)) is not None:
                self._update_all(*samples)

    def close(self) -> None:
        """Let the other processes finish."""
        self._processes.from_first(_NO_MORE)

    def _update_all(self, buffer: Batch, iteration: int) -> Learned:
        practice = self._practice
        rng = generator(Purpose.PRACTICE_BATCH, practice.seed, iteration)
        updates = [
            self._update(samples)
            for _ in range(self._deviations.epochs)
            for samples in minibatches(
                buffer, practice.updates_per_iteration, practice.batch_size, rng
            )
        ]
        last = updates[-practice.updates_per_iteration :]
        means = {
            "loss": torch.stack([loss for loss, _ in updates]).mean(),
            "policy_change": torch.stack([change for _, change in last]).mean(),
        }
        return Learned(**self._processes.total(means))

    def _update(self, samples: Batch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Take one update on a minibatch; return what this process adds to loss and change."""
        processes, practice = self._processes, self._practice
        self._optimizer.zero_grad()
        losses: list[Tensor] = []
        changes: list[Tensor] = []
        parts = processes.own_parts(samples.parts(processes.count * practice.accumulate))
        for number, part in parts:
            with processes.exchanging(self._log_prob, now=number == parts[-1][0]):
                weight = len(part) / len(samples)
                log_prob = self._log_prob(part.inputs, part.actions)
                loss = self._loss(part, log_prob).mean() * weight
                # Gradients become the mean over the processes, and are to be the sum.
                (loss * processes.count).backward()
            losses.append(loss.detach())
            changes.append((part.log_prob - log_prob.detach()).mean() * weight)
        nn.utils.clip_grad_norm_(self._policy.parameters(), practice.max_gradient_norm)
        self._optimizer.step()
        return torch.stack(losses).sum(), torch.stack(changes).sum()

    def _loss(self, samples: Batch, log_prob: Float[Tensor, "samples"]) -> Float[Tensor, "samples"]:
        deviations, before = self._deviations, samples.log_prob
        returns, scale = samples.returns, self._practice.return_scale
        if deviations.ppo_clip:
            return ppo_loss(log_prob, before, returns, scale, deviations.ppo_clip)
        if deviations.importance_cap:
            cap = deviations.importance_cap
            return truncated_importance_loss(log_prob, before, returns, scale, cap)
        return reinforce_loss(log_prob, returns, scale)


class _LogProb(nn.Module):
    """What of a policy is differentiated."""

    def __init__(self, policy: FoundationModel) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, inputs: Inputs, actions: Float[Tensor, "rows action"]) -> Tensor:
        """Return the log-probabilities of actions."""
        return self.policy.log_prob(inputs, actions)
