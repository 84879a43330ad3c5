"""Figures of training: what is pooled, and where evaluations stand."""

from dataclasses import replace

import numpy as np
import pytest

from nearer.evaluation.audit import Audit
from nearer.reporting.html.colours import STAGE_1, stage_two_colour
from nearer.reporting.html.curves import (
    AUDIT_WINDOW,
    audited,
    paint_audits,
    paint_length,
    paint_loss,
    paint_progress,
    paint_success,
)
from nearer.reporting.html.run_data import Report, StageTwo
from nearer.reporting.html.svg import Paint
from report_values import evaluated, painted, practice_records, solving


@pytest.fixture
def practised(report: Report) -> StageTwo:
    """A Stage-2 run of twelve iterations that was audited in the first five."""
    run = replace(report.stage_two[0], records=practice_records(12), evaluated=None)
    return replace(run, audits=tuple(audit(i) for i in range(5)), kept_step=9)


def audit(iteration: int, detected: int = 8, right: int = 8) -> Audit:
    return replace(
        AUDIT, iteration=iteration, num_detections=detected, num_correct_detections=right
    )


def points(paint: Paint, colour: str) -> list[tuple[float, float]]:
    """Return the marks of a colour, with their place."""
    lines = painted(paint).get_lines()
    return [
        (float(x), float(y))
        for line in lines
        if line.get_color() == colour and line.get_marker() not in ("None", "")
        for x, y in zip(np.asarray(line.get_xdata()), np.asarray(line.get_ydata()), strict=True)
    ]


def test_audited_pools_windows_at_the_practice_of_their_middle(practised: StageTwo) -> None:
    curve = audited(practised, lambda rates: rates.precision)
    assert AUDIT_WINDOW == 3
    assert curve.episodes.tolist() == [20, 45]
    assert [(rate.successes, rate.total) for rate in curve.rates] == [(24, 24), (16, 16)]


def test_audited_leaves_out_windows_without_trials(practised: StageTwo) -> None:
    silent = [audit(i, detected=0, right=0) for i in range(3)]
    run = replace(practised, audits=(*silent, audit(3)))
    assert audited(run, lambda rates: rates.precision).episodes.tolist() == [40]


def test_paint_success_puts_evaluations_at_their_practice(
    report: Report, practised: StageTwo
) -> None:
    stage_one = replace(report.stage_one[0], evaluated=evaluated(solving(8, 10)))
    stage_two = replace(practised, evaluated=evaluated(solving(9, 10)))
    paint = paint_success([stage_two], [stage_one])
    assert points(paint, STAGE_1) == [(0, 0.8)]
    assert (90, 0.9) in points(paint, stage_two_colour(0)), "the kept checkpoint, not the last"


def test_paint_length_starts_at_zero(report: Report, practised: StageTwo) -> None:
    stage_one = replace(report.stage_one[0], evaluated=evaluated(solving(1, 2), num_steps=60))
    axes = painted(paint_length([practised], [stage_one]))
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 100, "the evaluated mean length, 60 and 140 steps"


def test_paint_progress_without_records_draws_nothing(practised: StageTwo) -> None:
    empty = replace(practised, records=[])
    curves = painted(paint_progress([empty])).get_lines()
    assert [len(np.asarray(curve.get_xdata())) for curve in curves] == [0, 0]


def test_paint_progress_weights_iterations_by_their_episodes(practised: StageTwo) -> None:
    records = practice_records(80)
    records[1] = {
        **records[1],
        "practice/iteration_episodes": 30,
        "practice/progress_steps": 10.0,
    }
    axes = painted(paint_progress([replace(practised, records=records)]))
    values = np.asarray(axes.get_lines()[0].get_ydata())
    assert len(values) == 40, "two iterations a point"
    assert values[0] == pytest.approx((10 * 30 + 30 * 10) / 40)


def test_paint_audits_axis_begins_at_a_round_fraction_below_all(practised: StageTwo) -> None:
    poor = replace(practised, audits=tuple(audit(i, right=5) for i in range(3)))
    low = painted(paint_audits([poor])).get_ylim()[0]
    assert low == pytest.approx(0.2), "recall 15 of 27, from 37 %"


def test_paint_loss_marks_the_checkpoint_with_the_lowest_held_out_loss(report: Report) -> None:
    records = [
        {"step": step, "sft/loss_bc": 2.0, "sft/val_loss_bc": loss}
        for step, loss in ((100, 2.0), (200, 1.25), (300, 1.5))
    ]
    run = replace(report.stage_one[0], records=records)
    assert points(paint_loss(run, "loss_bc", selects=True), STAGE_1) == [(200, 1.25)]


def test_paint_loss_that_selects_no_checkpoint_marks_none(report: Report) -> None:
    assert points(paint_loss(report.stage_one[0], "loss_bc", selects=False), STAGE_1) == []


AUDIT = Audit(
    iteration=0,
    num_episodes=10,
    num_detections=8,
    num_correct_detections=8,
    num_success=9,
    num_ended_by_ground_truth=0,
    progress_steps=30.0,
    progress_variance=4.0,
)
