"""The paper's headline at our size: little data and practice against much more data.

Block2Block from pixels and language; SFT on 10, 20 and 80 % of one data set of our own, practice
from each (paper, table 1 and fig. 4). Success is the simulator's. Every step that is on disk is
not done again, so a run of hours may be killed at any time.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

from nearer.commands.collect import collect_demonstrations
from nearer.commands.eval import run_eval
from nearer.commands.improve import run_improve
from nearer.commands.sft import run_sft
from nearer.configs.eval import EvalConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.intervals import Rate, seed_interval
from nearer.datasets.lerobot.reader import open_dataset
from nearer.evaluation.success import Evaluation, evaluation_of
from nearer.reporting.html.fraction_curves import SharePoint, shares_figure
from nearer.runs.files import write_text
from nearer.runs.run import is_finished, read_json, read_metrics
from nearer.studies.recipe import Recipe
from nearer.studies.tabletop import tabletop

PAPER = {10: (0.452, 0.745), 20: (0.573, 0.889), 80: (0.584, 0.968)}
"""Success after Stage 1 and Stage 2 in the paper, by percent of its 181,020 demonstrations."""
_RERUN = "run nearer reproduce headline again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Success of one policy.

    Attributes:
        share: percent of the data set that Stage 1 learned from.
        stage: 1 after SFT, 2 after practice.
        demonstrations: episodes that Stage 1 learned from, held-out ones included.
        practice_episodes: that Stage 2 practised, those after the policy it kept included; 0 in
            stage 1.
    """

    share: int
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


