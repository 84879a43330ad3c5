"""The paper's headline at our size: few demonstrations and practice against many demonstrations.

Block2Block from images and language; Stage 1 on 10, 20 and 80 % of one data set of our own, Stage 2
from each (paper, table 1 and fig. 4). Success is the simulator's ground truth. What is on disk is
not run again, so a run of hours may be killed at any time.
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
from nearer.evaluation.eval_info import read_eval_info
from nearer.evaluation.success import Evaluation
from nearer.reporting.html.fraction_curves import FractionPoint, fractions_figure
from nearer.runs.files import write_text
from nearer.runs.metrics import number, read_metrics
from nearer.runs.run import is_finished
from nearer.studies.recipe import Recipe
from nearer.studies.tabletop import tabletop

PAPER = {10: (0.452, 0.745), 20: (0.573, 0.889), 80: (0.584, 0.968)}
"""Success after Stage 1 and Stage 2 in the paper, by percent of its 181,020 demonstrations."""
_RERUN_ADVICE = "run nearer reproduce headline again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Success of one policy.

    Attributes:
        percent: of the data set that Stage 1 was trained on.
        stage: 1 after SFT, 2 after practice.
        demonstrations: number that Stage 1 was trained on, validation episodes included.
        practice_episodes: of Stage 2, those after the kept policy included; 0 in stage 1.
    """

    percent: int
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
    """Run what is missing and return all measurements; files are written as results come."""
    total = ensure_demonstrations(config, on_progress)
    measurements: list[Measurement] = []
    for seed in config.seeds:
        for percent in config.fractions:
            recipe = recipe_for(config, seed, percent)
            demonstrations = round(total * percent / 100)
            measurements += measure_stages(recipe, seed, percent, demonstrations, on_progress)
            write_results(config.out, measurements)
    return measurements


def ensure_demonstrations(config: ReproduceConfig, on_progress: ProgressCallback) -> int:
    """Collect the data set unless it is there, and return its number of demonstrations."""
    data = config.out / "demonstrations"
    if not (data / "COMPLETE").exists():
        recipe = tabletop(config.out, episodes=config.demonstrations, quick=config.quick)
        collect_demonstrations(replace(recipe.collect, out=data), on_progress)
        (data / "COMPLETE").touch()
    return open_dataset(data).info.total_episodes


def recipe_for(config: ReproduceConfig, seed: int, percent: int) -> Recipe:
    """Return the configs of one seed and fraction; all use the same data set."""
    recipe = tabletop(config.out / f"seed{seed}_percent{percent}", seed, quick=config.quick)
    data = config.out / "demonstrations"
    practice, episodes = recipe.improve.practice, recipe.eval_sft.episodes
    if not config.quick:
        practice = replace(practice, max_env_steps=config.practice_steps)
        episodes = config.episodes
    return replace(
        recipe,
        sft=replace(recipe.sft, data=str(data), fraction=percent / 100),
        improve=replace(recipe.improve, practice=practice),
        eval_sft=replace(recipe.eval_sft, episodes=episodes, videos=0),
        eval_improve=replace(recipe.eval_improve, episodes=episodes, videos=0),
    )


def measure_stages(
    recipe: Recipe, seed: int, percent: int, demonstrations: int, on_progress: ProgressCallback
) -> Iterator[Measurement]:
    """Yield the measurements of both stages at one seed and fraction, running what is missing."""
    ensure_sft(recipe, on_progress)
    first = load_or_run_eval(recipe.eval_sft, on_progress)
    episodes = ensure_practice(recipe, on_progress)
    second = load_or_run_eval(recipe.eval_improve, on_progress)
    for stage, evaluation, practice_episodes in ((1, first, 0), (2, second, episodes)):
        yield Measurement(
            percent=percent,
            stage=stage,
            seed=seed,
            demonstrations=demonstrations,
            practice_episodes=practice_episodes,
            n_success=evaluation.success.successes,
            n_episodes=evaluation.success.total,
        )


