"""The section with settings, provenance and package versions of every run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from nearer.reporting.html.markup import Html, section, table, tag, text
from nearer.reporting.html.paths import shown_setting
from nearer.reporting.html.run_data import Report, RunData, flat


def provenance(report: Report) -> Html:
    """Return settings, provenance and versions of every run, folded away."""
    return section("config", "Config and provenance", *map(_details_of, report.runs))


def _details_of(run: RunData) -> Html:
    header = run.header
    origin = {
        "folder": run.shown_root,
        "command": header.command,
        "git_revision": header.git_revision,
        "created": header.created,
        **asdict(header.inputs),
    }
    tables = tag(
        "div",
        _settings_table("Config", flat(run.header.config), run.folders),
        _settings_table("Run", origin, run.folders),
        _settings_table("Versions", header.versions, run.folders),
        css="config",
    )
    return tag(
        "details", tag("summary", tag("b", text(run.name)), text(f" {run.shown_root}")), tables
    )


def _settings_table(title: str, settings: Mapping[str, object], folders: Sequence[Path]) -> Html:
    rows = [
        [tag("code", text(name)), tag("code", text(shown_setting(value, folders)))]
        for name, value in settings.items()
    ]
    return table((title, ""), rows)
