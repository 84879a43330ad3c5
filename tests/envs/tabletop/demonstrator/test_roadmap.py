"""Paths of the pusher around blocks."""

import numpy as np
import pytest

from nearer.envs.tabletop.demonstrator.roadmap import build_roadmap, is_clear


def test_roadmap_heading_leads_around_what_stands_between() -> None:
    discs, clearance_m = np.array([[0.4, 0.0], [0.4, 0.05]]), 0.045
    position, goal, heading = np.array([0.3, 0.0]), np.array([0.5, 0.0]), np.zeros(2)
    roadmap = build_roadmap(discs, clearance_m)
    assert not is_clear(position, goal, discs, clearance_m)
    nearest_m = np.inf
    for _ in range(60):
        heading = roadmap.heading(position, goal, heading, side_preference=0.0)
        position = position + 0.005 * heading
        nearest_m = min(nearest_m, float(np.hypot(*(discs - position).T).min()))
        if np.hypot(*(position - goal)) < 0.006:
            break
    else:
        pytest.fail("it never arrived")
    assert nearest_m > 0.9 * clearance_m
    assert position[1] <= 0, "the shorter path is past the side without a second disc"


@pytest.mark.parametrize(("side_preference", "sign"), [(1.0, -1), (-1.0, 1)])
def test_roadmap_heading_symmetric_obstacle_is_passed_on_the_preferred_side(
    side_preference: float, sign: int
) -> None:
    roadmap = build_roadmap(np.array([[0.4, 0.0]]), 0.045)
    heading = roadmap.heading(
        np.array([0.3, 0.0]), np.array([0.5, 0.0]), np.zeros(2), side_preference
    )
    assert np.sign(heading[1]) == sign


def test_roadmap_fits_until_a_disc_moves_by_2_mm() -> None:
    discs = np.array([[0.4, 0.0]])
    roadmap = build_roadmap(discs, 0.045)
    assert roadmap.fits(discs + 0.001)
    assert not roadmap.fits(discs + 0.003)
    assert not roadmap.fits(np.zeros((2, 2)))


def test_is_clear_counts_the_segment_and_not_its_line() -> None:
    start, goal = np.array([0.3, 0.0]), np.array([0.4, 0.0])
    assert is_clear(start, goal, np.array([[0.35, 0.05]]), 0.045)
    assert not is_clear(start, goal, np.array([[0.35, 0.04]]), 0.045)
    assert is_clear(start, goal, np.array([[0.5, 0.0]]), 0.045), "beyond the goal"
