"""A whole recipe in one go, from demonstrations to the report."""

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from rich.console import Console

from nearer.commands.collect import collect_demonstrations
from nearer.commands.eval import run_eval
from nearer.commands.improve import run_improve
from nearer.commands.progress_bars import live
from nearer.commands.sft import run_sft
from nearer.configs.demo import DemoConfig
from nearer.core.callbacks import Progress, ProgressCallback
from nearer.evaluation.success import Comparison, Evaluation, compare
from nearer.reporting.html.page import write_report
from nearer.runs.lock import alone
from nearer.runs.metrics import number, read_metrics
from nearer.studies.point_mass import point_mass
from nearer.studies.recipe import Recipe
from nearer.studies.recorded_task import recorded_task
from nearer.studies.running import evaluated_beside, load_or_run_eval
from nearer.studies.tabletop import tabletop


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What a demo measured.

    Attributes:
        seconds: wall-clock time of demonstrations, SFT, practice (with the evaluation of Stage 1
            beside it) and everything.
    """

    before: Evaluation
    after: Evaluation
    paired: Comparison
    practice_episodes: int
    practice_env_steps: int
    seconds: dict[str, float]
    report: Path

    def lines(self) -> list[str]:
        """Return the results in five lines."""
        low, high = self.paired.steps_saved_ci95
        return [
            f"Stage 1   success {self.before.success}, {self.before.mean_length:.1f} steps",
            f"Stage 2   success {self.after.success}, {self.after.mean_length:.1f} steps",
            f"paired    {self.paired.wins} starts solved by Stage 2 alone, {self.paired.losses} by "
            f"Stage 1 alone; {self.paired.steps_saved:.1f} [{low:.1f}, {high:.1f}] steps saved",
            f"practice  {self.practice_episodes:,} episodes, "
            f"{self.practice_env_steps:,} env steps; {self.seconds['total']:.0f} s in all",
            f"report    {self.report}",
        ]


def main(config: DemoConfig, console: Console) -> None:
    """Run a recipe with progress bars, and print both stages' success and where the report is."""
    recipe = _recipe(config)
    with alone(config.out), live(console) as on_progress:
        result = run_demo(recipe, on_progress, collects=config.data is None)
    for line in result.lines():
        console.print(line, soft_wrap=True, highlight=False)


def _recipe(config: DemoConfig) -> Recipe:
    match config.which:
        case "pusht" | "metaworld" as task:
            return recorded_task(task, config.data, config.out, config.seed, config.quick)
        case "tabletop":
            return tabletop(config.out, config.seed, config.episodes, config.quick)
        case "point-mass":
            return point_mass(config.out, config.seed, config.episodes, config.quick)


def run_demo(recipe: Recipe, on_progress: ProgressCallback, collects: bool = True) -> DemoResult:
    """Collect, fine-tune, practise and evaluate Stage 1 beside, evaluate Stage 2, report.

    Args:
        recipe: what is run.
        on_progress: is called as it goes.
        collects: whether demonstrations are still to be collected.
    """
    started = perf_counter()
    if collects:
        collect_demonstrations(recipe.collect, on_progress)
    collected = perf_counter()
    run_sft(recipe.sft, on_progress)
    tuned = perf_counter()
    with evaluated_beside(recipe.eval_sft):  # practice leaves a part of two cores idle
        run_improve(recipe.improve, on_progress)
    practised = perf_counter()
    before = load_or_run_eval(recipe.eval_sft, _renamed(on_progress, "Stage 1 eval"))
    after = run_eval(recipe.eval_improve, _renamed(on_progress, "Stage 2 eval"))
    out = recipe.improve.out
    report = write_report([recipe.sft.out, out], out.parent / "report.html")
    last = read_metrics(out)[-1]
    return DemoResult(
        before=before,
        after=after,
        paired=compare(before, after),
        practice_episodes=int(number(last["practice/episodes"])),
        practice_env_steps=int(number(last["practice/env_steps"])),
        seconds={
            "demos": collected - started,
            "sft": tuned - collected,
            "practice": practised - tuned,
            "total": perf_counter() - started,
        },
        report=report,
    )


def _renamed(on_progress: ProgressCallback, stage: str) -> ProgressCallback:
    """Return a progress callback that reports every stage under this name."""

    def report_renamed(progress: Progress) -> None:
        on_progress(replace(progress, stage=stage))

    return report_renamed
