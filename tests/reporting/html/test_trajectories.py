"""Paths of point-mass rollouts as small multiples."""

from dataclasses import replace

import numpy as np

from nearer.reporting.html.colours import STAGE_1
from nearer.reporting.html.run_data import Rollout
from nearer.reporting.html.trajectories import ROW_LENGTH, Row, can_draw, paint_rows, size_of
from report_values import labels, painted, rollout


def row(*rollouts: Rollout, name: str = "Stage 1") -> Row:
    return Row(name=name, colour=STAGE_1, rollouts=rollouts)


def test_can_draw_only_arrays_of_the_point_mass() -> None:
    good = rollout(5)
    assert can_draw([good])
    assert not can_draw([good, replace(good, agent_pos=np.zeros((6, 3)))])
    assert not can_draw([replace(good, environment_state=np.zeros((6, 3)))])


def test_paint_rows_says_length_and_failure_below_each_tile() -> None:
    axes = painted(paint_rows([row(rollout(7), rollout(9, success=False))]))
    assert {"7 steps", "failed at 9"} <= set(labels(axes))


def test_paint_rows_of_chunks_counts_control_steps() -> None:
    assert "8 steps" in labels(painted(paint_rows([row(rollout(8, chunk=4))])))


def test_paint_rows_shows_at_most_one_row_of_tiles() -> None:
    axes = painted(paint_rows([row(*[rollout(3)] * (ROW_LENGTH + 2))]))
    assert labels(axes).count("3 steps") == ROW_LENGTH


def test_paint_rows_sets_the_second_line_of_a_name_apart() -> None:
    assert {"Stage 1", "run a"} <= set(labels(painted(paint_rows([row(name="Stage 1\nrun a")]))))


def test_size_of_grows_with_the_rows() -> None:
    width, height = size_of([row()])
    assert size_of([row(), row()]) == (width, 2 * height)
