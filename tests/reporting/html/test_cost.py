"""The table of costs: what stages and evaluations took."""

from dataclasses import replace

from nearer.reporting.html.cost import cost
from nearer.reporting.html.run_data import Report
from report_values import evaluated, practice_records, report_of, solving, words


def test_cost_has_a_row_for_every_stage_and_evaluation(report: Report) -> None:
    html = cost(report)
    assert html.count("<tr>") == 1 + 4
    assert "Stage 1, SFT sft – 40" in words(html)
    iterations = len(report.stage_two[0].records)
    assert f"Stage 2, Self-Improvement practice {iterations} {iterations}" in words(html)
    assert words(html).count("Evaluation") == 2


def test_cost_of_an_evaluation_counts_its_control_steps(report: Report) -> None:
    stage_one = replace(report.stage_one[0], evaluated=evaluated(solving(2, 3)))
    text = words(cost(report_of([stage_one], [])))
    assert "Evaluation sft – – 3 160 0 2.0 80" in text


def test_cost_of_practice_sums_actions_outside_the_limits(report: Report) -> None:
    records = practice_records(3, **{"practice/actions_outside": 2})
    stage_two = replace(report.stage_two[0], records=records, evaluated=None)
    text = words(cost(report_of([], [stage_two])))
    assert "Stage 2, Self-Improvement practice 3 3 30 1,500 6 3.0 500" in text


def test_cost_with_a_vision_encoder_has_a_row_for_it(report: Report) -> None:
    stage_one = replace(report.stage_one[0], encoding_s=3.5)
    assert "Stage 1, vision encoder sft – – – – – 3.5 –" in words(cost(report_of([stage_one], [])))
    assert "Stage 1, vision encoder" not in words(cost(report))
