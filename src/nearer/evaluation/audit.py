"""Is the detector still right? The truth of a sample of practised episodes, and an alarm.

With evaluate.py this is the only reader of a simulator's truth (on robots: of a person's labels).
What an audit finds is recorded and shown; practice does not learn from it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nearer.algorithm.improve_metrics import AuditReport
from nearer.algorithm.score import progress_of
from nearer.core.episode import Ended, ScoredEpisode
from nearer.core.intervals import Rate
from nearer.core.seeds import Purpose, generator
from nearer.evaluation.audit_settings import AuditPlan
from nearer.evaluation.ground_truth import GroundTruthRecorder
from nearer.runs.files import append_line, write_lines
from nearer.runs.run import read_lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """One comparison of the detector's verdicts with the truth.

    Attributes:
        iteration: of Stage 2, counted from 0.
        audited: episodes compared.
        detected: of these, ended by the detector.
        right: of these, fulfilled in truth where the detector ended them.
        fulfilled: episodes fulfilled in truth at any observation.
        progress_steps: mean predicted progress d(o_0) - d(o_T) of the audited episodes.
        progress_variance: of that progress over episodes.
        ended_on_truth: episodes that ended because the truth said so, which say nothing of the
            detector (`--deviate.end-on-ground-truth`).
    """

    iteration: int
    audited: int
    detected: int
    right: int
    fulfilled: int
    progress_steps: float
    progress_variance: float
    ended_on_truth: int = 0

    @property
    def precision(self) -> Rate:
        """Return the share of detections that were right."""
        return Rate(successes=self.right, total=self.detected)

    @property
    def recall(self) -> Rate:
        """Return the share of fulfilled episodes, left to the detector, that it rightly ended."""
        return Rate(successes=self.right, total=self.fulfilled - self.ended_on_truth)

    @property
    def success(self) -> Rate:
        """Return the share of episodes that were fulfilled in truth."""
        return Rate(successes=self.fulfilled, total=self.audited)


class Auditor:
    """Compares verdicts with the truth every few iterations, and keeps what it found.

    An audit is on disk before its episodes are, so a resumed run has the audits of all the
    iterations it reads back.
    """

    def __init__(self, plan: AuditPlan, fleet: GroundTruthRecorder, seed: int, log: Path) -> None:
        self._plan = plan
        self._fleet = fleet
        self._seed = seed
        self._log = log
        audits = read_audits(log)
        if log.exists():
            # Otherwise the next line would be written into one that a kill cut short.
            write_lines(log, [asdict(one) for one in audits])
        self._audits = {one.iteration: one for one in audits}

    def check(self, iteration: int, scored: Sequence[ScoredEpisode]) -> AuditReport:
        """Audit this iteration if it is due, and say whether to be alarmed."""
        every = self._plan.audit_every
        due = every > 0 and iteration % every == 0 and len(scored) > 0
        if due and iteration not in self._audits:
            found = self._compare(iteration, scored)
            self._audits[iteration] = found
            append_line(self._log, asdict(found))
        self._fleet.forget()
        if not due:
            return AuditReport()
        so_far = [one for one in self._audits.values() if one.iteration <= iteration]
        return AuditReport(
            metrics=audit_metrics(self._audits[iteration]), alarm=alarm(so_far, self._plan)
        )

    def _compare(self, iteration: int, scored: Sequence[ScoredEpisode]) -> Audit:
        draw = generator(Purpose.AUDIT, self._seed, iteration)
        order = draw.permutation(len(scored))[: self._plan.audit_episodes]
        sample = [scored[int(i)] for i in order]
        truths = [self._fleet.fulfilled(one.episode) for one in sample]
        detected = [one.episode.ended is Ended.SUCCESS_DETECTED for one in sample]
        progress = progress_of(sample)
        return Audit(
            iteration=iteration,
            audited=len(sample),
            detected=sum(detected),
            right=sum(d and bool(truth[-1]) for d, truth in zip(detected, truths, strict=True)),
            fulfilled=sum(bool(truth.any()) for truth in truths),
            progress_steps=float(progress.mean()),
            progress_variance=float(progress.var()),
            ended_on_truth=sum(one.episode.ended is Ended.SUCCESS_TRUE for one in sample),
        )


def read_audits(log: Path) -> list[Audit]:
    """Return the audits of a run, oldest first; a last line cut short by a kill is left out."""
    return [Audit(**record) for record in read_lines(log)]


def alarm(audits: Sequence[Audit], plan: AuditPlan, window: int = 3) -> str | None:
    """Return why the reward can no longer be trusted, as a sentence, or None.

    Raised when, over the last `window` audits,

    - the detector is surely (95 %) less precise than `plan.min_precision`, or
    - it surely (95 %) finds a smaller share of what is fulfilled than `plan.min_recall`, or
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
        recent.progress_variance / recent.audited + before.progress_variance / before.audited
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
    weights = np.array([one.audited for one in audits], dtype=np.float64)
    means = np.array([one.progress_steps for one in audits])
    mean = float(np.average(means, weights=weights))
    within = np.array([one.progress_variance for one in audits])
    return Audit(
        iteration=audits[-1].iteration,
        audited=sum(one.audited for one in audits),
        detected=sum(one.detected for one in audits),
        right=sum(one.right for one in audits),
        fulfilled=sum(one.fulfilled for one in audits),
        progress_steps=mean,
        progress_variance=float(np.average(within + (means - mean) ** 2, weights=weights)),
        ended_on_truth=sum(one.ended_on_truth for one in audits),
    )


def audit_metrics(audit: Audit) -> dict[str, float | int]:
    """Return an audit as metrics: rates that have no trials are left out."""
    rates = {
        "audit/precision": audit.precision,
        "audit/recall": audit.recall,
        "audit/success": audit.success,
    }
    metrics: dict[str, float | int] = {
        name: rate.value for name, rate in rates.items() if rate.total
    }
    return metrics | {"audit/episodes": audit.audited, "audit/progress_steps": audit.progress_steps}
