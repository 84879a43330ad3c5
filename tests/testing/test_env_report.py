"""Findings are listed once, the worst first; the error keeps all of them."""

from nearer.testing.env_report import (
    EnvContractError,
    EnvReport,
    by_severity,
    error,
    note,
    warning,
)


def test_findings_are_listed_once_and_the_worst_first() -> None:
    found = by_severity(
        [
            note("end", "no episode ended"),
            warning("range", "agent_pos must lie within its space, got 1.5", "guesses"),
            error("info", "step must return a dict, got None", "it forgot"),
            warning("range", "agent_pos must lie within its space, got 1.7", "guesses"),
        ]
    )
    assert [str(one) for one in found] == [
        "error, info: step must return a dict, got None. Likely cause: it forgot.",
        "warning, range: agent_pos must lie within its space, got 1.5. Likely cause: guesses.",
        "note, end: no episode ended.",
    ]


def test_error_names_every_error_however_many_there_are() -> None:
    findings = tuple(error(f"rule {number}", "x" * 100, "y" * 100) for number in range(40))
    report = EnvReport(
        env="lab/Arm-v0",
        observes="",
        control_hz=None,
        measured_hz=None,
        reset_s=0.0,
        visible_after_steps=None,
        instruction=None,
        reports_success=False,
        findings=findings,
    )
    raised = EnvContractError(report)
    assert str(raised).startswith("lab/Arm-v0 must keep the contract of an env, got 40 errors")
    assert all(str(one) in str(raised) for one in findings)
    assert "control rate  not stated, none measured" in str(report)
