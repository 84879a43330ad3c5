"""Success by stage and condition: the rows, the table and the figure of the smaller studies."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

from nearer.core.intervals import Rate
from nearer.reporting.html.stage_pairs import StagePair, pairs_figure
from nearer.studies.headline_results import pooled, with_seed_interval
from nearer.studies.running import write_files

PAPER: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "banana": {"banana": (0.63, 0.85)},
    "real2sim": {"real to sim": (0.226, 0.626)},
}
"""Success before and after practice in the paper, by study and condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSuccess:
    """Success of one policy, by the simulator's ground truth.

    Attributes:
        study: banana, real2sim, transfer.
        condition: what is compared within the study.
        stage: 1 before the practice that the study is about, 2 after it.
        demonstrations: that Stage 1 was trained on, validation episodes included.
        practice_episodes: those after the kept policy included; 0 in stage 1.
    """

    study: str
    condition: str
    stage: int
    seed: int
    demonstrations: int
    practice_episodes: int
    n_success: int
    n_episodes: int

    @property
    def rate(self) -> Rate:
        """Return the success rate."""
        return Rate(successes=self.n_success, total=self.n_episodes)

    def then(self, rate: Rate, practice_episodes: int) -> "StageSuccess":
        """Return the row of the same seed after practice."""
        return replace(
            self,
            stage=2,
            practice_episodes=practice_episodes,
            n_success=rate.successes,
            n_episodes=rate.total,
        )


def before_practice(
    study: str, condition: str, seed: int, demonstrations: int, rate: Rate
) -> StageSuccess:
    """Return the row of a policy before the practice that the study is about."""
    return StageSuccess(
        study=study,
        condition=condition,
        stage=1,
        seed=seed,
        demonstrations=demonstrations,
        practice_episodes=0,
        n_success=rate.successes,
        n_episodes=rate.total,
    )


def stages_table(rows: Sequence[StageSuccess]) -> str:
    """Return the rows as a Markdown table, one line a condition, seeds pooled."""
    paper = PAPER.get(rows[0].study, {})
    lines = [
        "| condition | demonstrations | before | after practice | practice episodes "
        "| seeds, before -> after | gain, 95 % over seeds | paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(condition, rows, paper) for condition in _finished(rows)]
    return "\n".join(lines) + "\n"


def stages_figure(title: str, rows: Sequence[StageSuccess]) -> str:
    """Return success before and after practice, a pair a condition, as an SVG file."""
    paper = PAPER.get(rows[0].study, {})
    pairs: list[StagePair] = []
    for condition in _finished(rows):
        before, after = _stages(rows, condition)
        pairs.append(
            StagePair(
                name=condition,
                pooled=(pooled([row.rate for row in before]), pooled([row.rate for row in after])),
                seeds=tuple(
                    (one.rate.value, other.rate.value)
                    for one, other in zip(before, after, strict=True)
                ),
                paper=paper.get(condition),
            )
        )
    return pairs_figure(title, pairs)


def write_stages(folder: Path, title: str, rows: Sequence[StageSuccess]) -> None:
    """Write STUDY.json, STUDY.md and STUDY.svg, each whole or not at all."""
    name = rows[0].study
    texts = {f"{name}.json": json.dumps([asdict(row) for row in rows], indent=1) + "\n"}
    if _finished(rows):
        texts[f"{name}.md"] = stages_table(rows)
        texts[f"{name}.svg"] = stages_figure(title, rows)
    write_files(folder, texts)


def _finished(rows: Sequence[StageSuccess]) -> list[str]:
    """Return the conditions of which both stages have been measured, in their order."""
    return list(dict.fromkeys(row.condition for row in rows if row.stage == 2))


def _stages(
    rows: Sequence[StageSuccess], condition: str
) -> tuple[list[StageSuccess], list[StageSuccess]]:
    """Return the rows of both stages, seed by seed."""
    after = [row for row in rows if (row.condition, row.stage) == (condition, 2)]
    before = {row.seed: row for row in rows if (row.condition, row.stage) == (condition, 1)}
    return [before[row.seed] for row in after], after


def _line(
    condition: str, rows: Sequence[StageSuccess], paper: Mapping[str, tuple[float, float]]
) -> str:
    before, after = _stages(rows, condition)
    pairs = [(one.rate.value, other.rate.value) for one, other in zip(before, after, strict=True)]
    cells = (
        condition,
        f"{before[0].demonstrations:,}",
        f"{pooled([row.rate for row in before])}",
        f"{pooled([row.rate for row in after])}",
        f"{fmean(row.practice_episodes for row in after):,.0f}",
        ", ".join(f"{first:.3f} -> {second:.3f}" for first, second in pairs),
        with_seed_interval([second - first for first, second in pairs]),
        " -> ".join(map(str, paper[condition])) if condition in paper else "-",
    )
    return "| " + " | ".join(cells) + " |"
