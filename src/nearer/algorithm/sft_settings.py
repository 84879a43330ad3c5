"""Settings of Stage 1."""

import math
from dataclasses import dataclass
from typing import Literal

from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings

Kind = Literal["one", "ddp", "fsdp"]
"""One process; the whole model in each of several; a part of it in each of several."""

LEARNING_RATE = 1e-3
"""AdamW's peak for a model whose trained part is small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTTraining:
    """How Stage 1 trains.

    Attributes:
        updates: gradient updates.
        batch_size: frames an objective and update.
        accumulate: parts of a batch, one after the other; more take less memory.
        processes: of torchrun; ddp: each has the whole model, fsdp: a part.
        learning_rate: AdamW's peak, after warm-up; falls to 0 on a half cosine; none: 1e-3, or 1e-4
            for a vision-language model.
        warmup_updates: updates over which the rate rises from 0.
        weight_decay: AdamW's.
        max_gradient_norm: gradients are scaled down to this norm.
        val_fraction: of the episodes, for validation and calibration.
        validate_every: updates between validations; each is also a checkpoint.
        policy_checkpoint: best held-out BC loss, or last: a late one may act better.
        reward_checkpoint: the same by steps-to-go loss; late is exact near the goal.
        other_instructions: wrong ones beside its own in the third objective; 0: off.
        leave_out: phrases; episodes whose instruction holds one are not used.
        seed: of split, minibatches and initial weights.
    """

    updates: int = 6144
    batch_size: int = 256
    accumulate: int = 1
    processes: Kind = "one"
    learning_rate: float | None = None
    warmup_updates: int = 128
    weight_decay: float = 1e-4
    max_gradient_norm: float = 10.0
    val_fraction: float = 0.1
    validate_every: int = 512
    policy_checkpoint: Literal["best", "last"] = "best"
    reward_checkpoint: Literal["best", "last"] = "best"
    other_instructions: int = 0
    leave_out: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(
            self,
            updates="[1, inf)",
            batch_size="[1, inf)",
            accumulate="[1, inf)",
            warmup_updates="[0, inf)",
            weight_decay="[0, inf)",
            max_gradient_norm="(0, inf)",
            val_fraction="(0, 1)",
            validate_every="[1, inf)",
            other_instructions="[0, inf)",
            seed="[0, inf)",
        )
        if any(not phrase.strip() for phrase in self.leave_out):
            raise ConfigError(
                f"--leave-out must be phrases with a word or more, got {self.leave_out}; leave the "
                "empty ones away"
            )
        if self.learning_rate is not None:
            check_settings(self, learning_rate="(0, inf)")

    def rate(self, update: int) -> float:
        """Return the learning rate of an update (0 is the first)."""
        warm = min(1.0, (update + 1) / max(1, self.warmup_updates))
        peak = self.learning_rate or LEARNING_RATE
        return peak * warm * 0.5 * (1 + math.cos(math.pi * update / self.updates))