def ensure_sft(recipe: Recipe, on_progress: ProgressCallback) -> None:
    """Run or resume Stage 1 of a recipe, unless it is finished."""
    sft = recipe.sft
    if not is_finished(sft.out):
        run_sft(replace(sft, resume=(sft.out / "run.json").exists()), on_progress)


def ensure_practice(recipe: Recipe, on_progress: ProgressCallback) -> int:
    """Run or resume Stage 2 of a recipe, unless it is finished; return its number of episodes."""
    practice = recipe.improve
    if not is_finished(practice.out):
        run_improve(replace(practice, resume=(practice.out / "run.json").exists()), on_progress)
    return int(number(read_metrics(practice.out)[-1]["practice/episodes"]))


def load_or_run_eval(config: EvalConfig, on_progress: ProgressCallback) -> Evaluation:
    """Return an evaluation from disk, or run it."""
    document = (config.out or config.checkpoint / "eval") / "eval_info.json"
    if not document.exists():
        return run_eval(config, on_progress)
    return read_eval_info(document, _RERUN_ADVICE).evaluation


def write_results(folder: Path, measurements: Sequence[Measurement]) -> None:
    """Write headline.json, .md and .svg, each whole or not at all."""
    records = [asdict(measurement) for measurement in measurements]
    texts = {
        "headline.json": json.dumps(records, indent=1) + "\n",
        "headline.md": headline_table(measurements),
        "headline.svg": fractions_figure(_points(measurements)),
    }
    write_files(folder, texts)


def write_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Write files by name, each whole or not at all."""
    for name, text in texts.items():
        write_text(folder / name, text)


def headline_table(measurements: Sequence[Measurement]) -> str:
    """Return the results as a Markdown table, seeds pooled, beside the paper's."""
    lines = [
        "| data | demonstrations | Stage 1 | Stage 2 | practice episodes | seeds, Stage 1 -> 2 "
        "| gain, 95 % over seeds | paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for percent in sorted({measurement.percent for measurement in measurements}):
        stages = [
            [m for m in measurements if m.percent == percent and m.stage == stage]
            for stage in (1, 2)
        ]
        seeds = [f"{a.rate.value:.3f} -> {b.rate.value:.3f}" for a, b in zip(*stages, strict=True)]
        gain = _gain([b.rate.value - a.rate.value for a, b in zip(*stages, strict=True)])
        episodes = fmean(m.practice_episodes for m in stages[1])
        paper = " -> ".join(map(str, PAPER[percent])) if percent in PAPER else "-"
        lines.append(
            f"| {percent} % | {stages[0][0].demonstrations:,} | {_pooled(stages[0])} | "
            f"{_pooled(stages[1])} | {episodes:,.0f} | {', '.join(seeds)} | {gain} | {paper} |"
        )
    return "\n".join(lines) + "\n"


def _gain(values: Sequence[float]) -> str:
    """Return the mean gain of the seeds; from two seeds on, with its interval."""
    if len(values) < 2:
        return f"{values[0]:+.3f}"
    low, high = seed_interval(values)
    return f"{fmean(values):+.3f} [{low:+.3f}, {high:+.3f}]"


def _points(measurements: Sequence[Measurement]) -> list[FractionPoint]:
    points: list[FractionPoint] = []
    for percent, stage in sorted({(m.percent, m.stage) for m in measurements}):
        seeds = [m for m in measurements if (m.percent, m.stage) == (percent, stage)]
        points.append(
            FractionPoint(
                percent=percent,
                stage=stage,
                demonstrations=seeds[0].demonstrations,
                pooled=_pooled(seeds),
                seeds=tuple(m.rate.value for m in seeds),
                paper=PAPER[percent][stage - 1] if percent in PAPER else None,
            )
        )
    return points


def _pooled(measurements: Sequence[Measurement]) -> Rate:
    return pooled([measurement.rate for measurement in measurements])


def pooled(rates: Sequence[Rate]) -> Rate:
    """Return the rate over the episodes of all seeds."""
    return Rate(
        successes=sum(rate.successes for rate in rates), total=sum(rate.total for rate in rates)
    )
