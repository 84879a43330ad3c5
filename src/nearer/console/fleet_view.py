"""The whole fleet over the practice so far, as the page draws it.

Read from the run's files whenever one of them has changed: metrics, audits, faults, the ledger.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nearer.core.errors import NearerError
from nearer.core.intervals import Rate
from nearer.core.metrics import Record
from nearer.evaluation.audit import AUDITS, Audit, pooled
from nearer.evaluation.person_audit import QUESTIONS, audits_of, read_questions
from nearer.fleets.actors.faults import FAULTS, read_faults
from nearer.runs.ledger import LEDGER, Ledger, read_answers
from nearer.runs.metrics import METRICS, count, number, read_metrics

_POINTS = 40  # of a curve, at most
_ALARMS = 3
_WINDOW = 3  # audits that a point pools, and an alarm rests on
_FILES = (METRICS, AUDITS, QUESTIONS, FAULTS, LEDGER, f"{LEDGER}-wal")
_CURVES = {
    "progress": "practice/progress_steps",
    "length": "practice/episode_length",
    "entropy": "practice/entropy",
    "change": "practice/policy_change",
}


class FleetView:
    """What the page shows of the whole fleet.

    Args:
        run: folder of the run.
        num_robots: of the fleet.
    """

    def __init__(self, run: Path, num_robots: int) -> None:
        self._run = run
        self._num_robots = num_robots
        self._seen: list[tuple[int, int] | None] = []
        self._view: Mapping[str, object] = {}

    def latest(self) -> Mapping[str, object]:
        """Return the view as JSON values; as it was while the files have not changed."""
        seen = [_version(self._run / name) for name in _FILES]
        if seen != self._seen:
            try:
                self._view = self._read()
            except NearerError as error:  # a damaged file of the run
                self._view = {"error": str(error)}
            self._seen = seen
        return self._view

    def _read(self) -> Mapping[str, object]:
        records, audits = read_metrics(self._run), audits_of(self._run)
        episodes_by = {count(one, "step"): count(one, "practice/episodes") for one in records}
        elapsed_s = number(records[-1].get("time/elapsed_s")) if records else 0.0
        episodes = max(episodes_by.values(), default=0)
        ledger = self._run / LEDGER
        entries = Ledger(ledger).all() if ledger.exists() else []
        faults = read_faults(self._run / FAULTS)
        alarms = [str(one["alarm"]) for one in records if one.get("alarm")]
        return {
            "curve": _curve(records),
            "audits": _audit_points(audits, episodes_by),
            "by": "person" if (self._run / QUESTIONS).exists() else "simulator",
            "rates": _rates(audits),
            "alarms": alarms[-_ALARMS:],
            "episodes": episodes,
            "episodes_an_hour": round(3600 * episodes / elapsed_s) if elapsed_s else 0,
            "robot_hours": elapsed_s * self._num_robots / 3600,
            "human_minutes": len({int(entry.at_s // 60) for entry in entries}),
            "resets_by_people": sum(entry.action == "done" for entry in entries),
            "faults": len(faults),
            "last_fault": faults[-1].sentence if faults else "",
        }


class OpenQuestions:
    """What people are asked now, read again when the questions or the ledger have changed."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._seen: list[tuple[int, int] | None] | None = None
        self._open: list[Mapping[str, object]] = []

    def latest(self) -> list[Mapping[str, object]]:
        """Return the questions, see `open_questions`.

        Raises:
            NearerError: a file of the run is damaged.
        """
        seen = [_version(self._run / name) for name in (QUESTIONS, LEDGER, f"{LEDGER}-wal")]
        if seen != self._seen:
            self._open = open_questions(self._run)
            self._seen = seen
        return self._open


def open_questions(run: Path) -> list[Mapping[str, object]]:
    """Return what a person is asked and has not answered, oldest first.

    Not how an episode ended nor what the detector said: people are asked blindly.
    """
    answers = read_answers(run)
    return [
        {
            "question": one.number,
            "iteration": asked.iteration,
            "seed": str(one.seed),
            "robot": one.robot,
            "instruction": one.instruction,
        }
        for asked in read_questions(run)
        for one in asked.questions
        if one.number not in answers
    ]


def _curve(records: Sequence[Record]) -> list[Mapping[str, object]]:
    """Return points of several iterations each, with the detector's successes and an interval."""
    size = -(-len(records) // _POINTS) or 1
    points: list[Mapping[str, object]] = []
    for first in range(0, len(records), size):
        part = records[first : first + size]
        detected = sum(count(one, "practice/detected") for one in part)
        total = sum(count(one, "practice/iteration_episodes") for one in part)
        means = {
            name: sum(number(one.get(metric)) for one in part) / len(part)
            for name, metric in _CURVES.items()
        }
        points.append(
            {
                "episodes": count(part[-1], "practice/episodes"),
                **_rate(Rate(successes=detected, total=total)),
                **{name: mean for name, mean in means.items() if mean == mean},  # not nan
            }
        )
    return points


def _audit_points(
    audits: Sequence[Audit], episodes_by: Mapping[int, int]
) -> list[Mapping[str, object]]:
    points: list[Mapping[str, object]] = []
    for first in range(0, len(audits), _WINDOW):
        audit = pooled(audits[first : first + _WINDOW])
        episodes = episodes_by.get(audit.iteration + 1)
        if episodes is not None:
            points.append({"episodes": episodes, **_rate(audit.success)})
    return points


def _rates(audits: Sequence[Audit]) -> Mapping[str, object]:
    if not audits:
        return {}
    total = pooled(audits)
    rates = {"success": total.success, "precision": total.precision, "recall": total.recall}
    return {name: _rate(rate) for name, rate in rates.items() if rate.total}


def _rate(rate: Rate) -> Mapping[str, object]:
    low, high = rate.interval
    return {"value": rate.value, "low": low, "high": high, "n": rate.total}


def _version(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
