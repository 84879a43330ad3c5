"""The loop that trains a tower on minibatches of frames, in parts that the cores share."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nearer.core.callbacks import Progress, ProgressCallback
from nearer.models.parallel import parallel_map
from nearer.models.pointing.tower import PointingTower
from nearer.models.settings import SelfTrainingConfig

Part = TypeVar("Part")


def trainable_parameters(tower: PointingTower) -> list[nn.Parameter]:
    """Return the parameters of network and sentence encoder; a trunk of ImageNet's stays frozen."""
    network = tower.network.named_parameters()
    trained = [weight for name, weight in network if not name.startswith("trunk.")]
    return [*trained, *tower.words.parameters()]


def train_on_frames(
    weights: Sequence[nn.Parameter],
    loss_of: Callable[[Part], Float[Tensor, ""]],
    draw: Callable[[], Sequence[Part]],
    config: SelfTrainingConfig,
    updates: int,
    on_progress: ProgressCallback,
    *,
    stage: str,
    loss_name: str,
) -> None:
    """Train weights in place, and freeze them again.

    Args:
        weights: what is trained.
        loss_of: the mean loss of a part of a minibatch; parts are equally large.
        draw: returns the next minibatch, in parts.
        config: learning rate and so on.
        updates: steps of AdamW.
        on_progress: is called after every update.
        stage: of the progress.
        loss_name: of the loss in the progress.
    """
    for weight in weights:
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay
    )

    def loss_and_gradients(part: Part) -> tuple[Tensor, ...]:
        loss = loss_of(part)
        # autograd.grad, since threads must not add to the same .grad in an order of their own.
        return loss.detach(), *torch.autograd.grad(loss, weights, materialize_grads=True)

    for update in range(updates):
        factor = warmup_cosine(update, updates, config.warmup_updates)
        optimizer.param_groups[0]["lr"] = config.learning_rate * factor
        parts = parallel_map(loss_and_gradients, draw())
        loss, *gradients = (torch.stack(values).mean(dim=0) for values in zip(*parts, strict=True))
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(weights, config.max_gradient_norm)
        optimizer.step()
        values = {loss_name: f"{loss.item():.2f}"}
        on_progress(Progress(stage=stage, done=update + 1, total=updates, values=values))
    for weight in weights:
        weight.requires_grad_(False)


def warmup_cosine(update: int, updates: int, warmup_updates: int) -> float:
    """Return the factor of the peak learning rate: linear warm-up, then a half cosine to 0."""
    warmup = min(1.0, (update + 1) / warmup_updates)
    return warmup * 0.5 * (1 + math.cos(math.pi * update / updates))
