"""Bad input gets one sentence that says what was seen and what to do, and loses nothing."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from gymnasium.spaces import Box, Dict, Discrete
from tensorboard.summary.writer.record_writer import RecordWriter

from nearer.cli import main
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from nearer.envs.point_mass import PDDemonstrator, PointMassVector
from nearer.runs.metrics import read_metrics
from refusals import refused

ENV_ID = "nearer/PointMass-v0"
SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
TINY_SFT = ["--model", "mlp", "--mlp.hidden", "16", "--updates", "20", "--validate-every", "5"]
TINY_IMPROVE = [
    *("--env", ENV_ID, "--num-envs", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "2", "--batch-size", "32", "--max-env-steps", "600"),
    *("--block-iterations", "2", "--audit-every", "2"),
]  # fmt: skip

Damage = Callable[[Path], object]
Capture = pytest.CaptureFixture[str]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def drop_json(path: Path, key: str) -> None:
    document = json.loads(path.read_text())
    del document[key]
    path.write_text(json.dumps(document))


@pytest.fixture
def work(stage_one: Path, tmp_path: Path) -> Path:
    """Return a copy of the Stage-1 folder that a test may damage."""
    return Path(shutil.copytree(stage_one, tmp_path / "work", symlinks=True))


# Flags.


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
def test_impossible_values_are_refused(
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
        ("imrpove", "collect, sft, improve, eval, report, demo"),
        ("demo point-mas", "point-mass"),
        ("sft --batch-size many", "--batch-size INT"),
        ("eval", "--checkpoint"),
    ],
)
def test_what_is_mistyped_gets_a_suggestion(command: str, hint: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(command.split())
    said = capsys.readouterr().err
    assert left.value.code == 2
    assert hint in said
    assert "Traceback" not in said


# Data sets.


def data_set(
    root: Path,
    lengths: tuple[int, ...] = (4, 5, 6),
    without: str = "",
    value: float = 0.5,
) -> Path:
    """Write a small data set that has a state of 4 and 2 numbers and an action of 2."""
    sizes = {"observation.state": 4, "observation.environment_state": 2, "action": 2}
    sizes.pop(without, None)
    features = {key: Feature(dtype="float32", shape=(size,)) for key, size in sizes.items()}
    rng = np.random.default_rng(0)
    episodes = [
        EpisodeFrames(
            task="touch the goal",
            columns={key: rng.random((n, size), np.float32) for key, size in sizes.items()},
        )
        for n in lengths
    ]
    episodes[-1].columns[list(sizes)[-1]][1, 0] = value
    DatasetWriter.create(root, features, fps=10).append(episodes)
    return root


DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
INFO = "meta/info.json"


def lose_a_row(root: Path) -> None:
    table = pq.read_table(root / DATA)
    pq.write_table(table.slice(0, table.num_rows - 1), root / DATA)


def other_shape(root: Path) -> None:
    document = json.loads((root / INFO).read_text())
    document["features"]["action"]["shape"] = [3]
    (root / INFO).write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda r: cut(r / DATA), "must be a whole parquet file, got: .*; restore or download"),
        (lambda r: cut(r / EPISODES), "must be a whole parquet file, got: .*; restore or download"),
        (lambda r: cut(r / INFO), "must be valid JSON, got: .*; restore the file"),
        (lambda r: (r / DATA).unlink(), "must exist, got no such file; restore or download"),
        (lambda r: (r / INFO).unlink(), r"must hold a LeRobotDataset v3.0, got no file"),
        (lose_a_row, "episode 2 .* must have 6 rows in the data files, .*, got 5; restore"),
        (
            other_shape,
            r"action must have the shape \(3,\) .*, got \(2,\) in the data files; correct",
        ),
        (
            lambda r: edit_json(r / INFO, total_frames=14),
            "must count the frames .*, got 14; correct",
        ),
        (
            lambda r: edit_json(r / INFO, total_episodes=9),
            "must list 9 episodes, .*, got 3; restore",
        ),
        (lambda r: edit_json(r / INFO, fps=0), "got: fps 0, not a whole number"),
        (lambda r: edit_json(r / INFO, codebase_version="v2.1"), "got 'v2.1'; convert a copy with"),
        (lambda r: drop_json(r / INFO, "features"), "must have the key 'features'; restore"),
    ],
)
def test_a_damaged_data_set_is_refused(
    damage: Damage, sentence: str, tmp_path: Path, capsys: Capture
) -> None:
    root = data_set(tmp_path / "data")
    damage(root)
    before = files(root)
    said = refused(capsys, "sft", "--data", root, "--out", tmp_path / "run", *TINY_SFT)
    assert re.search(sentence, said)
    assert str(root) in said
    assert files(root) == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"without": "action"}, "must have a numeric feature 'action', got .*; rename"),
        ({"value": np.nan}, "action must be finite, got nan as number 0 in frame 1 of episode 2"),
        ({"value": np.inf}, "action must be finite, got inf as number 0 in frame 1 of episode 2"),
        ({"lengths": (4, 1, 5)}, "must have 2 frames or more, .* got 1 in episode 1; remove"),
        ({"lengths": (4,)}, "--data must hold at least 2 episodes, .*, got 1; record more"),
    ],
)
def test_a_data_set_that_cannot_be_trained_on_is_refused(
    options: dict[str, Any], sentence: str, tmp_path: Path, capsys: Capture
) -> None:
    root = data_set(tmp_path / "data", **options)
    said = refused(capsys, "sft", "--data", root, "--out", tmp_path / "run", *TINY_SFT)
    assert re.search(sentence, said)
    assert not (tmp_path / "run").exists()


def test_a_path_that_is_no_data_set_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert "must be an existing folder or a hub id 'user/name', got" in refused(
        capsys, "sft", "--data", tmp_path / "none"
    )
    (tmp_path / "file").write_text("no data set")
    assert "must be an existing folder" in refused(capsys, "sft", "--data", tmp_path / "file")
    assert "got no file meta/info.json" in refused(capsys, "sft", "--data", tmp_path)


def test_an_unreachable_hub_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = refused(capsys, "sft", "--data", "nobody/nothing")
    assert "'nobody/nothing' must be a folder, or a data set on the hub that can be reached" in said


def test_a_truncated_video_is_refused_where_it_is_read(tmp_path: Path) -> None:
    root = Path(shutil.copytree(SAMPLES / "video", tmp_path / "video"))
    (video,) = root.rglob("*.mp4")
    cut(video)
    dataset = open_dataset(root)
    (camera,) = dataset.videos
    with pytest.raises(DatasetError, match=f"{video.name} must "):
        dataset.frames(camera, np.arange(dataset.info.total_frames))


def test_an_unknown_model_is_refused(work: Path, capsys: Capture) -> None:
    command = ["sft", "--data", work / "data", "--model", "mpl", "--out", work / "run"]
    with pytest.raises(SystemExit):
        main(list(map(str, command)))
    assert re.search("must be small-vla, mlp, .*got 'mpl'", capsys.readouterr().err)
    assert not (work / "run").exists()


# Checkpoints and runs.

MODEL = "sft/checkpoints/policy/pretrained_model"


NO_MACHINE_HOLDS = {"hidden": 10**7, "num_bins": 30}


def other_normalisation(root: Path) -> None:
    path = root / MODEL / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    safetensors.torch.save_file({**weights, "state_mean": weights["state_mean"] + 1}, path)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda r: cut(r / MODEL / "model.safetensors"), "must be a whole safetensors file, got"),
        (lambda r: cut(r / MODEL / "config.json"), "must be a JSON file, got: .*; copy the checkp"),
        (lambda r: (r / MODEL / "config.json").write_text("[]"), "must hold a JSON object"),
        (other_normalisation, "must carry the normalisation that config.json was written with"),
        (
            lambda r: edit_json(r / MODEL / "config.json", model="pi0"),
            "got 'pi0'; use",
        ),
        (lambda r: edit_json(r / MODEL / "config.json", sizes={"hidden": 8}), "must fit the model"),
        (lambda r: drop_json(r / MODEL / "config.json", "spaces"), "must fit the model .*'spaces'"),
        (
            lambda r: edit_json(r / MODEL / "config.json", sizes=NO_MACHINE_HOLDS),
            "must fit the model .*in place of",
        ),
        (
            lambda r: (r / "sft/checkpoints/policy/COMPLETE").unlink(),
            "got a checkpoint that was nev",
        ),
        (
            lambda r: shutil.rmtree(r / "sft/checkpoints"),
            "got neither there nor in .*; make one wit",
        ),
    ],
)
@pytest.mark.parametrize("command", ["eval", "improve"])
def test_a_checkpoint_that_cannot_be_used_is_refused(
    damage: Damage, sentence: str, command: str, work: Path, capsys: Capture
) -> None:
    damage(work)
    before = files(work)
    options = {
        "eval": ["--checkpoint", work / "sft", "--env", ENV_ID],
        "improve": ["--run", work / "sft", "--out", work / "run", *TINY_IMPROVE],
    }[command]
    said = refused(capsys, command, *options)
    assert re.search(sentence, said)
    assert str(work / "sft") in said or "config.json" in said
    assert files(work) == before


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda r: (r / "calibration.json").unlink(),
            "got: .*; run nearer sft to the end, or pass",
        ),
        (
            lambda r: cut(r / "calibration.json"),
            "must be a JSON file of a run, got: .*; run nearer",
        ),
        (lambda r: (r / "calibration.json").write_text("[]"), "must hold a JSON object, got"),
        (
            lambda r: drop_json(r / "calibration.json", "threshold_steps"),
            "must name threshold_step",
        ),
        (
            lambda r: edit_json(r / "calibration.json", threshold_steps=31.0),
            "threshold of 31.0 steps must be below the time limit of 30 steps; raise --max-steps",
        ),
    ],
)
def test_a_calibration_that_cannot_be_used_is_refused(
    damage: Damage, sentence: str, work: Path, capsys: Capture
) -> None:
    damage(work / "sft")
    options = [*TINY_IMPROVE]
    del options[options.index("--threshold") : options.index("--threshold") + 2]
    said = refused(capsys, "improve", "--run", work / "sft", "--out", work / "run", *options)
    assert re.search(sentence, said)
    assert not (work / "run").exists()


def test_an_output_folder_that_cannot_be_used_is_refused(work: Path, capsys: Capture) -> None:
    (work / "file").write_text("mine")
    before = files(work)
    commands = [
        ["collect", "--env", ENV_ID, "--episodes", "4"],
        ["sft", "--data", work / "data", *TINY_SFT],
        ["improve", "--run", work / "sft", *TINY_IMPROVE],
    ]
    for command in commands:
        for taken in (work / "data", work / "file"):
            said = refused(capsys, *command, "--out", taken)
            assert re.search("must be an? (new or empty|empty or new) folder, got.*; choose", said)
            assert str(taken) in said
        said = refused(capsys, *command, "--out", work / "file" / "below")
        assert re.search("must be on a disk that can be written, got:? Not a directory", said)
    said = refused(
        capsys, "eval", "--checkpoint", work / "sft", "--env", ENV_ID, "--out", "/proc/x"
    )
    assert "/proc/x must be on a disk that can be written, got: No such file" in said
    assert files(work) == before


@pytest.mark.parametrize(
    ("damage", "options", "sentence"),
    [
        (
            lambda r: cut(r / "run.json"),
            [],
            "must be a JSON file of a run, got: .*; name the folder",
        ),
        (
            lambda r: (r / "run.json").write_text("3"),
            [],
            "must hold a JSON object, got 3; name the",
        ),
        (lambda r: edit_json(r / "run.json", config=[]), [], r"with config an object, got \[\]"),
        (
            lambda r: drop_json(r / "run.json", "format"),
            [],
            "made by nearer [0-9.]+, with format None; start a new run, or use that version",
        ),
        (
            lambda r: edit_json(r / "run.json", config={"x": 1}),
            [],
            "got 'x'; continue the run with",
        ),
        (
            lambda r: edit_json(r / "run.json", command="improve"),
            [],
            "got one of nearer improve; cont",
        ),
        (
            lambda r: None,
            ["--batch-size", "7"],
            "batch_size = 256, got 7; leave the flag out, or sta",
        ),
        (
            lambda r: None,
            ["--updates", "6144"],
            "updates = 40, got 6144; leave the flag out, or sta",
        ),
        (lambda r: None, ["--data", "other"], "with data = .*data, got other; leave the flag out"),
    ],
)
def test_resuming_what_does_not_fit_is_refused(
    damage: Damage, options: list[str], sentence: str, work: Path, capsys: Capture
) -> None:
    damage(work / "sft")
    before = files(work)
    assert re.search(sentence, refused(capsys, "sft", "--resume", "--out", work / "sft", *options))
    assert files(work) == before


def test_resuming_on_other_demonstrations_is_refused(work: Path, capsys: Capture) -> None:
    run, data = work / "run", work / "data"
    main(["sft", "--data", str(data), "--out", str(run), *TINY_SFT])
    (run / "FINISHED").unlink()
    shutil.move(data, work / "first")
    main(["collect", "--env", ENV_ID, "--episodes", "50", "--seed", "1", "--out", str(data)])
    before = files(run)
    said = refused(capsys, "sft", "--resume", "--out", run)
    assert re.search("data_sha256 must be [0-9a-f]+, as .*run.json says, got .*; restore", said)
    assert files(run) == before
    shutil.rmtree(data)
    shutil.copytree(work / "first", data)  # a copy is as good
    main(["sft", "--resume", "--out", str(run)])


def test_resuming_no_run_is_refused(tmp_path: Path, capsys: Capture) -> None:
    said = refused(capsys, "improve", "--resume", "--out", tmp_path / "none")
    assert "or start the run without --resume" in said
    assert not (tmp_path / "none").exists()


@pytest.fixture
def practised(work: Path) -> Path:
    """Return a Stage-2 run that looks as if it had been killed after its last iteration."""
    main(["improve", "--run", str(work / "sft"), "--out", str(work / "run"), *TINY_IMPROVE])
    (work / "run" / "FINISHED").unlink()
    return work / "run"


def practice_file(root: Path) -> Path:
    return sorted(root.glob("practice/data/chunk-000/*.parquet"))[0]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda r: cut(r / "metrics.jsonl"),
            "must have a record for each of the .* restore its metrics",
        ),
        (lambda r: cut(practice_file(r)), "must be a whole parquet file, got: .*; restore"),
        (lambda r: (r / "practice/meta/info.json").unlink(), "must have the file .*; restore it"),
        (
            lambda r: cut(r / "checkpoints/last/training_state/optimizer_state.safetensors"),
            "must be a whole safetensors file, got: .*; copy it again, or use an older",
        ),
        (
            lambda r: (
                shutil.copytree(
                    r.parent / "sft/checkpoints/reward",
                    r.parent / "sft/checkpoints/000001",
                    symlinks=True,
                )
                and other_normalisation(r.parent)
            ),
            "must carry the normalisation",
        ),
    ],
)
def test_resuming_a_damaged_practice_run_is_refused(
    damage: Damage, sentence: str, practised: Path, capsys: Capture
) -> None:
    damage(practised)
    kept = files(practised / "practice/data")
    assert re.search(sentence, refused(capsys, "improve", "--resume", "--out", practised))
    assert files(practised / "practice/data") == kept


def test_resuming_with_another_reward_is_refused(practised: Path, capsys: Capture) -> None:
    sft = practised.parent / "sft"
    main(["sft", "--data", str(sft.parent / "data"), "--out", str(sft) + "2", *TINY_SFT])
    shutil.rmtree(sft)
    shutil.move(f"{sft}2", sft)
    said = refused(capsys, "improve", "--resume", "--out", practised)
    assert re.search("frozen_sha256 must be [0-9a-f]+, as .*run.json says, got .*; restore", said)


# Evaluation.


def test_a_comparison_that_would_mislead_is_refused_at_once(work: Path, capsys: Capture) -> None:
    command = ["eval", "--checkpoint", str(work / "sft"), "--env", ENV_ID, "--episodes", "4"]
    main([*command, "--max-steps", "20"])
    first = work / "sft/eval/eval_info.json"
    before = files(work)
    against = [*command, "--against", first, "--max-steps", "20"]
    for options in (["--seed", "1"], ["--episodes", "5"], ["--max-steps", "30"]):
        said = refused(capsys, *against, *options)
        assert "must have the same seed, number of episodes and time limit, got 0, 4 and 20" in said
    said = refused(capsys, *command, "--against", work / "none")
    assert re.search("none.*eval_info.json must be .*; make it with nearer eval --checkpoint", said)
    assert files(work) == before
    edit_json(first, env="other/Env-v0")
    assert f"must be an evaluation in {ENV_ID}, got one in other/Env-v0" in refused(
        capsys, *against
    )
    edit_json(first, env=ENV_ID, episodes=[{"seed": 1}])
    assert "as this version of nearer writes it, with episodes[0].instruction" in refused(
        capsys, *against
    )
    cut(first)
    assert "must be a JSON file of a run, got" in refused(capsys, *against)


# Envs.


class SmallEnv(gymnasium.Env):
    """A point on a line with the sizes of the point mass; subclasses misbehave."""

    observation_space = Dict(
        {
            "agent_pos": Box(-np.inf, np.inf, (4,), np.float32),
            "environment_state": Box(-np.inf, np.inf, (2,), np.float32),
        }
    )
    action_space = Box(-np.inf, np.inf, (2,), np.float32)
    ends_after: ClassVar[int] = 10**9
    fails_at: ClassVar[int] = -1
    total_steps: ClassVar[int] = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 6).astype(np.float32)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        type(self).total_steps += 1
        if type(self).total_steps == self.fails_at:
            raise RuntimeError("the gripper is on fire")
        self.steps += 1
        self.state[:2] += np.clip(action, -1, 1)
        return self._observe(), 0.0, self.steps >= self.ends_after, False, {"is_success": False}

    def _observe(self):
        return {"agent_pos": self.state[:4].copy(), "environment_state": self.state[4:].copy()}


class DiscreteActions(SmallEnv):
    action_space = Discrete(3)


class OtherKeys(SmallEnv):
    observation_space = Dict({"joints": Box(-1, 1, (4,), np.float32)})


class OtherSizes(SmallEnv):
    action_space = Box(-1, 1, (7,), np.float32)


class Timid(SmallEnv):
    action_space = Box(-1e-5, 1e-5, (2,), np.float32)

    def demonstrator(self, num_robots):
        return PDDemonstrator(num_robots)

    def step(self, action):
        observed, reward, ended, truncated, _ = super().step(action)
        return observed, reward, ended, truncated, {"is_success": self.steps >= 20}


class EndsByItself(SmallEnv):
    ends_after = 3


class Fails(SmallEnv):
    fails_at = 300


class NotFinite(SmallEnv):
    def _observe(self):
        return {**super()._observe(), "agent_pos": np.full(4, np.nan, np.float32)}


class OtherThanItSays(SmallEnv):
    def _observe(self):
        return {**super()._observe(), "environment_state": np.zeros(3, np.float32)}


class CannotStart(SmallEnv):
    def __init__(self):
        raise OSError("no robot at /dev/ttyUSB0")


class NeedsAPackage(SmallEnv):
    def __init__(self):
        raise ModuleNotFoundError("No module named 'mujoco'")


class CannotBeMade(SmallEnv):
    def __init__(self):
        raise gymnasium.error.DependencyNotInstalled("box2d is not installed")


ENVS = [
    SmallEnv,
    DiscreteActions,
    OtherKeys,
    OtherSizes,
    Timid,
    EndsByItself,
    Fails,
    NotFinite,
    OtherThanItSays,
    CannotStart,
    NeedsAPackage,
    CannotBeMade,
]


@pytest.fixture(autouse=True)
def envs() -> Iterator[None]:
    """Register the envs of this file as test/NAME-v0."""
    for env in ENVS:
        env.total_steps = 0
        gymnasium.register(f"test/{env.__name__}-v0", env, disable_env_checker=True)
    yield
    for env in ENVS:
        del gymnasium.registry[f"test/{env.__name__}-v0"]


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("nearer/PointMas-v0", "got 'nearer/PointMas-v0'; did you mean nearer/PointMass-v0"),
        ("zzz", "got 'zzz'; install the package that registers it"),
        ("test/DiscreteActions-v0", r"a Box action space, got .*Discrete\(3\); wrap it"),
        ("test/OtherKeys-v0", r"must observe agent_pos, .* got \['joints'\]; rename them"),
        (
            "test/OtherSizes-v0",
            "must have the spaces of the checkpoint, .*action 2.*got .*action 7",
        ),
        ("test/NeedsAPackage-v0", "No module named 'mujoco'; install what it needs"),
        ("test/CannotBeMade-v0", "box2d is not installed; install what it needs"),
        ("test/CannotStart-v0", "must be made without an error, got OSError: no robot at /dev/tty"),
    ],
)
def test_an_env_that_cannot_be_used_is_refused(
    env: str, sentence: str, work: Path, capsys: Capture
) -> None:
    before = files(work)
    run, data = work / "sft", work / "data"
    out = ["--out", work / "run"]
    commands = [
        ["eval", "--checkpoint", run, "--env", env],
        ["improve", "--run", run, *out, *TINY_IMPROVE, "--env", env],
        ["sft", "--data", data, *out, *TINY_SFT, "--calibration.env", env],
    ]
    for command in commands:
        assert re.search(sentence, refused(capsys, *command))
    assert files(work) == before
    assert not (work / "run").exists()


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ("NotFinite", "must observe finite numbers, got nan in agent_pos; mend the env"),
        ("OtherThanItSays", r"must observe 2 numbers as environment_state, .*, got shape \(3,\);"),
    ],
)
def test_an_env_that_observes_what_it_does_not_promise_is_refused(
    env: str, sentence: str, work: Path, capsys: Capture
) -> None:
    before = files(work)
    command = ["eval", "--checkpoint", work / "sft", "--env", f"test/{env}-v0", "--episodes", "4"]
    assert re.search(f"test/{env}-v0 {sentence}", refused(capsys, *command))
    assert {name: files(work)[name] for name in before} == before


def test_collecting_without_a_demonstrator_is_refused(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "data"
    said = refused(capsys, "collect", "--env", "test/SmallEnv-v0", "--out", out)
    assert "must bring a method demonstrator(num_robots) to collect from, and has none" in said
    assert not out.exists()


def test_a_demonstrator_that_never_succeeds_leaves_the_folder_free(
    tmp_path: Path, capsys: Capture
) -> None:
    command = ["collect", "--env", ENV_ID, "--episodes", "4", "--out", str(tmp_path / "data")]
    said = refused(capsys, *command, "--max-steps", "10")
    assert "got 0 successes of 10 observations or more in 4 episodes; allow more steps" in said
    main(command)
    assert open_dataset(tmp_path / "data").info.total_episodes > 0


def test_a_detector_that_takes_every_start_for_done_is_refused(work: Path, capsys: Capture) -> None:
    command = ["improve", "--run", work / "sft", "--out", work / "run", *TINY_IMPROVE]
    said = refused(
        capsys, *command, "--max-steps", "140", "--threshold", "140", "--max-env-steps", 999
    )
    assert "starts in a row that look done at a threshold of 140.0 steps; lower --threshold" in said


def test_actions_beyond_the_limits_are_counted_and_shown(work: Path, capsys: Capture) -> None:
    run, env = practise(work, "Timid"), "test/Timid-v0"
    practised = [one["practice/actions_outside"] for one in read_metrics(run)]
    assert min(practised) > 0
    command = ["eval", "--checkpoint", str(run), "--env", env, "--episodes", "4"]
    capsys.readouterr()
    main(command)
    (evaluated,) = re.findall(r"(\d+) actions were beyond the limits of", capsys.readouterr().out)
    document = json.loads((run / "eval/eval_info.json").read_text())
    assert document["overall"]["n_actions_outside"] == int(evaluated)
    assert sum(one["actions_outside"] for one in document["episodes"]) == int(evaluated)
    main(["report", str(run), "--out", str(work / "report.html")])
    page = (work / "report.html").read_text()
    for counted in (sum(practised), int(evaluated)):
        assert f">{counted:,}<" in page
    main(["collect", "--env", env, "--episodes", "4", "--out", str(work / "more")])
    assert re.search(r"actions beyond limits \d+", capsys.readouterr().out)


def practise(work: Path, env: str) -> Path:
    run = work / env
    main(
        [
            *("improve", "--run", str(work / "sft"), "--out", str(run), *TINY_IMPROVE),
            *("--env", f"test/{env}-v0", "--threshold", "0.001"),
        ]
    )
    return run


def test_an_env_that_ends_by_itself_is_practised_in(work: Path) -> None:
    run = practise(work, "EndsByItself")
    lengths = open_dataset(run / "practice").episode_lengths
    assert set(lengths.tolist()) == {4}  # three steps and the final observation
    assert read_metrics(run)[-1]["practice/detected"] == 0


def test_an_env_that_fails_loses_only_what_was_in_flight(work: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        practise(work, "Fails")
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"nearer: test/Fails-v0 must step without an error, got RuntimeError: the gripper is on "
        r"fire with seed \d+; what was finished is written, mend the env, NEARER_TRACEBACK=1 .*\n",
        said,
    )
    stored = open_dataset(work / "Fails" / "practice")
    assert stored.info.total_episodes > 0
    assert read_metrics(work / "Fails")
    main(["improve", "--resume", "--out", str(work / "Fails")])  # its step 300 is behind it now
    whole = practise(work, "SmallEnv")
    for name, values in open_dataset(whole / "practice").columns.items():
        again = open_dataset(work / "Fails" / "practice").columns[name]
        np.testing.assert_array_equal(again, values)


def at_step(patch: pytest.MonkeyPatch, number: int, happen: Callable[[], object]) -> None:
    """Let something happen at a step of the point mass."""
    step, steps = PointMassVector.step, count(1)

    def stepping(self: Any, actions: Any) -> Any:
        if next(steps) == number:
            happen()
        return step(self, actions)

    patch.setattr(PointMassVector, "step", stepping)


def catch_fire() -> None:
    raise RuntimeError("the gripper is on fire")


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_demonstrations_are_kept_when_the_env_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    at_step(monkeypatch, 90, catch_fire)
    command = ["collect", "--env", ENV_ID, "--episodes", "40", "--out", tmp_path / "data"]
    said = refused(capsys, *command)
    assert re.search(r"got RuntimeError: the gripper is on fire with seeds \d+, \d+, \d+, ", said)
    assert open_dataset(tmp_path / "data").info.total_episodes > 0


def test_an_env_that_fails_at_once_leaves_the_folder_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    at_step(monkeypatch, 1, catch_fire)
    refused(capsys, "collect", "--env", ENV_ID, "--episodes", "4", "--out", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_whose_env_fails_can_ask_where(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("NEARER_TRACEBACK", "1")
    monkeypatch.setattr(SmallEnv, "step", lambda self, action: catch_fire())
    command = ["eval", "--checkpoint", str(work / "sft"), "--env", "test/SmallEnv-v0"]
    with pytest.raises(SystemExit):
        main(command)
    said = capsys.readouterr().err
    assert "in catch_fire" in said
    assert said.splitlines()[-1].startswith("nearer: test/SmallEnv-v0 must step without an error")


def test_ctrl_c_while_collecting_lets_robots_finish_and_keeps_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    at_step(monkeypatch, 3, press_ctrl_c)
    out = tmp_path / "data"
    command = ["collect", "--env", ENV_ID, "--episodes", 400, "--num-envs", 20, "--out", out]
    said = refused(capsys, *command, code=130)
    kept = open_dataset(out).info.total_episodes
    assert 0 < kept <= 20
    assert f"everything is written; {out} holds {kept} demonstrations, collect more" in said


def test_ctrl_c_while_evaluating_keeps_the_last_evaluation(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    command = ["eval", "--checkpoint", str(work / "sft"), "--env", ENV_ID, "--episodes", "4"]
    main(command)
    before = files(work)
    at_step(monkeypatch, 3, press_ctrl_c)
    said = refused(capsys, *command, code=130)
    assert "stopped by Ctrl-C; what was finished is written, run the command again" in said
    assert files(work) == before


# Full disks.


def fill_disk(patch: pytest.MonkeyPatch, owner: Any, name: str, after: int = 0) -> None:
    """Let a function fail as on a full disk, after so many calls."""
    works = getattr(owner, name)
    calls = [0]

    def failing(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return works(*arguments, **options)

    patch.setattr(owner, name, failing)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("kind", ["sft", "improve"])
@pytest.mark.parametrize(
    ("owner", "name", "after"),
    [
        (safetensors.torch, "save_file", 2),
        (os, "replace", 2),
        (os, "replace", 9),
        (os, "fsync", 3),
        (os, "fsync", 16),
        (RecordWriter, "write", 5),
        (Path, "write_text", 0),
        (Path, "write_text", 4),
        (Path, "symlink_to", 2),
    ],
)
def test_a_full_disk_is_said_and_the_run_can_go_on(
    owner: Any, name: str, after: int, kind: str, work: Path, capsys: Capture
) -> None:
    start = {
        "sft": ["sft", "--data", str(work / "data"), *TINY_SFT],
        "improve": ["improve", "--run", str(work / "sft"), *TINY_IMPROVE],
    }[kind]
    run = work / "run"
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, owner, name, after)
        said = refused(capsys, *start, "--out", run)
    assert "No space left on device" in said
    assert "unharmed" in said
    assert "free some space" in said
    resume = [kind, "--resume", "--out", str(run)]
    main(resume if (run / "run.json").exists() else [*start, "--out", str(run)])
    main([*start, "--out", str(work / "whole")])
    weights = "checkpoints/last/pretrained_model/model.safetensors"
    assert (run / weights).read_bytes() == (work / "whole" / weights).read_bytes()


@pytest.mark.parametrize("after", range(0, 6, 2))
def test_a_full_disk_while_demonstrations_are_written(
    after: int, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, os, "fsync", after)
    said = refused(capsys, "collect", "--env", ENV_ID, "--episodes", 4, "--out", tmp_path / "data")
    assert "must be on a disk that can be written, got No space left on device" in said


def test_a_full_disk_while_an_evaluation_is_written(
    work: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["eval", "--checkpoint", str(work / "sft"), "--env", ENV_ID, "--episodes", "4"]
    main(command)
    before = files(work)
    fill_disk(monkeypatch, Path, "write_text")
    assert "eval_info.json must be on a disk that can be written" in refused(capsys, *command)
    assert files(work) == before


# A user's shell.


def test_a_user_sees_one_sentence_on_stderr(tmp_path: Path) -> None:
    code = "from nearer.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "sft", "--data", "none", "--out", str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "nearer: a data set must be an existing folder or a hub id 'user/name', got 'none'\n"
    )
    assert torch.get_num_threads() >= 1