def reproduce(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[Measurement]:
    """Run what is missing, write table, figure and numbers as results come, and return them all."""
    total = whole_data(config, on_progress)
    found: list[Measurement] = []
    for seed in config.seeds:
        for share in config.fractions:
            recipe = recipe_of(config, seed, share)
            found += measure(recipe, seed, share, round(total * share / 100), on_progress)
            write_results(config.out, found)
    return found


def whole_data(config: ReproduceConfig, on_progress: ProgressCallback) -> int:
    """Collect the data set unless it is there, and return its number of demonstrations."""
    data = config.out / "demonstrations"
    if not (data / "COMPLETE").exists():
        recipe = tabletop(config.out, episodes=config.demonstrations, quick=config.quick)
        collect_demonstrations(replace(recipe.collect, out=data), on_progress)
        (data / "COMPLETE").touch()
    return open_dataset(data).info.total_episodes


def recipe_of(config: ReproduceConfig, seed: int, share: int) -> Recipe:
    """Return the configs of one seed and share; they use the one data set."""
    recipe = tabletop(config.out / f"seed{seed}_share{share}", seed, quick=config.quick)
    data = config.out / "demonstrations"
    practice, episodes = recipe.improve.practice, recipe.eval_sft.episodes
    if not config.quick:
        practice = replace(practice, max_env_steps=config.practice_steps)
        episodes = config.episodes
    return replace(
        recipe,
        sft=replace(recipe.sft, data=str(data), fraction=share / 100),
        improve=replace(recipe.improve, practice=practice),
        eval_sft=replace(recipe.eval_sft, episodes=episodes, videos=0),
        eval_improve=replace(recipe.eval_improve, episodes=episodes, videos=0),
    )


def measure(
    recipe: Recipe, seed: int, share: int, demonstrations: int, on_progress: ProgressCallback
) -> Iterator[Measurement]:
    """Yield both stages of one seed and share, doing what is not on disk yet."""
    finished_sft(recipe, on_progress)
    first = evaluated(recipe.eval_sft, on_progress)
    episodes = finished_practice(recipe, on_progress)
    second = evaluated(recipe.eval_improve, on_progress)
    for stage, evaluation, practised in ((1, first, 0), (2, second, episodes)):
        yield Measurement(
            share=share,
            stage=stage,
            seed=seed,
            demonstrations=demonstrations,
            practice_episodes=practised,
            n_success=evaluation.success.successes,
            n_episodes=evaluation.success.total,
        )


def finished_sft(recipe: Recipe, on_progress: ProgressCallback) -> None:
    """Run Stage 1 of a recipe, or the rest of it, unless it is done."""
    sft = recipe.sft
    if not is_finished(sft.out):
        run_sft(replace(sft, resume=(sft.out / "run.json").exists()), on_progress)


def finished_practice(recipe: Recipe, on_progress: ProgressCallback) -> int:
    """Run Stage 2 of a recipe, or the rest of it, unless it is done; return its episodes."""
    practice = recipe.improve
    if not is_finished(practice.out):
        run_improve(replace(practice, resume=(practice.out / "run.json").exists()), on_progress)
    return read_metrics(practice.out)[-1]["practice/episodes"]


def evaluated(config: EvalConfig, on_progress: ProgressCallback) -> Evaluation:
    """Return an evaluation, done now unless it is on disk."""
    done = (config.out or config.checkpoint / "eval") / "eval_info.json"
    if not done.exists():
        return run_eval(config, on_progress)
    return evaluation_of(read_json(done, _RERUN))


def write_results(folder: Path, found: Sequence[Measurement]) -> None:
    """Write headline.json, .md and .svg, each whole or not at all."""
    records = [asdict(one) for one in found]
    texts = {
        "headline.json": json.dumps(records, indent=1) + "\n",
        "headline.md": headline_table(found),
        "headline.svg": shares_figure(_points(found)),
    }
    write_files(folder, texts)


def write_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files by name, each whole or not at all."""
    for name, text in texts.items():
        write_text(folder / name, text)


def headline_table(found: Sequence[Measurement]) -> str:
    """Return the results as a table, seeds pooled, beside the paper's."""
    lines = [
        "| data | demonstrations | Stage 1 | Stage 2 | practice episodes | seeds, Stage 1 -> 2 "
        "| gain, 95 % over seeds | paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for share in sorted({one.share for one in found}):
        stages = [[m for m in found if m.share == share and m.stage == s] for s in (1, 2)]
        seeds = [f"{a.rate.value:.3f} -> {b.rate.value:.3f}" for a, b in zip(*stages, strict=True)]
        gain = _gain([b.rate.value - a.rate.value for a, b in zip(*stages, strict=True)])
        practised = sum(m.practice_episodes for m in stages[1]) / len(stages[1])
        paper = " -> ".join(map(str, PAPER[share])) if share in PAPER else "-"
        lines.append(
            f"| {share} % | {stages[0][0].demonstrations:,} | {_pooled(stages[0])} | "
            f"{_pooled(stages[1])} | {practised:,.0f} | {', '.join(seeds)} | {gain} | {paper} |"
        )
    return "\n".join(lines) + "\n"


def _gain(values: Sequence[float]) -> str:
    """Return the mean gain by practice; with its interval where there are two seeds or more."""
    if len(values) < 2:
        return f"{values[0]:+.3f}"
    low, high = seed_interval(values)
    return f"{fmean(values):+.3f} [{low:+.3f}, {high:+.3f}]"


def _points(found: Sequence[Measurement]) -> list[SharePoint]:
    points: list[SharePoint] = []
    for share, stage in sorted({(one.share, one.stage) for one in found}):
        seeds = [one for one in found if (one.share, one.stage) == (share, stage)]
        points.append(
            SharePoint(
                share=share,
                stage=stage,
                demonstrations=seeds[0].demonstrations,
                pooled=_pooled(seeds),
                seeds=tuple(one.rate.value for one in seeds),
                paper=PAPER[share][stage - 1] if share in PAPER else None,
            )
        )
    return points


def _pooled(measured: Sequence[Measurement]) -> Rate:
    return pooled([one.rate for one in measured])


def pooled(rates: Sequence[Rate]) -> Rate:
    """Return the rate over the episodes of all seeds."""
    return Rate(
        successes=sum(one.successes for one in rates), total=sum(one.total for one in rates)
    )
