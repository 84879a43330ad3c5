"""What was found out about an env: each finding with what was seen and its likely cause."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from nearer.core.errors import EnvError


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "error"  # training or measuring with this env would go wrong, or does not start
    WARNING = "warning"  # works, and is probably not what was meant
    NOTE = "note"  # could not be tried, or is good to know


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that an env does.

    Attributes:
        rule: a short name of what was checked, such as "same seed".
        severity: how bad it is.
        sentence: what must hold, and what was seen.
        likely_cause: what it mostly comes of, and what to do; empty for a note.
    """

    rule: str
    severity: Severity
    sentence: str
    likely_cause: str = ""

    def __str__(self) -> str:
        cause = f" Likely cause: {self.likely_cause}." if self.likely_cause else ""
        return f"{self.severity.value}, {self.rule}: {self.sentence}.{cause}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvReport:
    """What `check_env` found out.

    Attributes:
        env: its id, or the name of its class.
        observes: sizes of what nearer reads; empty: it can read nothing.
        control_hz: control rate that the env states; None: none.
        measured_hz: control steps a second that it took; None: not enough steps.
        reset_s: how long its longest reset took, seconds.
        visible_after_steps: steps until an action showed in an observation; None: it did not.
        instruction: of the first episode; None: the env gives none.
        reports_success: whether every step's info says `is_success` or `success`.
        findings: the worst first.
    """

    env: str
    observes: str
    control_hz: float | None
    measured_hz: float | None
    reset_s: float
    visible_after_steps: int | None
    instruction: str | None
    reports_success: bool
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return what has to be mended."""
        return tuple(found for found in self.findings if found.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Return what should be looked at."""
        return tuple(found for found in self.findings if found.severity is Severity.WARNING)

    def __str__(self) -> str:
        measured = "none" if self.measured_hz is None else f"{self.measured_hz:.1f} Hz"
        visible = self.visible_after_steps
        facts = [
            f"env           {self.env}",
            f"observes      {self.observes or 'nothing that nearer can read'}",
            f"control rate  {self.control_hz or 'not stated'}, {measured} measured",
            f"reset         {self.reset_s:.2f} s",
            f"action shows  {'not' if visible is None else f'after {visible} steps'}",
            f"instruction   {self.instruction or 'none: pass --instruction'}",
            f"success       {'reported' if self.reports_success else 'not reported'}",
        ]
        return "\n".join([*facts, *map(str, self.findings)])


class EnvContractError(EnvError, AssertionError):
    """An env breaks the contract; all that is wrong is in the message, and in `report`."""

    def __init__(self, report: EnvReport) -> None:
        self.report = report
        listed = "\n".join(f"- {found}" for found in report.errors)
        super().__init__()
        self.args = (  # all of it: a long sentence of `NearerError` would lose its middle
            f"{report.env} must keep the contract of an env, got {len(report.errors)} errors; mend "
            f"them:\n{listed}",
        )


def by_severity(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, the worst first, each once, whatever value was seen."""
    order = list(Severity)
    first: dict[tuple[str, Severity, str], Finding] = {}
    for found in findings:
        first.setdefault((found.rule, found.severity, found.sentence.partition(", got")[0]), found)
    return tuple(sorted(first.values(), key=lambda found: order.index(found.severity)))


def error(rule: str, sentence: str, likely_cause: str) -> Finding:
    """Return a finding that has to be mended."""
    return Finding(rule=rule, severity=Severity.ERROR, sentence=sentence, likely_cause=likely_cause)


def warning(rule: str, sentence: str, likely_cause: str) -> Finding:
    """Return a finding that should be looked at."""
    return Finding(
        rule=rule, severity=Severity.WARNING, sentence=sentence, likely_cause=likely_cause
    )


def note(rule: str, sentence: str) -> Finding:
    """Return a finding that is good to know."""
    return Finding(rule=rule, severity=Severity.NOTE, sentence=sentence)
