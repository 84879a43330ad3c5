"""A reward report as Markdown, number by number."""

from dataclasses import replace

import pytest

from document_values import METRICS, SLICE, reward_report
from nearer.evaluation.detector_metrics import PrecisionGap
from nearer.evaluation.reward_metrics import FailureMetrics
from nearer.evaluation.reward_report import RewardReport
from nearer.reporting.reward_table import failures_line, reward_table


def rows_of(table: str, first: str) -> list[list[str]]:
    """Return the cells of each row of the Markdown table whose first heading this is."""
    block = next(part for part in table.split("\n\n") if part.startswith(f"| {first} |"))
    return [line.strip("| ").split(" | ") for line in block.splitlines()]


def without_anything(report: RewardReport) -> RewardReport:
    """Return the report of a source where nothing could be measured."""
    source = report.sources["rollouts"]
    nothing = FailureMetrics(
        num_episodes=0, promised=None, promised_of_successes=None, lowest_steps_to_go=None
    )
    reward = replace(
        METRICS,
        failures=nothing,
        rank_correlation=replace(METRICS.rank_correlation, mean=None, ci95=None),
        by_distance=(),
        by_predicted=(),
        spread=None,
        reliability=None,
    )
    detector = replace(source.detector, halves=())
    remarks = replace(source.remarks, audits=None)
    empty = replace(source, reward=reward, detector=detector, remarks=remarks, slices={})
    return replace(report, sources={"rollouts": empty})


def test_reward_table_begins_with_checkpoint_training_and_threshold() -> None:
    head = reward_table(reward_report(threshold_steps=1.5)).split("\n\n")[:2]
    assert head == [
        "## Reward metrics of run",
        "Trained on: 50 demonstrations.\nRecommended threshold s = 1.5 steps: the best recall.",
    ]


def test_reward_table_of_a_calibrated_run_in_chunks_names_unit_and_threshold() -> None:
    report = replace(reward_report(), unit="chunks of 5 steps", run_threshold_steps=2.5)
    head = reward_table(report).split("\n\n")[1].splitlines()
    assert head[1:] == [
        "Recommended threshold s = 1 chunks of 5 steps: the best recall.",
        "All steps below are chunks of 5 steps.",
        "Its run was calibrated to s = 2.5.",
    ]


def test_reward_table_without_ground_truth_recommends_no_threshold() -> None:
    table = reward_table(replace(reward_report(), recommended=None))
    assert "No threshold is recommended: no labels are ground truth." in table
    assert "Recommended threshold" not in table


def test_reward_table_says_what_labels_detector_and_audits_are() -> None:
    about = reward_table(reward_report()).split("\n\n")[3]
    assert about.startswith("Labels: ground truth. Rank correlation of d with the true steps-to-go")
    assert "along an episode: 0.900 [0.800, 1.000] (n = 40 successful episodes)." in about
    # 18 of 20 detections are right, 18 of 40 successes are found.
    assert "measured on the other: precision 0.900 [" in about
    assert "recall 0.450 [" in about
    assert "where they were chosen they had a precision of 0.90." in about
    assert "Audits in practice: precision 1.000 [" in about
    assert "recall 0.889 [" in about


def test_reward_table_has_a_row_a_slice() -> None:
    report = reward_report()
    few = replace(SLICE, num_detections=0, num_correct_detections=0, bias_steps=-0.25)
    source = replace(report.sources["rollouts"], slices={"all": SLICE, "hard": few})
    head, _, every, hard = rows_of(
        reward_table(replace(report, sources={"rollouts": source})), "slice"
    )
    assert head[-2:] == ["precision at s", "recall at s"]
    assert every[:6] == ["all", "50", "40", "0.5", "-", "0.90"]
    assert every[6].startswith("0.900 [")
    assert hard[4] == "-0.2"
    assert hard[6] == "-", "without a detection there is no precision"


def test_reward_table_has_the_errors_by_distance() -> None:
    table = reward_table(reward_report())
    assert rows_of(table, "true steps-to-go")[2:] == [["0 to 4", "100", "0.5", "-0.2", "0.8"]]
    assert [row[0] for row in rows_of(table, "predicted steps-to-go")[2:]] == ["0 to 4", "5 to 9"]


def test_reward_table_has_coverage_and_spread() -> None:
    table = reward_table(reward_report())
    assert (
        "among the predicted quantiles: 10 % below the 10 % one, 50 % below the 50 % one, 95 % "
        "below the 90 % one."
    ) in table
    assert "rank correlation 0.50; among frames that look equally far 0.25." in table
    assert rows_of(table, "spread, steps")[2:] == [["1.0", "0.5", "10"]]


def test_reward_table_where_nothing_was_measured_leaves_it_out() -> None:
    table = reward_table(without_anything(reward_report()))
    assert table.split("\n\n")[3] == "Labels: ground truth."
    for words in ("steps-to-go |", "failures:", "quantiles", "Spread", "| slice", "nan", "None"):
        assert words not in table
    assert "\n\n\n" not in table


def test_reward_table_of_baselines_says_what_each_gains_over_steps_to_go() -> None:
    report = reward_report()
    assert report.baselines is not None
    rows = report.baselines.sources["rollouts"]
    ahead = replace(rows["progress"], gap=PrecisionGap(mean=0.1, ci95=(0.0, 0.2)))
    sources = {"rollouts": {**rows, "progress": ahead}}
    table = reward_table(replace(report, baselines=replace(report.baselines, sources=sources)))
    assert (
        "### Compared on rollouts\n\nTrained on the same 50 demonstrations, 10 updates, mean of 2 "
        "seeds."
    ) in table
    _, _, own, progress = rows_of(table, "reward")
    assert own == ["the checkpoint's own", "0.800", "-", "0.900", "-", "0.900", "0.450"]
    assert progress == ["progress", "0.800", "-0.100 [-0.200, +0.000]", *own[3:]]


def test_reward_table_without_baselines_says_why() -> None:
    report = replace(reward_report(), baselines=None, why_no_baselines="no demonstrations")
    assert reward_table(report).endswith("\n\nNo comparisons: no demonstrations.\n")


def test_failures_line_names_how_near_failures_came() -> None:
    assert failures_line(METRICS.failures) == (
        "3 failures: d came down to 2.0 steps (10 to 90 %: 1.0 to 3.0); it gave 0.10 on average to "
        "success in the steps that were left, where successes got 0.90."
    )


@pytest.mark.parametrize("missing", ["promised", "lowest_steps_to_go"])
def test_failures_line_without_failures_is_empty(missing: str) -> None:
    assert failures_line(replace(METRICS.failures, **{missing: None})) == ""
