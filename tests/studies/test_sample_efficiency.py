"""Sample efficiency: the two curves, their table, and what a practice episode is worth."""

import pytest

from nearer.studies.headline_results import Measurement
from nearer.studies.sample_efficiency import (
    EfficiencyPoint,
    Source,
    demonstrated_points,
    efficiency_svg,
    efficiency_table,
    worth,
)


def point(source: Source, number: int, episodes: int, won: int, seed: int = 0) -> EfficiencyPoint:
    return EfficiencyPoint(
        source=source, seed=seed, point=number, episodes=episodes, n_success=won, n_episodes=100
    )


CURVES = [
    point("practised", 0, 0, 60),
    point("practised", 1, 100, 80),
    point("practised", 2, 200, 90),
    point("demonstrated", 0, 0, 60),
    point("demonstrated", 1, 1500, 85),
]


def test_worth_of_a_practice_episode_is_read_between_two_points() -> None:
    assert worth(CURVES, seed=0) == pytest.approx(1500 / 150)


def test_worth_where_practice_never_reaches_the_largest_set_is_none() -> None:
    assert worth([*CURVES[:2], *CURVES[3:]], seed=0) is None


def test_demonstrated_points_of_stage_1_start_at_the_smallest_set() -> None:
    measurements = [
        Measurement(
            percent=percent, stage=stage, seed=3, demonstrations=20 * percent,
            practice_episodes=0, n_success=50 + percent, n_episodes=200,
        )
        for percent in (10, 80)
        for stage in (1, 2)
    ]  # fmt: skip
    points = demonstrated_points(measurements)
    assert [(p.point, p.episodes, p.rate) for p in points] == [(0, 0, 0.3), (1, 1400, 0.65)]


def test_efficiency_table_has_seeds_and_worth() -> None:
    table = efficiency_table(CURVES)
    assert "| 1,500 demonstrated | 0.850 | 100 | 0.850 |" in table
    assert table.endswith("that one practice episode is worth, seed by seed: 10.0.\n")


def test_efficiency_table_interval_of_a_rate_stays_a_rate() -> None:
    other = [point(p.source, p.point, p.episodes, p.n_success - 20, seed=1) for p in CURVES]
    table = efficiency_table([*CURVES, *other])
    assert "| 1,500, 1,500 demonstrated | 0.750 [0.000, 1.000] | 200 | 0.850, 0.650 |" in table


def test_efficiency_table_without_a_larger_data_set_says_nothing_of_worth() -> None:
    alone = [point for point in CURVES if point.source == "practised" or not point.episodes]
    assert efficiency_table(alone).endswith("|\n")


def test_efficiency_svg_leaves_out_what_a_seed_lacks() -> None:
    other = [point(p.source, p.point, p.episodes, p.n_success - 4, seed=1) for p in CURVES]
    both = efficiency_svg([*CURVES, *other], first=199)
    assert both.count('fill="white"') == 1
    assert "further episodes, beyond 199 demonstrations" in both
    short = efficiency_svg([*CURVES, *other[:2], *other[3:]], first=199)
    assert len(short) < len(both)
