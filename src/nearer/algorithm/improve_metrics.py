"""What an iteration of Stage 2 is measured by, as a value and as the record that a run keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from nearer.algorithm.learner import Learned
from nearer.algorithm.score import progress_of
from nearer.core.episode import Ended, ScoredEpisode
from nearer.core.errors import NearerError
from nearer.core.metrics import Metric, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What an audit reports to the loop.

    Attributes:
        metrics: to write down beside the iteration's own.
        alarm: a sentence if something is wrong.
    """

    metrics: Mapping[str, float | int] = field(default_factory=dict[str, float | int])
    alarm: str | None = None


@runtime_checkable
class Audits(Protocol):
    """Compares the detector with ground truth; practice learns nothing from it.

    It writes the result down, and ends where there is an alarm, unless it is to go on.
    """

    def check(self, iteration: int, scored: Sequence[ScoredEpisode]) -> AuditReport:
        """Audit an iteration's episodes if that is due."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IterationMetrics:
    """The metrics of one iteration of Stage 2. Env steps are control steps.

    Attributes:
        iteration: counted from 1.
        total_episodes, total_env_steps: of the run, this iteration included.
        episodes, env_steps: of this iteration.
        detected: episodes that the detector ended.
        progress_steps: mean of d(o_0) - d(o_T) over episodes.
        mean_return: mean of R_t over decisions.
        loss: mean over updates.
        entropy: of the policy that acted, nats a decision: mean of -log p(a | o, g) over samples.
        policy_change: by the updates, see `Learned`.
        actions_outside: actions beyond the env's limits, which it clips or refuses.
        audit: of the detector, where one was due.
    """

    iteration: int
    total_episodes: int
    total_env_steps: int
    episodes: int
    env_steps: int
    detected: int
    progress_steps: float
    mean_return: float
    loss: float
    entropy: float
    policy_change: float
    actions_outside: int
    audit: AuditReport = field(default_factory=AuditReport)

    @property
    def detected_success(self) -> float:
        """Return the fraction of episodes that the detector ended."""
        return self.detected / self.episodes

    @property
    def episode_length(self) -> float:
        """Return the mean length of an episode, in control steps."""
        return self.env_steps / self.episodes

    def to_record(self) -> Record:
        """Return the metrics by name, as they are logged."""
        record: dict[str, Metric] = {
            "step": self.iteration,
            "practice/episodes": self.total_episodes,
            "practice/env_steps": self.total_env_steps,
            "practice/iteration_episodes": self.episodes,
            "practice/iteration_env_steps": self.env_steps,
            "practice/detected": self.detected,
            "practice/detected_success": self.detected_success,
            "practice/episode_length": self.episode_length,
            "practice/progress_steps": self.progress_steps,
            "practice/return": self.mean_return,
            "practice/loss": self.loss,
            "practice/entropy": self.entropy,
            "practice/policy_change": self.policy_change,
            **self.audit.metrics,
        }
        if self.audit.alarm:
            record["alarm"] = self.audit.alarm
        return record | {"practice/actions_outside": self.actions_outside}

    @classmethod
    def from_record(cls, record: Record) -> "IterationMetrics":
        """Return the metrics that `to_record` made a record of.

        Raises:
            NearerError: a metric is missing or is no number.
        """

        def number(name: str) -> float:
            value = record.get(name)
            if not isinstance(value, float | int):
                raise NearerError(
                    f"every record of Stage 2 must have the number {name}, got {value!r} in step "
                    f"{record.get('step')}; restore metrics.jsonl, or start a new run"
                )
            return value

        for name in ("practice/iteration_episodes", "practice/iteration_env_steps"):
            if number(name) < 1:
                raise NearerError(
                    f"{name} of every record must be 1 or more, got {number(name)} in step "
                    f"{record.get('step')}; restore metrics.jsonl, or start a new run"
                )
        audit = {
            name: value
            for name, value in record.items()
            if name.startswith("audit/") and isinstance(value, float | int)
        }
        alarm = record.get("alarm")
        return cls(
            iteration=int(number("step")),
            total_episodes=int(number("practice/episodes")),
            total_env_steps=int(number("practice/env_steps")),
            episodes=int(number("practice/iteration_episodes")),
            env_steps=int(number("practice/iteration_env_steps")),
            detected=int(number("practice/detected")),
            progress_steps=number("practice/progress_steps"),
            mean_return=number("practice/return"),
            loss=number("practice/loss"),
            entropy=number("practice/entropy"),
            policy_change=number("practice/policy_change"),
            actions_outside=int(number("practice/actions_outside")),
            audit=AuditReport(metrics=audit, alarm=alarm if isinstance(alarm, str) else None),
        )


def iteration_metrics(
    before: IterationMetrics | None,
    scored: Sequence[ScoredEpisode],
    *,
    chunk: int,
    learned: Learned,
    actions_outside: int,
    audit: AuditReport,
) -> IterationMetrics:
    """Return the metrics of the iteration that follows `before`.

    Args:
        before: of the iteration before; None for the first.
        scored: the iteration's episodes.
        chunk: control steps a decision.
        learned: what the updates came to.
        actions_outside: actions beyond the env's limits.
        audit: of the detector.
    """
    env_steps = chunk * sum(episode.episode.num_steps for episode in scored)
    detected = sum(episode.episode.ended is Ended.SUCCESS_DETECTED for episode in scored)
    return IterationMetrics(
        iteration=(before.iteration if before else 0) + 1,
        total_episodes=(before.total_episodes if before else 0) + len(scored),
        total_env_steps=(before.total_env_steps if before else 0) + env_steps,
        episodes=len(scored),
        env_steps=env_steps,
        detected=detected,
        progress_steps=float(progress_of(scored).mean()),
        mean_return=float(np.concatenate([episode.returns for episode in scored]).mean()),
        loss=learned.loss,
        entropy=-float(np.concatenate([row.episode.log_prob for row in scored]).mean()),
        policy_change=learned.policy_change,
        actions_outside=actions_outside,
        audit=audit,
    )
