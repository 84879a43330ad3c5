"""What the page reads of run folders."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nearer.core.errors import ConfigError
from nearer.reporting.html.run_data import Report, flat, read_report
from report_values import ENV_ID, Runs, practice_records, rollout


def strip(run: Path, *kept_files: str) -> Path:
    """Remove all files of a run but run.json and those that are kept; return the run."""
    for path in sorted(run.rglob("*"), reverse=True):
        if str(path.relative_to(run)) not in ("run.json", *kept_files):
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif not any(path.iterdir()):
                path.rmdir()
    return run


def test_read_report_of_both_stages_has_what_their_commands_wrote(report: Report) -> None:
    (stage_one,), (stage_two,) = report.stage_one, report.stage_two
    assert [run.name for run in report.runs] == ["sft", "practice"]
    assert stage_one.records[-1]["step"] == 40
    assert len(stage_one.demonstrations) > 0
    assert stage_one.training.policy_checkpoint == "best"
    assert stage_one.env is None, "its calibration names none"
    assert np.isnan(stage_one.encoding_s), "an MLP has no vision encoder"
    assert stage_two.before is stage_one
    assert stage_two.env == ENV_ID
    assert stage_two.updates_per_iteration == 1
    assert len(stage_two.audits) == len(stage_two.records)
    assert [run.chunk for run in report.runs] == [1, 1]
    for run in report.runs:
        assert run.evaluated is not None
        assert run.evaluated.env == ENV_ID
        assert len(run.evaluated.evaluation.results) == 12
        assert len(run.evaluated.rollouts) == 10


def test_read_report_of_a_run_that_has_just_begun_has_only_its_header(copied_runs: Runs) -> None:
    begun = read_report([strip(run) for run in copied_runs.both])
    assert [len(run.records) for run in begun.runs] == [0, 0]
    assert [run.evaluated for run in begun.runs] == [None, None]
    assert begun.stage_one[0].calibration is None
    assert begun.stage_one[0].reward_report is None
    assert begun.stage_two[0].kept_step is None


def test_read_report_of_the_same_folder_twice_has_it_once(copied_runs: Runs) -> None:
    run = strip(copied_runs.stage_two)
    assert len(read_report([run, run]).runs) == 1


def test_read_report_of_equal_names_adds_the_folder_that_tells_them_apart(
    copied_runs: Runs, tmp_path: Path
) -> None:
    run = strip(copied_runs.stage_one)
    other = shutil.copytree(run, tmp_path / "other" / "sft")
    names = [run.name for run in read_report([run, other]).runs]
    assert names == [f"{run.parent.name}/{run.name}", f"{other.parent.name}/{other.name}"]


def test_read_report_of_moved_runs_finds_stage_one_by_its_folder(copied_runs: Runs) -> None:
    moved = read_report([strip(run) for run in copied_runs.both])
    assert moved.stage_two[0].before is moved.stage_one[0]


def test_read_report_of_several_unrelated_stage_one_runs_pairs_none(
    copied_runs: Runs, tmp_path: Path
) -> None:
    first, second = (strip(run) for run in copied_runs.both)
    others = [first.rename(tmp_path / "a"), tmp_path / "b"]
    shutil.copytree(others[0], others[1])
    assert read_report([*others, second]).stage_two[0].before is None


def test_read_report_of_no_runs_raises() -> None:
    with pytest.raises(ConfigError, match="one or more run folders, got none"):
        read_report([])


def test_read_report_of_a_folder_that_is_no_run_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got .*/nothing without a run\.json"):
        read_report([tmp_path / "nothing"])


def test_read_report_of_another_command_raises(copied_runs: Runs) -> None:
    path = copied_runs.stage_one / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "command": "pretrain"}))
    with pytest.raises(ConfigError, match="got command 'pretrain'"):
        read_report([copied_runs.stage_one])


@pytest.mark.parametrize(
    "name",
    [
        "calibration.json",
        "demonstrations.json",
        "eval/eval_info.json",
        "eval/rollouts.json",
        "eval_reward/reward_report.json",
    ],
)
def test_read_report_of_a_damaged_file_names_it(copied_runs: Runs, name: str) -> None:
    run = strip(copied_runs.stage_one, name, "eval/eval_info.json")
    (run / name).write_text('{"threshold_steps": 1.0}')
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        read_report([run])


def test_kept_step_is_where_the_policy_link_points(copied_runs: Runs) -> None:
    run = strip(copied_runs.stage_two)
    (run / "checkpoints").mkdir(exist_ok=True)
    os.symlink("000123", run / "checkpoints/policy")
    assert read_report([run]).stage_two[0].kept_step == 123


def test_selected_before_a_validation_is_none(report: Report) -> None:
    run = replace(report.stage_one[0], records=[{"step": 1, "sft/loss_bc": 2.0}])
    assert run.selected("loss_bc") is None


def test_series_and_last_are_nan_where_a_metric_is_missing(report: Report) -> None:
    run = replace(report.stage_two[0], records=[{"step": 1, "a": 2}, {"step": 2, "a": None}])
    assert np.array_equal(run.series("a"), [2, np.nan], equal_nan=True)
    assert np.isnan(run.last("a"))
    assert np.isnan(replace(run, records=[]).last("a"))


def test_episodes_at_a_step_without_a_record_are_those_of_the_last(report: Report) -> None:
    run = replace(report.stage_two[0], records=practice_records(5))
    assert (run.episodes_at(2), run.episodes_at(None), run.episodes_at(99)) == (20, 50, 50)


def test_rollout_of_chunks_counts_control_steps() -> None:
    assert rollout(8, chunk=4).num_steps == 8


def test_flat_has_nested_settings_under_dotted_names() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": [2]}) == {"a.b.c": 1, "d": [2]}
