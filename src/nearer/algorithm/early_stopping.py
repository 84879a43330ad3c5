"""When to stop practising, and which policy to keep.

Past the plateau the success of an over-optimised policy falls (paper, section 3.2), so the best
block of iterations is kept, not the last: that is `PlateauRule`, by what practice itself sees. An
alarm of the audits is what a person who watches would stop at, `AlarmStop`; it rests on ground
truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from nearer.core.settings import check_settings

OnAlarm = Literal["stop", "keep", "continue"]
"""What an alarm of the audits does to practice: it ends, it ends and the last policy before the
alarm becomes the run's, or it goes on and the alarm is written down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmStop:
    """How an alarm ended practice. It rests on ground truth, so whoever shows the run says so.

    Attributes:
        iteration: counted from 1, whose audit raised it.
        alarm: its sentence.
        policy_step: the last checkpoint before the alarm.
        kept: whether that checkpoint became the run's policy; else practice itself chose.
    """

    iteration: int
    alarm: str
    policy_step: int
    kept: bool


@runtime_checkable
class Iteration(Protocol):
    """What the rule needs to know of an iteration, as `IterationMetrics` has it."""

    @property
    def detected(self) -> int:
        """Count the episodes that the detector ended."""
        ...

    @property
    def env_steps(self) -> int:
        """Count the control steps."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateauRule:
    """Stop when detected successes per control step no longer grow.

    Iterations are taken in blocks; a block's score is its detected successes per 1,000 control
    steps, which grows as episodes succeed more often and as they take fewer steps.

    Attributes:
        block_iterations: iterations a block; each block's end is a checkpoint.
        patience_blocks: blocks without a better score before practice stops.
        min_gain: relative gain that counts as better.
        keep_all: every block's checkpoint stays.
        keep: best policy, or last and never stop early.
    """

    # keep: blocks of instructions that get harder from one to the next cannot be compared;
    # the best one would always be the first (docs/log.md).

    block_iterations: int = 8
    patience_blocks: int = 4
    min_gain: float = 0.02
    keep_all: bool = False
    keep: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        check_settings(
            self, block_iterations="[1, inf)", patience_blocks="[1, inf)", min_gain="[0, inf)"
        )

    def scores(self, history: Sequence[Iteration]) -> list[float]:
        """Return the score of every full block of a run's iterations."""
        size = self.block_iterations
        return [_score(history[i : i + size]) for i in range(0, len(history) - size + 1, size)]

    def best_step(self, history: Sequence[Iteration]) -> int:
        """Return the checkpoint to keep as the policy: the one that started the best block.

        The newest policy is a candidate too, with the score of the newest full block and all
        iterations after it. A block that collapses thus never hands its end over, and without a
        full block, or where nothing was ever detected, the policy that practice started with stays.
        """
        if self.keep == "last":
            return len(history)
        scores = self.scores(history)
        if not any(scores):
            return 0
        newest_block = (len(scores) - 1) * self.block_iterations
        if _score(history[newest_block:]) >= max(scores):
            return len(history)
        return _best(scores) * self.block_iterations

    def kept_steps(self, history: Sequence[Iteration]) -> tuple[int, ...]:
        """Return the checkpoints that `best_step` may yet name, besides the newest; or all.

        They started the best block so far and the block that is not full yet.
        """
        scores = self.scores(history)
        if self.keep_all:
            return tuple(block * self.block_iterations for block in range(len(scores) + 1))
        return _best(scores) * self.block_iterations, len(scores) * self.block_iterations

    def over(self, history: Sequence[Iteration]) -> bool:
        """Return whether the last `patience_blocks` blocks brought no gain over the best before."""
        scores = self.scores(history)
        if self.keep == "last" or len(scores) <= self.patience_blocks:
            return False
        best_before = max(scores[: -self.patience_blocks])
        return max(scores[-self.patience_blocks :]) < best_before * (1 + self.min_gain)


def _score(iterations: Sequence[Iteration]) -> float:
    """Return detected successes per 1,000 control steps."""
    detected = sum(metrics.detected for metrics in iterations)
    return 1000 * detected / sum(metrics.env_steps for metrics in iterations)


def _best(scores: Sequence[float]) -> int:
    """Return the last of the best scores' places; 0 where there is none yet."""
    return max(range(len(scores)), key=lambda place: (scores[place], place), default=0)
