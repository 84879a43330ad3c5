"""The section with settings and versions."""

from nearer.reporting.html.provenance import provenance
from nearer.reporting.html.run_data import Report
from report_values import words


def test_provenance_lists_settings_revision_and_versions_of_every_run(report: Report) -> None:
    html = provenance(report)
    assert html.count("<details>") == 2
    text = words(html)
    for run in report.runs:
        assert f"{run.name} {run.shown_root}" in text
        assert f"folder {run.shown_root}" in text
    assert "training.updates 40" in text
    assert "practice.max_env_steps 300" in text
    assert "git_revision" in text
    assert "torch" in text
