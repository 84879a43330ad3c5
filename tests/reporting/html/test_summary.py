"""The top of the page: alarms, success before and after practice with n and interval, time."""

from dataclasses import replace

from nearer.reporting.html.run_data import Report
from nearer.reporting.html.summary import alarms, evaluate_command, no_rollouts, summary
from report_values import (
    ENV_ID,
    EVIL,
    evaluated,
    pair,
    practice_records,
    report_of,
    solving,
    words,
)

ALARM = "the detector's precision fell to 0.500"


def test_summary_of_two_evaluations_has_both_rates_with_n_and_interval(report: Report) -> None:
    before, after = evaluated(solving(80, 100), num_steps=60), evaluated(solving(95, 100))
    text = words(summary(pair(report, before, after)))
    assert "80.0 % 95 % interval 71.1 to 86.7 %, n = 100" in text
    assert "95.0 % 95 % interval 88.8 to 97.8 %, n = 100" in text
    assert "Mean episode length, control steps 76.0 → 16.5" in text
    assert "95 % interval: Stage 1 69.7 to 82.3; Stage 2 10.9 to 22.1" in text


def test_summary_of_the_same_starts_compares_them_in_pairs(report: Report) -> None:
    before, after = evaluated(solving(80, 100), num_steps=60), evaluated(solving(95, 100))
    text = words(summary(pair(report, before, after)))
    assert "on the same 100 starts: 15 solved only by Stage 2 , 0 only by Stage 1" in text
    assert "Stage 2 saves 59.5 control steps" in text


def test_summary_of_different_starts_has_no_paired_comparison(report: Report) -> None:
    before, after = evaluated(solving(8, 10)), evaluated(solving(9, 10), seed=1)
    text = words(summary(pair(report, before, after)))
    assert "No paired comparison" in text
    assert "solved only by" not in text


def test_summary_of_practice_names_its_episodes_and_time(report: Report) -> None:
    stage_one, stage_two = report.stage_one[0], report.stage_two[0]
    stage_one = replace(stage_one, encoding_s=7.0)
    stage_two = replace(replace(stage_two, records=practice_records(5)), before=stage_one)
    text = words(summary(report_of([stage_one], [stage_two])))
    assert "Episodes practised 50 2,500 control steps" in text
    assert f"7 + {stage_one.last('time/elapsed_s'):.0f} + 5 vision encoder + Stage 1" in text


def test_summary_without_evaluations_names_the_command(report: Report) -> None:
    shown = pair(report, None, None)
    text = words(summary(shown))
    for run in shown.runs:
        command = f"nearer eval --checkpoint {run.shown_root}"
        assert f"Not evaluated yet; evaluate it with {command}" in text


def test_summary_without_the_stage_one_run_says_how_to_add_it(report: Report) -> None:
    alone = replace(report.stage_two[0], before=None)
    text = words(summary(report_of([], [alone])))
    assert "The Stage-1 run is not on this page; add it with nearer report" in text


def test_summary_without_practice_names_the_command(report: Report) -> None:
    text = words(summary(report_of(report.stage_one, [])))
    assert "practise with nearer improve --run RUN --env ID" in text


def test_summary_of_several_runs_is_a_table_with_a_row_each(report: Report) -> None:
    stage_one = replace(report.stage_one[0], evaluated=evaluated(solving(80, 100)))
    stage_two_runs = [
        replace(
            replace(report.stage_two[0], name=name, evaluated=evaluation),
            before=stage_one,
            index=index,
        )
        for index, (name, evaluation) in enumerate(
            [("first", evaluated(solving(95, 100))), ("second", None)]
        )
    ]
    html = summary(report_of([stage_one], stage_two_runs))
    assert html.count("<tr>") == 3
    assert "first 80.0 % 71.1 to 86.7 %, n = 100 95.0 % 88.8 to 97.8 %, n = 100" in words(html)
    assert "15 / 0, p < 0.0001" in words(html)
    assert "second 80.0 % 71.1 to 86.7 %, n = 100 not evaluated" in words(html)


def test_summary_numbers_that_are_missing_are_dashes(report: Report) -> None:
    records = [{"step": 1, "practice/episodes": None}, {"step": 2}]
    stage_two = replace(report.stage_two[0], records=records)
    assert "Episodes practised – – control steps" in words(summary(report_of([], [stage_two])))


def test_alarms_of_a_run_without_any_are_empty(report: Report) -> None:
    quiet = replace(report.stage_two[0], records=practice_records(3))
    assert alarms(report_of([], [quiet])) == ""


def test_alarms_of_several_iterations_show_the_latest_and_the_first(report: Report) -> None:
    records = practice_records(5)
    records[1:3] = [{**records[1], "alarm": "earlier"}, {**records[2], "alarm": ALARM}]
    html = alarms(report_of([], [replace(report.stage_two[0], records=records)]))
    assert html.count('role="alert"') == 1
    assert words(html) == (
        f"Alarm in run practice: {ALARM} Raised 2 times, first at iteration 2. Practice went on."
    )


def test_alarms_markup_in_a_record_is_escaped(report: Report) -> None:
    records = [{**practice_records(1)[0], "alarm": EVIL}]
    html = alarms(report_of([], [replace(report.stage_two[0], records=records)]))
    assert "<script" not in html
    assert EVIL in words(html)


def test_evaluate_command_names_the_env_of_the_run(report: Report) -> None:
    run = report.stage_two[0]
    assert evaluate_command(run) == f"nearer eval --checkpoint {run.shown_root} --env {ENV_ID}"


def test_summary_no_rollouts_names_run_and_command(report: Report) -> None:
    run = report.stage_two[0]
    text = words(no_rollouts(run))
    assert text.startswith("No rollouts of run practice yet; make them with nearer eval")
