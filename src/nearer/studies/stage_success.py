"""Success by stage and condition: the rows, the table and the figure of the smaller studies."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

from nearer.core.callbacks import ProgressCallback
from nearer.core.intervals import Rate
from nearer.reporting.html.stage_pairs import StagePair, pairs_figure
from nearer.studies.headline_results import pooled, with_seed_interval
from nearer.studies.recipe import Recipe
from nearer.studies.running import ensure_practice, load_or_run_eval, write_files

PAPER: Mapping[str, Mapping[str, tuple[float, ...]]] = {
    "banana": {"banana": (0.63, 0.85)},
    "real2sim": {"real to sim": (0.226, 0.626)},
    "aloha": {"a third": (0.537, 0.678), "two thirds": (0.473, 0.726), "all": (0.7,)},
}
"""Success before practice in the paper, and after it if there was any, by study and condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSuccess:
    """Success of one policy, by the simulator's ground truth.

    Attributes:
        study: banana, real2sim, transfer, aloha, metaworld.
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


def practised_stages(
    recipe: Recipe,
    study: str,
    condition: str,
    seed: int,
    demonstrations: int,
    on_progress: ProgressCallback,
) -> Iterator[StageSuccess]:
    """Yield success of a recipe whose Stage 1 is done, before and after its practice.

    What is not on disk is run.
    """
    success = load_or_run_eval(recipe.eval_sft, on_progress).success
    before = before_practice(study, condition, seed, demonstrations, success)
    yield before
    episodes = ensure_practice(recipe, on_progress)
    yield before.then(load_or_run_eval(recipe.eval_improve, on_progress).success, episodes)


def stages_table(rows: Sequence[StageSuccess]) -> str:
    """Return the rows as a Markdown table, one line a condition, seeds pooled."""
    paper = PAPER.get(rows[0].study, {})
    lines = [
        "| condition | demonstrations | before | after practice | practice episodes "
        "| seeds, before -> after | gain, 95 % over seeds | paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(condition, rows, paper) for condition in _conditions(rows)]
    return "\n".join(lines) + "\n"


def stage_pairs(
    rows: Sequence[StageSuccess], paper: Mapping[str, tuple[float, ...]]
) -> list[StagePair]:
    """Return the rows as a pair a condition, seeds pooled.

    Args:
        rows: of one study.
        paper: success before and after practice in the paper, by condition.
    """
    pairs: list[StagePair] = []
    for condition in _conditions(rows):
        stages = _stages(rows, condition)
        by_stage = [[row.rate.value for row in stage] for stage in stages]
        pairs.append(
            StagePair(
                name=condition,
                pooled=tuple(pooled([row.rate for row in stage]) for stage in stages),
                seeds=tuple(zip(*by_stage, strict=True)),
                paper=paper.get(condition, ()),
            )
        )
    return pairs


def write_stages(folder: Path, title: str, rows: Sequence[StageSuccess]) -> None:
    """Write STUDY.json, STUDY.md and STUDY.svg, each whole or not at all."""
    name = rows[0].study
    texts = {f"{name}.json": json.dumps([asdict(row) for row in rows], indent=1) + "\n"}
    texts[f"{name}.md"] = stages_table(rows)
    texts[f"{name}.svg"] = pairs_figure(title, {"": stage_pairs(rows, PAPER.get(name, {}))})
    write_files(folder, texts)


def _conditions(rows: Sequence[StageSuccess]) -> list[str]:
    """Return the conditions in their order."""
    return list(dict.fromkeys(row.condition for row in rows))


def _stages(rows: Sequence[StageSuccess], condition: str) -> list[list[StageSuccess]]:
    """Return the rows of stage 1, and of stage 2 where there are any, of the same seeds."""
    first, second = (
        {row.seed: row for row in rows if (row.condition, row.stage) == (condition, stage)}
        for stage in (1, 2)
    )
    if not second:
        return [list(first.values())]
    return [[first[seed] for seed in second], list(second.values())]


def _line(
    condition: str, rows: Sequence[StageSuccess], paper: Mapping[str, tuple[float, ...]]
) -> str:
    before, *after = _stages(rows, condition)
    rates = f"{pooled([row.rate for row in before])}"
    practised = ["-", "-", ", ".join(f"{row.rate.value:.3f}" for row in before), "-"]
    for rows_after in after:
        pairs = [
            (one.rate.value, other.rate.value)
            for one, other in zip(before, rows_after, strict=True)
        ]
        practised = [
            f"{pooled([row.rate for row in rows_after])}",
            f"{fmean(row.practice_episodes for row in rows_after):,.0f}",
            ", ".join(f"{first:.3f} -> {second:.3f}" for first, second in pairs),
            with_seed_interval([second - first for first, second in pairs]),
        ]
    of_paper = " -> ".join(map(str, paper.get(condition, ()))) or "-"
    cells = (condition, f"{before[0].demonstrations:,}", rates, *practised, of_paper)
    return "| " + " | ".join(cells) + " |"
