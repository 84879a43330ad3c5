"""The headline's results: success by fraction of the data, as numbers, a table and a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

from nearer.core.intervals import Rate, seed_interval
from nearer.reporting.html.fraction_curves import FractionPoint, fractions_figure

Algorithm = Literal["recipe", "algorithm 1"]
"""Of Stage 2: the recipe with its named deviations, or algorithm 1 of the paper without any."""
PAPER = {10: (0.452, 0.745), 20: (0.573, 0.889), 80: (0.584, 0.968)}
"""Success after Stage 1 and Stage 2 in the paper, by percent of its 181,020 demonstrations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Success of one policy.

    Attributes:
        percent: of the data set that Stage 1 was trained on.
        stage: 1 after SFT, 2 after practice.
        demonstrations: number that Stage 1 was trained on, validation episodes included.
        practice_episodes: of Stage 2, those after the kept policy included; 0 in stage 1.
        n_success: of the policy that the run kept.
        n_success_last: of its last policy, on the same starts; None in stage 1.
        algorithm: of Stage 2.
    """

    percent: int
    stage: int
    seed: int
    demonstrations: int
    practice_episodes: int
    n_success: int
    n_episodes: int
    n_success_last: int | None = None
    algorithm: Algorithm = "recipe"

    @property
    def rate(self) -> Rate:
        """Return the success rate."""
        return Rate(successes=self.n_success, total=self.n_episodes)


def headline_table(measurements: Sequence[Measurement]) -> str:
    """Return the results as a Markdown table, seeds pooled, beside the paper's."""
    lines = [
        "| data | demonstrations | Stage 1 | Stage 2 | practice episodes | seeds, Stage 1 -> 2 "
        "| gain, 95 % over seeds | last policy less the kept one | paper |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    practised = [measurement for measurement in measurements if measurement.stage == 2]
    for percent in sorted({measurement.percent for measurement in practised}):
        for algorithm in get_args(Algorithm):
            after = [m for m in practised if (m.percent, m.algorithm) == (percent, algorithm)]
            if after:
                before = [_stage_1(measurements, percent, m.seed) for m in after]
                lines.append(_row(percent, algorithm, before, after))
    return "\n".join(lines) + "\n" + _less_the_largest(measurements)


def _row(
    percent: int, algorithm: Algorithm, before: Sequence[Measurement], after: Sequence[Measurement]
) -> str:
    pairs = [(b.rate.value, a.rate.value) for b, a in zip(before, after, strict=True)]
    lasts = [
        (a.n_success_last - a.n_success) / a.n_episodes
        for a in after
        if a.n_success_last is not None
    ]
    cells = (
        f"{percent} %" if algorithm == "recipe" else f"{percent} %, {algorithm}",
        f"{before[0].demonstrations:,}",
        f"{_pooled(before)}",
        f"{_pooled(after)}",
        f"{fmean(m.practice_episodes for m in after):,.0f}",
        ", ".join(f"{first:.3f} -> {second:.3f}" for first, second in pairs),
        with_seed_interval([second - first for first, second in pairs]),
        ", ".join(f"{value:+.3f}" for value in lasts) or "-",
        " -> ".join(map(str, PAPER[percent])) if percent in PAPER else "-",
    )
    return "| " + " | ".join(cells) + " |"


def _less_the_largest(measurements: Sequence[Measurement]) -> str:
    """Return the line that compares the smallest fraction, practised, with the largest, not."""
    percents = sorted({measurement.percent for measurement in measurements})
    few, many = percents[0], percents[-1]
    differences = [
        m.rate.value - _stage_1(measurements, many, m.seed).rate.value
        for m in measurements
        if (m.percent, m.stage, m.algorithm) == (few, 2, "recipe")
        and any((o.percent, o.seed) == (many, m.seed) for o in measurements)
    ]
    if few == many or not differences:
        return ""
    difference = with_seed_interval(differences)
    return f"\n{few} % and practice less {many} % without: {difference} over seeds.\n"


def _stage_1(measurements: Sequence[Measurement], percent: int, seed: int) -> Measurement:
    return next(m for m in measurements if (m.percent, m.stage, m.seed) == (percent, 1, seed))


def with_seed_interval(values: Sequence[float], *, rates: bool = False) -> str:
    """Return the mean of the seeds' values; from two seeds on, with its interval.

    Args:
        values: one a seed.
        rates: they are rates, whose interval stays within [0, 1], and not differences with a sign.
    """
    form = ".3f" if rates else "+.3f"
    if len(values) < 2:
        return f"{values[0]:{form}}"
    low, high = seed_interval(values)
    if rates:
        low, high = max(low, 0.0), min(high, 1.0)
    return f"{fmean(values):{form}} [{low:{form}}, {high:{form}}]"


def headline_figure(measurements: Sequence[Measurement]) -> str:
    """Return success by fraction of the data as an SVG file."""
    shown = [measurement for measurement in measurements if measurement.algorithm == "recipe"]
    points: list[FractionPoint] = []
    for percent, stage in sorted({(m.percent, m.stage) for m in shown}):
        seeds = [m for m in shown if (m.percent, m.stage) == (percent, stage)]
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
    return fractions_figure(points)


def _pooled(measurements: Sequence[Measurement]) -> Rate:
    return pooled([measurement.rate for measurement in measurements])


def pooled(rates: Sequence[Rate]) -> Rate:
    """Return the rate over the episodes of all seeds."""
    return Rate(
        successes=sum(rate.successes for rate in rates), total=sum(rate.total for rate in rates)
    )
