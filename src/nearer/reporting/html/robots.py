"""The section on robots: which of them failed in practice, and how well they kept their rate."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from nearer.fleets.actors.faults import Fault
from nearer.reporting.html.markup import (
    NOTHING,
    Html,
    decimal,
    join,
    paragraph,
    percent,
    section,
    table,
    text,
    whole,
)
from nearer.reporting.html.run_data import Report, StageTwo

_FAULTS_HEAD = (
    "Run",
    "Robots",
    "Errors",
    "No sign of life",
    "Ended",
    "Unfinished episodes dropped",
    "Last fault",
    "After it",
)
_CONTROL_HEAD = (
    "Run",
    "Control periods",
    "Missed",
    "Jitter, median of the worst process, ms",
    "99 % quantile, ms",
)


def robots(report: Report) -> Html:
    """Return the faults of each actor and the control rate; nothing where neither was noted."""
    faults = [row for run in report.stage_two for row in _fault_rows(run)]
    control = [_control_row(run) for run in report.stage_two if run.control]
    if not faults and not control:
        return NOTHING
    of_faults = (
        "Robots that failed in practice; those that share a process fail together. Their "
        "unfinished episodes are not learned from."
    )
    of_control = (
        "How well robots kept their control rate: a period is missed if its step was not over at "
        "its deadline; jitter is how long after it the period ended."
    )
    return section(
        "robots",
        "Robots",
        _table(of_faults, _FAULTS_HEAD, faults),
        _table(of_control, _CONTROL_HEAD, control),
    )


def _table(lead: str, head: Sequence[str], rows: Sequence[Sequence[Html]]) -> Html:
    return join(paragraph(lead, "lead"), table(head, rows)) if rows else NOTHING


def _fault_rows(run: StageTwo) -> list[list[Html]]:
    by_actor = sorted(run.faults, key=lambda fault: fault.actor)  # each actor's in order of time
    return [
        _fault_row(run, list(faults))
        for _, faults in groupby(by_actor, key=lambda fault: fault.actor)
    ]


def _fault_row(run: StageTwo, faults: Sequence[Fault]) -> list[Html]:
    last = faults[-1]
    first, end = last.robots[0], last.robots[-1]  # those of an actor follow each other
    kinds = Counter(fault.kind for fault in faults)
    alone = last.again_in_s is None
    then = "left alone" if alone else f"started again {decimal(last.again_in_s or 0)} s later"
    return [
        text(run.name),
        text(f"{first} to {end}" if first < end else first),
        *(text(whole(kinds[kind])) for kind in ("raised", "hung", "died")),
        text(whole(sum(fault.dropped_episodes for fault in faults))),
        text(f"{last.time[:19].replace('T', ' ')}: {last.sentence}"),
        text(then),
    ]


def _control_row(run: StageTwo) -> list[Html]:
    control = run.control
    assert control is not None
    share = percent(control.missed / control.periods) if control.periods else "–"
    return [
        text(run.name),
        text(whole(control.periods)),
        text(f"{whole(control.missed)} ({share})"),
        text(decimal(control.p50_ms)),
        text(decimal(control.p99_ms)),
    ]
