"""Settings of Stage 2: algorithm 1's own, and the deviations from it, which have names."""

from dataclasses import dataclass, field
from typing import Literal

from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueBaseline:
    """How the baseline of `--deviate.baseline value` is fitted, anew in every iteration.

    Attributes:
        iterations: before the present one that it is fitted to.
        hidden: width of each of its two hidden layers.
        updates: gradient updates.
        batch_size: samples an update.
        learning_rate: AdamW's, constant.
        weight_decay: AdamW's.
    """

    iterations: int = 8
    hidden: int = 128
    updates: int = 240
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="deviate.value-baseline.",
            iterations="[1, inf)",
            hidden="[1, inf)",
            updates="[1, inf)",
            batch_size="[1, inf)",
            learning_rate="(0, inf)",
            weight_decay="[0, inf)",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviations:
    """Options that leave algorithm 1. With the defaults, nothing does.

    Attributes:
        ppo_clip: PPO, clipped at 1 +- this; 0: REINFORCE.
        importance_cap: largest weight of older policies' samples; 0: none.
        success_bonus: steps added to the last reward of a success; 0: none.
        end_on_ground_truth: episodes end on success, which practice then sees.
        past_iterations: iterations used again, off-policy; 0 is off.
        epochs: times that samples are used; above 1 is off-policy.
        baseline: subtracted from returns: their mean, or a learned value.
        value_baseline: how that value is learned.
    """

    ppo_clip: float = 0.0
    importance_cap: float = 0.0
    success_bonus: float = 0.0
    end_on_ground_truth: bool = False
    past_iterations: int = 0
    epochs: int = 1
    baseline: Literal["none", "mean", "value"] = "none"
    value_baseline: ValueBaseline = field(default_factory=ValueBaseline)

    def __post_init__(self) -> None:
        check_settings(
            self,
            prefix="deviate.",
            ppo_clip="[0, 1)",
            importance_cap="[0, inf)",
            success_bonus="[0, inf)",
            past_iterations="[0, inf)",
            epochs="[1, inf)",
        )
        if self.ppo_clip and self.importance_cap:
            raise ConfigError(
                "--deviate.importance-cap must be 0 with --deviate.ppo-clip, which weighs samples "
                f"too, got {self.importance_cap}; leave one of them out"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """How Stage 2 practises and learns.

    Attributes:
        max_env_steps: control steps in all, unless a plateau comes first.
        updates_per_iteration: N, gradient updates an iteration.
        batch_size: B, samples an update, of at least N * B decisions.
        accumulate: parts of a batch; more take less memory.
        learning_rate: AdamW's, constant.
        weight_decay: AdamW's.
        max_gradient_norm: gradients are scaled down to this norm.
        discount: gamma of the returns; 1 telescopes and does not work.
        return_scale: c; c * R_t should lie about in [-1, 1].
        max_steps: control steps an episode may take.
        seed: of starts, actions and minibatches.
        processes: of torchrun; ddp: each learns a part of every batch.
    """

    max_env_steps: int = 131_072
    updates_per_iteration: int = 16
    batch_size: int = 64
    accumulate: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    max_gradient_norm: float = 1.0
    discount: float = 0.9
    return_scale: float = 0.05
    max_steps: int = 140
    seed: int = 0
    processes: Literal["one", "ddp"] = "one"

    def __post_init__(self) -> None:
        check_settings(
            self,
            max_env_steps="[1, inf)",
            updates_per_iteration="[1, inf)",
            batch_size="[1, inf)",
            accumulate=f"[1, {self.batch_size}]",
            learning_rate="(0, inf)",
            weight_decay="[0, inf)",
            max_gradient_norm="(0, inf)",
            return_scale="(0, inf)",
            max_steps="[1, inf)",
            seed="[0, inf)",
        )
        if not 0 <= self.discount < 1:
            raise ConfigError(
                f"--discount must lie in [0, 1), got {self.discount}; at 1 the return telescopes "
                "and hardly anything is learned, the paper uses 0.9"
            )

    @property
    def samples_per_iteration(self) -> int:
        """Return N * B."""
        return self.updates_per_iteration * self.batch_size

    def check_parts(self, num_processes: int) -> None:
        """Raise ConfigError unless each part of a minibatch has a sample."""
        parts = self.accumulate * num_processes
        if self.batch_size < parts:
            raise ConfigError(
                f"--batch-size must be a sample or more for each of {parts} parts (--accumulate "
                f"times the processes), got {self.batch_size}; raise it, or start fewer"
            )

    def has_room(self, env_steps: int, num_robots: int, chunk: int) -> bool:
        """Tell whether one more iteration surely stays within `max_env_steps`.

        Args:
            env_steps: control steps so far.
            num_robots: each may be in the middle of an episode when the iteration is full.
            chunk: control steps a decision; a decision is one sample.
        """
        return env_steps + self._longest_iteration(num_robots, chunk) <= self.max_env_steps

    def check_room(self, num_robots: int, chunk: int = 1) -> None:
        """Raise ConfigError unless the first iteration surely stays within `max_env_steps`."""
        if not self.has_room(0, num_robots, chunk):
            longest = self._longest_iteration(num_robots, chunk)
            chunks = f" decisions of {chunk} control steps" if chunk > 1 else ""
            raise ConfigError(
                f"--max-env-steps must be {longest} or more, which one iteration may take (N * B"
                f"{chunks}, and an episode of --max-steps for each of {num_robots} robots), got "
                f"{self.max_env_steps}; raise it or lower the others"
            )

    def _longest_iteration(self, num_robots: int, chunk: int) -> int:
        return chunk * self.samples_per_iteration + num_robots * self.max_steps
