"""Is the detector still right? The ground truth of a sample of practised episodes, and an alarm.

With success.py this is the only reader of a simulator's ground truth (on robots: of a person's
labels). What an audit measures is recorded and shown; practice does not learn from it, and ends at
an alarm unless `--on-alarm continue` lets it go on.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nearer.algorithm.improve_metrics import AuditReport
from nearer.algorithm.score import progress_of
from nearer.core.episode import Ended, ScoredEpisode
from nearer.core.interfaces import RecordedSuccess
from nearer.core.intervals import Rate
from nearer.core.seeds import Purpose, generator
from nearer.evaluation.audit_settings import AuditPlan
from nearer.runs.clips import keep_clips
from nearer.runs.files import append_line
from nearer.runs.json_files import read_documents, require, write_documents

AUDITS = "audits.jsonl"
"""Of a run: its audits, one a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One comparison of the detector's detections with ground truth.

    Attributes:
        iteration: of Stage 2, counted from 0.
        num_episodes: episodes compared.
        num_detections: of these, ended by the detector.
        num_correct_detections: of these, successful where the detector ended them.
        num_success: episodes that were successful at any observation.
        num_ended_by_ground_truth: episodes that ground truth ended, which say nothing of the
            detector (`--deviate.end-on-ground-truth`).
        progress_steps: mean predicted progress d(o_0) - d(o_T) of the audited episodes.
        progress_variance: of that progress over episodes.
    """

    iteration: int
    num_episodes: int
    num_detections: int
    num_correct_detections: int
    num_success: int
    num_ended_by_ground_truth: int
    progress_steps: float
    progress_variance: float

    def __post_init__(self) -> None:
        """Refuse counts that no audit can have."""
        left = self.num_success - self.num_ended_by_ground_truth
        correct = self.num_correct_detections
        require(self.iteration >= 0, "iteration must be 0 or more", self.iteration)
        require(self.num_episodes >= 1, "num_episodes must be 1 or more", self.num_episodes)
        in_order = 0 <= correct <= self.num_detections <= self.num_episodes
        require(in_order, "num_detections must lie between those correct and all", correct)
        in_order = 0 <= correct <= left <= self.num_success <= self.num_episodes
        require(in_order, "num_success must lie between those detected and all", self.num_success)
        require(self.progress_variance >= 0, "a variance must be 0 or more", self.progress_variance)

    @property
    def precision(self) -> Rate:
        """Return the fraction of detections that were right."""
        return Rate(successes=self.num_correct_detections, total=self.num_detections)

    @property
    def recall(self) -> Rate:
        """Return the fraction of successes, left to the detector, that it rightly ended."""
        left_to_detector = self.num_success - self.num_ended_by_ground_truth
        return Rate(successes=self.num_correct_detections, total=left_to_detector)

    @property
    def success(self) -> Rate:
        """Return the fraction of episodes that were successful."""
        return Rate(successes=self.num_success, total=self.num_episodes)


class Auditor:
    """Compares detections with ground truth every few iterations, and keeps the audits.

    An audit is on disk before its episodes are, so a resumed run has the audits of all the
    iterations it reads back.
    """

    def __init__(self, plan: AuditPlan, recorded: RecordedSuccess, seed: int, log: Path) -> None:
        self._plan = plan
        self._recorded = recorded
        self._seed = seed
        self._log = log
        audits = read_audits(log)
        if log.exists():
            # Otherwise the next line would be written into one that a kill cut short.
            write_documents(log, audits)
        self._audits = {audit.iteration: audit for audit in audits}
        self._drawn: tuple[int, set[int]] | None = None

    def check(self, iteration: int, scored: Sequence[ScoredEpisode]) -> AuditReport:
        """Audit this iteration if it is due, and say whether to be alarmed."""
        due = self._plan.is_due(iteration) and len(scored) > 0
        if due and iteration not in self._audits:
            audit = self._compare(iteration, scored)
            self._audits[iteration] = audit
            append_line(self._log, asdict(audit))
        self._recorded.forget()
        if self._drawn:
            keep_clips(self._log.parent, *self._drawn)
        if not due:
            return AuditReport()
        so_far = [audit for audit in self._audits.values() if audit.iteration <= iteration]
        return AuditReport(
            metrics=audit_metrics(self._audits[iteration]), alarm=alarm(so_far, self._plan)
        )

    def _compare(self, iteration: int, scored: Sequence[ScoredEpisode]) -> Audit:
        sample = drawn(self._plan, self._seed, iteration, scored)
        self._drawn = iteration, {row.episode.seed for row in sample}
        successes = [self._recorded.success(row.episode) for row in sample]
        detected = [row.episode.ended is Ended.SUCCESS_DETECTED for row in sample]
        progress = progress_of(sample)
        return Audit(
            iteration=iteration,
            num_episodes=len(sample),
            num_detections=sum(detected),
            num_correct_detections=sum(
                fired and bool(success[-1])
                for fired, success in zip(detected, successes, strict=True)
            ),
            num_success=sum(bool(success.any()) for success in successes),
            num_ended_by_ground_truth=sum(
                row.episode.ended is Ended.SUCCESS_TRUE for row in sample
            ),
            progress_steps=float(progress.mean()),
            progress_variance=float(progress.var()),
        )


def drawn(
    plan: AuditPlan, seed: int, iteration: int, scored: Sequence[ScoredEpisode]
) -> list[ScoredEpisode]:
    """Return the episodes of an iteration that are audited, drawn at random."""
    rng = generator(Purpose.AUDIT, seed, iteration)
    order = rng.permutation(len(scored))[: plan.audit_episodes]
    return [scored[int(i)] for i in order]


def read_audits(log: Path) -> list[Audit]:
    """Return the audits by ground truth, oldest first; a last line cut short by a kill is left out.

    Raises:
        ConfigError: a line is not as `Auditor` writes it.
    """
    return read_documents(Audit, log, "restore it, or start a new run")


def alarm(audits: Sequence[Audit], plan: AuditPlan, window: int = 3) -> str | None:
    """Return why practice should be stopped, as a sentence, or None.

    Raised when, over the last `window` audits,

    - the detector is surely (95 %) less precise than `plan.min_precision`, or
    - it surely (95 %) detects a smaller fraction of successes than `plan.min_recall`, or
    - predicted progress rose (by two standard errors) over the `window` audits before, while
      audited success did not rise and is surely (95 %) below 0.95.

    An interval of few trials is wide but not wide enough: one detection, wrong, excludes a
    precision of 0.8. So the first two need `plan.min_trials`.
    """
    if not audits:
        return None
    recent = pooled(audits[-window:])
    if _surely_below(recent.precision, plan.min_precision, plan):
        return (
            f"the detector's precision fell to {recent.precision} in the audits up to iteration "
            f"{recent.iteration}: episodes end as successes that are none; stop, and lower "
            "--threshold"
        )
    if _surely_below(recent.recall, plan.min_recall, plan):
        return (
            f"the detector's recall fell to {recent.recall} in the audits up to iteration "
            f"{recent.iteration}: most successes go unseen, and the policy that is kept is chosen "
            "by those that are seen; stop, and raise --threshold or train on more demonstrations"
        )
    if len(audits) < 2 * window:
        return None
    return _alarm_of_progress(pooled(audits[-2 * window : -window]), recent)


def _surely_below(rate: Rate, least: float, plan: AuditPlan) -> bool:
    """Tell whether enough trials exclude, at 95 %, that a rate is what it must be."""
    return rate.total >= plan.min_trials and rate.interval[1] < least


def _alarm_of_progress(before: Audit, recent: Audit) -> str | None:
    rise = recent.progress_steps - before.progress_steps
    error = np.sqrt(
        recent.progress_variance / recent.num_episodes
        + before.progress_variance / before.num_episodes
    )
    stuck = recent.success.value <= before.success.value and recent.success.interval[1] < 0.95
    if rise > 2 * error and stuck:
        return (
            f"predicted progress rose by {rise:.1f} steps up to iteration {recent.iteration} while "
            f"audited success went from {before.success} to {recent.success}: the policy may be "
            "exploiting the reward model; stop, and look at its episodes"
        )
    return None


def pooled(audits: Sequence[Audit]) -> Audit:
    """Return several audits, one at least, as one."""
    weights = np.array([audit.num_episodes for audit in audits], dtype=np.float64)
    means = np.array([audit.progress_steps for audit in audits])
    mean = float(np.average(means, weights=weights))
    within = np.array([audit.progress_variance for audit in audits])
    return Audit(
        iteration=audits[-1].iteration,
        num_episodes=sum(audit.num_episodes for audit in audits),
        num_detections=sum(audit.num_detections for audit in audits),
        num_correct_detections=sum(audit.num_correct_detections for audit in audits),
        num_success=sum(audit.num_success for audit in audits),
        num_ended_by_ground_truth=sum(audit.num_ended_by_ground_truth for audit in audits),
        progress_steps=mean,
        # Law of total variance: within audits, and between their means.
        progress_variance=float(np.average(within + (means - mean) ** 2, weights=weights)),
    )


def summary_lines(audits: Sequence[Audit]) -> list[str]:
    """Return what the audits of a run found, for people: n, and rates with their intervals."""
    if not audits:
        return ["audits     none: whether the detections were right is not known"]
    total = pooled(audits)
    times = "1 audit" if len(audits) == 1 else f"{len(audits)} audits"
    rates = {
        "precision": (total.precision, "no episode was detected"),
        "recall": (total.recall, "no episode left to the detector was successful"),
    }
    return [
        f"audits     {times} of {total.num_episodes} episodes in all: success {total.success}",
        *(
            f"{name:<11}{rate if rate.total else f'not known, {why_not}'}"
            for name, (rate, why_not) in rates.items()
        ),
    ]


def audit_metrics(audit: Audit) -> dict[str, float | int]:
    """Return an audit as metrics: rates that have no trials are left out."""
    rates = {
        "audit/precision": audit.precision,
        "audit/recall": audit.recall,
        "audit/success": audit.success,
    }
    metrics = {name: rate.value for name, rate in rates.items() if rate.total}
    counts = {"audit/episodes": audit.num_episodes, "audit/progress_steps": audit.progress_steps}
    return metrics | counts
