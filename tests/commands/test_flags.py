"""Flags with impossible or mistyped values get one sentence and leave no file."""

import re
from pathlib import Path

import pytest

from commands.tiny_runs import ENV_ID
from nearer.cli import main
from nearer.configs.flags import gathered
from refusals import refused

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("sft --batch-size 0", "--batch-size must be 1 or more, got 0; the default is 256"),
        ("sft --updates -1", "--updates must be 1 or more, got -1"),
        ("sft --learning-rate 0", "--learning-rate must be a finite number above 0, got 0.0"),
        ("sft --learning-rate -0.1", "--learning-rate must be a finite number above 0, got -0.1"),
        ("sft --learning-rate nan", "--learning-rate must be a finite number above 0, got nan"),
        ("sft --learning-rate inf", "--learning-rate must be a finite number above 0, got inf"),
        ("sft --weight-decay -1", "--weight-decay must be 0 or more, got -1.0"),
        ("sft --weight-decay nan", "--weight-decay must be 0 or more, got nan"),
        ("sft --warmup-updates -1", "--warmup-updates must be 0 or more, got -1"),
        ("sft --max-gradient-norm 0", "--max-gradient-norm must be a finite number above 0"),
        ("sft --val-fraction 2", r"--val-fraction must lie in \(0, 1\), got 2.0"),
        ("sft --val-fraction 0", r"--val-fraction must lie in \(0, 1\), got 0.0"),
        ("sft --seed -1", "--seed must be 0 or more, got -1; the default is 0"),
        ("sft --mlp.hidden 0", "--mlp.hidden must be 1 or more, got 0"),
        ("sft --mlp.num-bins 1", "--mlp.num-bins must be 2 or more, got 1"),
        ("sft --mlp.min-scale 0", "--mlp.min-scale must be a finite number above 0, got 0.0"),
        (
            "sft --mlp.max-scale 0.1",
            "must be finite and at least --mlp.min-scale, got 0.1 and 0.15",
        ),
        ("sft --calibration.rollouts 0", "--calibration.rollouts must be 1 or more, got 0"),
        ("sft --calibration.rollout-steps 0", "--calibration.rollout-steps must be 1 or more"),
        ("sft --calibration.min-precision 1.1", r"must lie in \(0, 1\], got 1.1"),
        ("sft", "--data must name a data set, got none; make one with nearer collect"),
        ("sft --resume", "--resume must come with the run's folder, got none; pass --out RUN"),
        ("improve", "--env must name a Gymnasium env, got none; pass --env ID"),
        (f"improve --env {ENV_ID}", "--run must name a Stage-1 run, got none; make one with"),
        (
            "improve --discount 1",
            r"--discount must lie in \[0, 1\), got 1.0; .* the paper uses 0.9",
        ),
        ("improve --discount nan", r"--discount must lie in \[0, 1\), got nan"),
        ("improve --max-steps 0", "--max-steps must be 1 or more, got 0"),
        ("improve --updates-per-iteration 0", "--updates-per-iteration must be 1 or more, got 0"),
        ("improve --return-scale inf", "--return-scale must be a finite number above 0, got inf"),
        ("improve --num-envs 0", "--num-envs must be 1 or more, got 0"),
        (
            "improve --threshold 500",
            r"time limit of 140 steps \(--max-steps\), got 500.0; leave it",
        ),
        ("improve --threshold nan", "--threshold must lie between 0 and .*, got nan; leave it out"),
        ("improve --block-iterations 0", "--block-iterations must be 1 or more, got 0"),
        ("improve --min-gain -1", "--min-gain must be 0 or more, got -1.0"),
        ("improve --audit-every -1", "--audit-every must be 0 or more, got -1"),
        ("improve --min-precision 1.5", r"--min-precision must lie in \[0, 1\], got 1.5"),
        ("improve --min-recall -0.5", r"--min-recall must lie in \[0, 1\], got -0.5"),
        ("improve --min-trials 0", "--min-trials must be 1 or more, got 0"),
        ("improve --audit-episodes 0", "--audit-episodes must be 1 or more, got 0"),
        ("improve --deviate.ppo-clip 1", r"--deviate.ppo-clip must lie in \[0, 1\), got 1.0"),
        ("improve --deviate.success-bonus nan", "--deviate.success-bonus must be 0 or more"),
        ("improve --deviate.past-iterations -1", "--deviate.past-iterations must be 0 or more"),
        ("improve --deviate.epochs 0", "--deviate.epochs must be 1 or more"),
        ("improve --max-env-steps 2143", "--max-env-steps must be 2144 or more, .*, got 2143"),
        ("collect --env E --out O --episodes 0", "--episodes must be 1 or more, got 0"),
        ("collect --env E --out O --min-observations 1", "--min-observations must be 2 or more"),
        ("collect --env E --out O --fps 0", "--fps must be 1 or more, got 0"),
        ("collect --env E --out O --seed -1", "--seed must be 0 or more, got -1"),
        ("eval --checkpoint C --env E --episodes 0", "--episodes must be 1 or more, got 0"),
        ("eval --checkpoint C --env E --max-steps 0", "--max-steps must be 1 or more, got 0"),
        ("eval --checkpoint C --env E --num-envs -3", "--num-envs must be 1 or more, got -3"),
        ("demo --episodes 0", "--episodes must be 1 or more, got 0"),
        ("demo --seed -1", "--seed must be 0 or more, got -1"),
        ("report", "the runs must be one folder or more, got none; pass nearer report RUN RUN"),
        ("report none", "must be folders that nearer sft or nearer improve made, got .*none"),
    ],
)
def test_flag_impossible_value_is_refused(
    command: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert re.search(sentence, refused(capsys, *command.split()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("improve --treshold 3", "--threshold"),
        ("sft --batchsize 3", "--batch-size"),
        ("eval --checkpoint C --env E --episode 3", "--episodes"),
        ("imrpove", "collect, sft, improve, watch, adapt, eval, report, demo"),
        ("demo point-mas", "point-mass"),
        ("sft --batch-size many", "--batch-size INT"),
        ("eval", "--checkpoint"),
    ],
)
def test_command_line_mistyped_word_gets_a_suggestion(
    command: str, hint: str, capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(command.split())
    message = capsys.readouterr().err
    assert exit_info.value.code == 2
    assert hint in message
    assert "Traceback" not in message


def test_gathered_lists_may_be_given_in_parts() -> None:
    given = ["sft", "--rename", "a=b", "--out", "x", "--rename=c=d", "--rename", "e=f", "g=h"]
    assert gathered(given) == ["sft", "--rename", "a=b", "c=d", "e=f", "g=h", "--out", "x"]
    parts = ["--calibration.env-kwargs", "a=1", "--calibration.env_kwargs", "b=-2"]
    assert gathered(parts) == ["--calibration.env-kwargs", "a=1", "b=-2"]
    assert gathered(["--resume", "--seed", "-1"]) == ["--resume", "--seed", "-1"]
    assert gathered(["--seed", "1", "--seed", "2"]) == ["--seed", "1", "--seed", "2"]
