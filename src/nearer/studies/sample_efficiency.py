"""Sample efficiency: success by further episodes, practised or demonstrated, from the small set on.

The practised curve is that of one Stage-2 run's checkpoints, a block of iterations apart; the
demonstrated one that of Stage 1 on larger fractions of the data set. All are evaluated on the same
starts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from nearer.core.callbacks import ProgressCallback
from nearer.reporting.html.efficiency_curves import CurvePoint, efficiency_figure
from nearer.runs.checkpoint import complete_checkpoints
from nearer.runs.metrics import number, read_metrics
from nearer.studies.headline_results import Measurement, with_seed_interval
from nearer.studies.recipe import Recipe
from nearer.studies.running import eval_of_checkpoint

Source = Literal["practised", "demonstrated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EfficiencyPoint:
    """Success of one seed's policy after so many further episodes.

    Attributes:
        source: of the further episodes.
        point: number of the point on its curve; 0 is the small set alone.
        episodes: further ones.
    """

    source: Source
    seed: int
    point: int
    episodes: int
    n_success: int
    n_episodes: int

    @property
    def rate(self) -> float:
        """Return the success rate."""
        return self.n_success / self.n_episodes


def practised_points(
    recipe: Recipe, stage_1: Measurement, on_progress: ProgressCallback
) -> Iterator[EfficiencyPoint]:
    """Yield the points of one seed's Stage-2 run, evaluating the checkpoints that are not yet."""
    run = recipe.improve.out
    total = [int(number(line["practice/episodes"])) for line in read_metrics(run)]
    yield _point("practised", stage_1, 0, 0, stage_1.n_success)
    _, *practised = complete_checkpoints(run / "checkpoints")  # the first is Stage 1's
    for point, folder in enumerate(practised, 1):
        success = eval_of_checkpoint(recipe, folder, on_progress).success
        episodes = total[int(folder.name) - 1]
        yield _point("practised", stage_1, point, episodes, success.successes)


def demonstrated_points(measurements: Sequence[Measurement]) -> list[EfficiencyPoint]:
    """Return the points of Stage 1 on every fraction of the data set, of all seeds."""
    percents = sorted({measurement.percent for measurement in measurements})
    stage_1 = [measurement for measurement in measurements if measurement.stage == 1]
    first = min(measurement.demonstrations for measurement in stage_1)
    return [
        _point("demonstrated", m, percents.index(m.percent), m.demonstrations - first, m.n_success)
        for m in stage_1
    ]


def _point(
    source: Source, stage_1: Measurement, point: int, episodes: int, n_success: int
) -> EfficiencyPoint:
    return EfficiencyPoint(
        source=source,
        seed=stage_1.seed,
        point=point,
        episodes=episodes,
        n_success=n_success,
        n_episodes=stage_1.n_episodes,
    )


def efficiency_svg(points: Sequence[EfficiencyPoint], first: int) -> str:
    """Return both curves as an SVG file; points that not every seed has are left out."""
    curves: dict[str, list[CurvePoint]] = {}
    seeds = {point.seed for point in points}
    for source, number_ in sorted({(p.source, p.point) for p in points}):
        same = [p for p in points if (p.source, p.point) == (source, number_)]
        if len(same) == len(seeds):
            rates = tuple(p.rate for p in same)
            episodes = sum(p.episodes for p in same) / len(same)
            curves.setdefault(source, []).append(CurvePoint(episodes=episodes, rates=rates))
    return efficiency_figure(first, curves)


def worth(points: Sequence[EfficiencyPoint], seed: int) -> float | None:
    """Return how many further demonstrations one practice episode is worth, for one seed.

    That is the number of further demonstrations of the largest set over the number of practice
    episodes after which the practised curve first reaches the success of that set, linear between
    its points; None: practice does not reach it.
    """
    own = [point for point in points if point.seed == seed]
    largest = max(
        (point for point in own if point.source == "demonstrated"), key=lambda p: p.episodes
    )
    curve = sorted((p for p in own if p.source == "practised"), key=lambda p: p.episodes)
    for before, after in pairwise(curve):
        if after.rate >= largest.rate > before.rate:
            part = (largest.rate - before.rate) / (after.rate - before.rate)
            return largest.episodes / (before.episodes + part * (after.episodes - before.episodes))
    return None


def efficiency_table(points: Sequence[EfficiencyPoint]) -> str:
    """Return both curves as a Markdown table, and what a practice episode is worth."""
    lines = ["| further episodes | success | n | seeds |", "|---|---|---|---|"]
    for source, number_ in sorted({(p.source, p.point) for p in points}):
        same = [p for p in points if (p.source, p.point) == (source, number_)]
        episodes = ", ".join(f"{p.episodes:,}" for p in same)
        rates = with_seed_interval([p.rate for p in same], rates=True)
        seeds = ", ".join(f"{p.rate:.3f}" for p in same)
        total = sum(p.n_episodes for p in same)
        lines.append(f"| {episodes} {source} | {rates} | {total} | {seeds} |")
    table = "\n".join(lines) + "\n"
    if all(point.episodes == 0 for point in points if point.source == "demonstrated"):
        return table
    seeds = sorted({point.seed for point in points})
    worths = [worth(points, seed) for seed in seeds]
    said = ", ".join("not reached" if w is None else f"{w:.1f}" for w in worths)
    return f"{table}\nDemonstrations that one practice episode is worth, seed by seed: {said}.\n"
