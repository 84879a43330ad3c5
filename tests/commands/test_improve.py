"""nearer improve: unusable calibrations and runs are refused, envs that fail cost no episodes."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from commands.faults import (
    Damage,
    edit_json,
    file_contents,
    remove_key,
    shift_normalisation,
    truncate,
)
from commands.tiny_runs import TINY_IMPROVE, TINY_SFT, improve_in
from nearer.cli import main, parse
from nearer.commands.improve import run_improve
from nearer.configs import ImproveConfig
from nearer.core.callbacks import Progress
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.practice_store import read_practice
from nearer.runs.metrics import read_metrics
from refusals import refused

OPTIMIZER_STATE = "checkpoints/last/training_state/optimizer_state.safetensors"

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def killed_run(workspace: Path) -> Path:
    """Return a Stage-2 run that looks as if it had been killed after its last iteration."""
    run = workspace / "run"
    main(["improve", "--run", str(workspace / "sft"), "--out", str(run), *TINY_IMPROVE])
    (run / "FINISHED").unlink()
    return run


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda calibration: calibration.unlink(),
            "got: .*; run nearer sft to the end, or pass",
        ),
        (
            truncate,
            "must be a JSON file of a run, got: .*; run nearer",
        ),
        (
            lambda calibration: calibration.write_text("[]"),
            "must hold a JSON object, got",
        ),
        (
            lambda calibration: remove_key(calibration, "threshold_steps"),
            "must name threshold_step",
        ),
        (
            lambda calibration: edit_json(calibration, threshold_steps=31.0),
            "threshold of 31.0 steps must be below the time limit of 30 steps; raise --max-steps",
        ),
    ],
)
def test_improve_unusable_calibration_is_refused(
    damage: Damage, sentence: str, workspace: Path, capsys: Capture
) -> None:
    damage(workspace / "sft/calibration.json")
    options = [*TINY_IMPROVE]
    threshold = options.index("--threshold")
    del options[threshold : threshold + 2]
    run = workspace / "run"
    message = refused(capsys, "improve", "--run", workspace / "sft", "--out", run, *options)
    assert re.search(sentence, message)
    assert not run.exists()


def test_improve_threshold_above_every_start_is_refused(workspace: Path, capsys: Capture) -> None:
    command = ["improve", "--run", workspace / "sft", "--out", workspace / "run", *TINY_IMPROVE]
    limits = ["--max-steps", "140", "--threshold", "140", "--max-env-steps", "999"]
    message = refused(capsys, *command, *limits)
    sentence = (
        "starts in a row that look done at a threshold of 140.0 steps; choose a lower threshold"
    )
    assert sentence in message


def test_improve_resume_missing_run_is_refused(tmp_path: Path, capsys: Capture) -> None:
    message = refused(capsys, "improve", "--resume", "--out", tmp_path / "none")
    assert "or start the run without --resume" in message
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda run: truncate(run / "metrics.jsonl"),
            "must have a record for each of the .* restore its metrics",
        ),
        (
            lambda run: truncate(min(run.glob("practice/data/chunk-000/*.parquet"))),
            "must be a whole parquet file, got: .*; restore",
        ),
        (
            lambda run: (run / "practice/meta/info.json").unlink(),
            "must have the file .*; restore it",
        ),
        (
            lambda run: truncate(run / OPTIMIZER_STATE),
            "must be a whole safetensors file, got: .*; copy it again, or use an older",
        ),
        (
            lambda run: shift_normalisation(
                run.parent / "sft/checkpoints/reward/pretrained_model/model.safetensors"
            ),
            "must carry the normalisation",
        ),
    ],
)
def test_improve_resume_damaged_run_is_refused(
    damage: Damage, sentence: str, killed_run: Path, capsys: Capture
) -> None:
    damage(killed_run)
    before = file_contents(killed_run / "practice/data")
    assert re.search(sentence, refused(capsys, "improve", "--resume", "--out", killed_run))
    assert file_contents(killed_run / "practice/data") == before


def test_improve_resume_other_reward_model_is_refused(killed_run: Path, capsys: Capture) -> None:
    sft, other = killed_run.parent / "sft", killed_run.parent / "other"
    main(["sft", "--data", str(killed_run.parent / "data"), "--out", str(other), *TINY_SFT])
    shutil.rmtree(sft)
    shutil.move(other, sft)
    message = refused(capsys, "improve", "--resume", "--out", killed_run)
    sentence = "frozen_sha256 must be [0-9a-f]+, as .*run.json says, got .*; restore"
    assert re.search(sentence, message)


@pytest.mark.usefixtures("faulty_envs")
def test_improve_env_that_terminates_keeps_short_episodes(workspace: Path) -> None:
    run = improve_in("Terminates", workspace)
    lengths = open_dataset(run / "practice").episode_lengths
    assert set(lengths.tolist()) == {4}  # three steps and the final observation
    assert read_metrics(run)[-1]["practice/detected"] == 0


@pytest.mark.usefixtures("faulty_envs")
def test_improve_env_error_loses_only_unfinished_episodes(workspace: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        improve_in("FailsLater", workspace)
    assert re.fullmatch(
        r"nearer: test/FailsLater-v0 must step without an error, got RuntimeError: the gripper is "
        r"on fire with seed \d+; what was finished is written, mend the env, NEARER_TRACEBACK=1 "
        r".*\n",
        capsys.readouterr().err,
    )
    run = workspace / "FailsLater"
    assert open_dataset(run / "practice").info.total_episodes > 0
    assert read_metrics(run)
    main(["improve", "--resume", "--out", str(run)])  # the step that failed is behind it
    resumed = open_dataset(run / "practice").columns
    undisturbed = open_dataset(improve_in("SmallEnv", workspace) / "practice").columns
    for name, values in undisturbed.items():
        np.testing.assert_array_equal(resumed[name], values)


def test_improve_in_processes_is_continued_bit_for_bit(workspace: Path) -> None:
    whole, stopped = workspace / "whole", workspace / "stopped"
    start = ["improve", "--run", str(workspace / "sft"), *TINY_IMPROVE]
    in_processes = ["--fleet", "processes", "--fleet.processes", "2"]
    main([*start, *in_processes, "--out", str(whole)])
    _, config = parse([*start, *in_processes, "--out", str(stopped)])
    assert isinstance(config, ImproveConfig)
    reports: list[Progress] = []

    def stop(progress: Progress) -> None:
        reports.append(progress)
        if len(reports) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_improve(config, stop)
    main(["improve", "--resume", "--out", str(stopped)])
    practised = [open_dataset(run / "practice").columns for run in (whole, stopped)]
    assert len(practised[0]["action"]) > 400
    for name, values in practised[0].items():
        np.testing.assert_array_equal(practised[1][name], values)
    weights = "checkpoints/last/pretrained_model/model.safetensors"
    assert (whole / weights).read_bytes() == (stopped / weights).read_bytes()
    audits = [(run / "audits.jsonl").read_text() for run in (whole, stopped)]
    assert audits[0] == audits[1] != ""
    config_kept = json.loads((stopped / "run.json").read_text())["config"]
    assert config_kept["fleet"] == "processes"
    assert config_kept["fleet_settings"]["processes"] == 2


def test_improve_number_of_processes_without_processes_is_refused(
    workspace: Path, capsys: Capture
) -> None:
    start = ["improve", "--run", workspace / "sft", *TINY_IMPROVE, "--out", workspace / "run"]
    message = refused(capsys, *start, "--fleet.processes", "2")
    assert "--fleet.processes must go with --fleet processes, got --fleet auto" in message


def test_improve_during_updates_weighs_samples_of_the_version_before(workspace: Path) -> None:
    run = workspace / "overlap"
    overlap = ["--fleet", "processes", "--fleet.processes", "1", "--fleet.max-staleness", "1"]
    main(
        [
            "improve",
            "--run",
            str(workspace / "sft"),
            *TINY_IMPROVE,
            *overlap,
            "--out",
            str(run),
            "--max-env-steps",
            "1200",
        ]
    )
    assert json.loads((run / "run.json").read_text())["config"]["deviate"]["importance_cap"] == 1.0
    scored = read_practice(run / "practice")
    assert [one.episode.policy_version for one in scored] == sorted(
        one.episode.policy_version for one in scored
    )
    num_iterations = len(read_metrics(run))
    assert {one.episode.policy_version for one in scored} == set(range(num_iterations - 1))


def test_improve_by_a_served_policy_practises_as_copies_of_it_do(workspace: Path) -> None:
    lengths: dict[str, list[int]] = {}
    for policy in ("local", "served"):
        run = workspace / policy
        fleet = ["--fleet", "processes", "--fleet.processes", "2", "--fleet.policy", policy]
        main(["improve", "--run", str(workspace / "sft"), *TINY_IMPROVE, *fleet, "--out", str(run)])
        scored = read_practice(run / "practice")
        lengths[policy] = [one.episode.num_steps for one in scored]
        assert all(np.isfinite(one.steps_to_go).all() for one in scored)
    assert lengths["local"] == lengths["served"]


def test_improve_at_a_control_rate_says_how_well_it_was_kept(
    workspace: Path, capsys: Capture
) -> None:
    fleet = ["--fleet", "processes", "--fleet.processes", "1", "--fleet.hz", "200"]
    run = ["--out", str(workspace / "paced"), "--fleet.background-check"]
    main(["improve", "--run", str(workspace / "sft"), *TINY_IMPROVE, *fleet, *run])
    assert re.search(r"control +\d+ of \d+ control periods missed; jitter", capsys.readouterr().out)
    scored = read_practice(workspace / "paced" / "practice")
    assert all(np.isfinite(one.steps_to_go).all() for one in scored)


def test_improve_served_and_stale_is_refused(workspace: Path, capsys: Capture) -> None:
    start = ["improve", "--run", workspace / "sft", *TINY_IMPROVE, "--out", workspace / "run"]
    both = ["--fleet", "processes", "--fleet.policy", "served", "--fleet.max-staleness", "1"]
    message = refused(capsys, *start, *both)
    assert "--fleet.max-staleness must go with --fleet.policy local, got served" in message
    ahead = ["--fleet", "processes", "--fleet.policy", "served", "--fleet.decide-ahead", "2"]
    message = refused(capsys, *start, *ahead)
    assert "--fleet.decide-ahead must go with --fleet.policy local, got served" in message
    truth = ["--fleet", "processes", "--fleet.policy", "served", "--deviate.end-on-ground-truth"]
    assert "must go with --fleet.policy local, got served" in refused(capsys, *start, *truth)


def test_improve_two_numbers_of_robots_are_refused(workspace: Path, capsys: Capture) -> None:
    start = ["improve", "--run", workspace / "sft", *TINY_IMPROVE, "--out", workspace / "run"]
    message = refused(capsys, *start, "--fleet", "ray", "--fleet.robots", "3")
    assert (
        "--fleet.robots must be all the robots of a Ray cluster, got 3 and --num-envs 4" in message
    )
