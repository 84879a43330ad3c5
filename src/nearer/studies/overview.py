"""One figure of all studies, as figure 3 of the paper: success before and after practice."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from nearer.reporting.html.stage_pairs import StagePair, pairs_figure
from nearer.runs.json_files import from_json
from nearer.studies.headline_results import PAPER as HEADLINE_PAPER
from nearer.studies.headline_results import Measurement
from nearer.studies.running import write_files
from nearer.studies.stage_success import PAPER, StageSuccess, stage_pairs

OVERVIEW = "overview.svg"
_SHOWN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "aloha": ("ALOHA insertion, by data", ("a third", "two thirds", "all")),
    "real2sim": ("another look", ("real to sim, adapted", "sim to real, adapted")),
    "banana": ("a new object", ("banana",)),
}
"""Of each study beside the headline: what stands under it in the figure, conditions shown."""
_TITLE = "Success before and after practice, in every study"


def write_overview(folder: Path) -> None:
    """Write the figure of the studies whose results are in the folder; nothing without any."""
    groups: dict[str, Sequence[StagePair]] = {}
    headline = [from_json(Measurement, row) for row in _rows(folder / "headline.json")]
    if rows := [_as_stage(m) for m in headline if m.algorithm == "recipe"]:
        paper = {f"{percent} %": stages for percent, stages in HEADLINE_PAPER.items()}
        groups["tabletop, by data"] = stage_pairs(rows, paper)
    for study, (name, shown) in _SHOWN.items():
        rows = [from_json(StageSuccess, row) for row in _rows(folder / f"{study}.json")]
        if kept := [row for row in rows if row.condition in shown]:
            groups[name] = stage_pairs(kept, PAPER.get(study, {}))
    if groups:
        write_files(folder, {OVERVIEW: pairs_figure(_TITLE, groups)})


def _rows(path: Path) -> list[object]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []


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
