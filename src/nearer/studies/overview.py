"""One figure of all studies, as figure 3 of the paper: success before and after practice."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from nearer.core.errors import ConfigError
from nearer.reporting.html.stage_pairs import StagePair, pairs_figure
from nearer.runs.json_files import from_json
from nearer.studies.headline_results import PAPER as HEADLINE_PAPER
from nearer.studies.headline_results import Measurement
from nearer.studies.metaworld import TASKS
from nearer.studies.running import write_files
from nearer.studies.stage_success import PAPER, StageSuccess, stage_pairs

Row = TypeVar("Row", Measurement, StageSuccess)
OVERVIEW = "overview.svg"
_SHOWN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "aloha": ("ALOHA insertion, by data", ("a third", "two thirds", "all")),
    "real2sim": ("another look", ("real to sim, adapted", "sim to real, adapted")),
    "banana": ("a new object", ("banana",)),
    "transfer": (
        "block to block practised",
        ("block to place", "block beside block", "point", "separate"),
    ),
    "metaworld": ("Meta-World", TASKS),
}
"""Of each study beside the headline: what stands under it in the figure, conditions shown."""
_TITLE = "Success before and after practice, in every study"


def write_overview(folder: Path) -> None:
    """Write the figure of the studies whose results are in the folder; nothing without any."""
    groups: dict[str, Sequence[StagePair]] = {}
    headline = _rows(Measurement, folder / "headline.json")
    if rows := [_as_stage(m) for m in headline if m.algorithm == "recipe"]:
        paper = {f"{percent} %": stages for percent, stages in HEADLINE_PAPER.items()}
        groups["tabletop, by data"] = stage_pairs(rows, paper)
    for study, (name, shown) in _SHOWN.items():
        rows = _rows(StageSuccess, folder / f"{study}.json")
        if kept := [row for row in rows if row.condition in shown]:
            groups[name] = stage_pairs(kept, PAPER.get(study, {}))
    if groups:
        write_files(folder, {OVERVIEW: pairs_figure(_TITLE, groups)})


def _rows(kind: type[Row], results: Path) -> list[Row]:
    """Return the rows of a study; none where there are no results yet."""
    if not results.exists():
        return []
    try:
        return [from_json(kind, row) for row in json.loads(results.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{results} must hold a list of results as nearer reproduce writes it, got: {error}; "
            "remove it, and it is written anew"
        ) from error


def _as_stage(measured: Measurement) -> StageSuccess:
    """Return a row of the headline as one of the other studies."""
    return StageSuccess(
        study="headline",
        condition=f"{measured.percent} %",
        stage=measured.stage,
        seed=measured.seed,
        demonstrations=measured.demonstrations,
        practice_episodes=measured.practice_episodes,
        n_success=measured.n_success,
        n_episodes=measured.n_episodes,
    )
