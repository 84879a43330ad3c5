"""The section with the reward report of a Stage-1 run."""

from dataclasses import replace

import pytest

from nearer.evaluation.reward_metrics import DistanceGroup
from nearer.evaluation.reward_report import RewardReport
from nearer.reporting.html.reward_quality import (
    paint_baselines,
    paint_bias,
    paint_by_distance,
    paint_coverage,
    paint_spread,
    reward_quality,
)
from nearer.reporting.html.run_data import Report
from report_values import painted, report_of, words


@pytest.fixture
def measured(report: Report) -> RewardReport:
    """The reward report of the Stage-1 run, as nearer eval-reward wrote it."""
    reward_report = report.stage_one[0].reward_report
    assert reward_report is not None
    return reward_report


def section_of(report: Report, measured: RewardReport | None) -> str:
    return reward_quality(report_of([replace(report.stage_one[0], reward_report=measured)], []))


def test_reward_quality_has_a_paragraph_and_rows_for_every_source(
    report: Report, measured: RewardReport
) -> None:
    text = words(section_of(report, measured))
    assert len(measured.sources) == 2
    for name, source in measured.sources.items():
        assert f"{name.capitalize()}: {source.labels}." in text
        for slice_name, metrics in source.slices.items():
            assert f"{name}: {slice_name} {metrics.num_episodes}" in text


def test_reward_quality_names_the_recommended_threshold(
    report: Report, measured: RewardReport
) -> None:
    assert measured.recommended is not None
    text = words(section_of(report, measured))
    assert f"Recommended threshold s = {measured.recommended.threshold_steps:g} steps." in text
    assert measured.recommended.rule in text


def test_reward_quality_without_ground_truth_recommends_nothing(
    report: Report, measured: RewardReport
) -> None:
    html = section_of(report, replace(measured, recommended=None))
    assert "No threshold is recommended, because no episodes have ground-truth labels." in words(
        html
    )
    assert "Precision against recall" not in html


def test_reward_quality_compares_every_baseline_on_every_source(
    report: Report, measured: RewardReport
) -> None:
    text = words(section_of(report, measured))
    assert measured.baselines is not None
    for source, baselines in measured.baselines.sources.items():
        for name in baselines:
            assert f"{name} {source} " in text


def test_reward_quality_without_baselines_says_why(report: Report, measured: RewardReport) -> None:
    alone = replace(measured, baselines=None, why_no_baselines="they were not asked for")
    assert "No comparison with baselines: they were not asked for." in words(
        section_of(report, alone)
    )


def test_reward_quality_that_was_not_measured_names_the_command(report: Report) -> None:
    text = words(section_of(report, None))
    assert "The reward model is not evaluated yet; evaluate it with nearer" in text
    assert "--checkpoint RUN --data DATASET --env ID" in text


def test_reward_quality_without_stage_one_names_the_command(report: Report) -> None:
    text = words(reward_quality(report_of([], report.stage_two)))
    assert "No Stage-1 run on this page; evaluate one with nearer" in text


def test_paint_by_distance_leaves_out_groups_of_few_frames(measured: RewardReport) -> None:
    def group(num_frames: int) -> DistanceGroup:
        return DistanceGroup(
            from_steps=0,
            to_steps=2,
            num_frames=num_frames,
            mean_absolute_error_steps=1.0,
            bias_steps=-0.5,
            spread_steps=2.0,
        )

    name, source = next(iter(measured.sources.items()))
    groups = (group(19), group(20))
    reward = replace(source.reward, by_distance=groups, by_predicted=groups)
    sources = {name: replace(source, reward=reward)}
    error, spread = painted(paint_by_distance(sources, "steps")).get_lines()
    assert (list(error.get_xdata()), list(error.get_ydata())) == ([1.0], [1.0])  # pyright: ignore
    assert list(spread.get_ydata()) == [2.0]  # pyright: ignore
    _, bias = painted(paint_bias(sources, "steps")).get_lines()
    assert list(bias.get_ydata()) == [-0.5]  # pyright: ignore


def test_figures_of_a_source_without_success_are_empty(measured: RewardReport) -> None:
    name, source = next(iter(measured.sources.items()))
    reward = replace(source.reward, reliability=None, spread=None)
    sources = {name: replace(source, reward=reward)}
    assert len(painted(paint_coverage(sources)).get_lines()) == 1, "the diagonal alone"
    assert len(painted(paint_spread(sources, "steps")).get_lines()) == 1


def test_paint_baselines_names_every_reward_model(measured: RewardReport) -> None:
    assert measured.baselines is not None
    names = list(next(iter(measured.baselines.sources.values())))
    ticks = painted(paint_baselines(measured.baselines)).get_yticklabels()
    assert sorted(tick.get_text() for tick in ticks) == sorted(names)
