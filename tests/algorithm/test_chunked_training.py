"""Action chunks from the command line, in both stages and in evaluation."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arm_env import ARM, registered_arm
from nearer.algorithm.demonstrations import chunked
from nearer.cli import main
from nearer.core.action_chunks import Chunking
from nearer.core.spaces import Spaces
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.practice_store import PracticeStore
from nearer.evaluation.reward_report import REWARD_REPORT, read_reward_report
from nearer.runs.metrics import read_metrics
from refusals import refused

POINT_MASS = "nearer/PointMass-v0"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def arm() -> Iterator[None]:
    with registered_arm():
        yield


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def test_commands_in_chunks_count_decisions_and_control_steps(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    run, practice = tmp_path / "sft", tmp_path / "practice"
    tiny = [
        *("--mlp.hidden", "16", "--mlp.num-bins", "30"),
        *("--updates", "20", "--validate-every", "20"),
    ]
    calibrated = ["--calibration.env", POINT_MASS, "--calibration.rollouts", "10"]
    data = ["--data", str(stage_one / "data"), "--model", "mlp"]
    main(["sft", *data, "--chunk", "5", *tiny, *calibrated, "--out", str(run)])
    saved = read_json(run / "checkpoints/policy/pretrained_model/config.json")["spaces"]
    chunking = {"chunk": 5, "relative": False, "decision_frames": False}
    assert (saved["action"], saved["chunking"]) == (10, chunking)
    env, limits = ["--env", POINT_MASS], ["--max-steps", "33", "--num-envs", "4"]
    some = ["--max-env-steps", "800", "--updates-per-iteration", "2", "--batch-size", "8"]
    threshold_and_out = ["--threshold", "2", "--out", str(practice)]
    main(["improve", "--run", str(run), *env, *limits, *some, *threshold_and_out])
    main(["eval", "--checkpoint", str(practice), *env, *limits, "--episodes", "9"])
    main(["report", str(run), str(practice), "--out", str(tmp_path / "report.html")])

    collected = refused(capsys, "collect", "--policy", run, *env, "--out", tmp_path / "own")
    assert (
        f"--policy must decide every control step, got {run}, which decides 5 at once" in collected
    )

    page = (tmp_path / "report.html").read_text()
    assert page.count("decisions of 5 control steps each") == 2

    stored = open_dataset(practice / "practice")
    assert (stored.info.fps, stored.columns["action"].shape[1]) == (2, 10)
    decisions = int((stored.episode_lengths - 1).sum())
    last = read_metrics(practice)[-1]
    assert last["practice/env_steps"] == 5 * decisions <= 800
    store = PracticeStore.open(practice / "practice", Spaces(
        agent_pos=4, environment_state=2, action=10
    ), 2, "PointMass-v0")  # fmt: skip
    iterations = range(int(last["step"]))
    practised = [scored for iteration in iterations for scored in store.read(iteration)]
    assert sum(scored.episode.num_steps for scored in practised) == decisions
    assert max(scored.episode.num_steps for scored in practised) <= 6
    for episode in read_json(practice / "eval/eval_info.json")["episodes"]:
        control_steps = episode["num_steps"]
        assert control_steps % 5 == 0 if episode["success"] else control_steps == 33

    labelled = ["--data", str(stage_one / "data"), str(practice / "practice"), *env]
    rollouts_and_updates = ["--rollouts", "6", "--rollout-steps", "33", "--baseline-updates", "5"]
    out = ["--out", str(tmp_path / "trust"), "--cache", str(tmp_path / "cache")]
    main(["eval-reward", "--checkpoint", str(run), *labelled, *rollouts_and_updates, *out])
    report = read_reward_report(tmp_path / "trust" / REWARD_REPORT, "")
    assert report.unit == "chunks of 5 steps"
    metrics = [source.reward for source in report.sources.values()]
    demonstration_frames, practice_frames, rollout_frames = (
        source.num_frames for source in metrics
    )
    longest = metrics[0].by_distance[-1].to_steps
    lengths = open_dataset(stage_one / "data").episode_lengths
    assert 0 < longest <= (lengths.max() - 1) // 5
    assert practice_frames == decisions + len(practised)
    assert rollout_frames == 6 * (33 // 5 + 1)
    assert demonstration_frames < int(lengths.sum()) / 4
    assert (
        "All steps below are chunks of 5 steps."
        in (tmp_path / "trust/reward_report.md").read_text()
    )
    with pytest.raises(SystemExit):
        main(["eval-reward", "--checkpoint", str(stage_one / "sft"), "--data",
              str(practice / "practice"), *out])  # fmt: skip
    assert "got 1; train it with nearer sft --chunk 5" in capsys.readouterr().err


def test_sft_on_decision_frames_learns_from_every_fifth_frame_and_the_last(
    stage_one: Path, tmp_path: Path
) -> None:
    data = ["--data", str(stage_one / "data"), "--model", "mlp", "--mlp.hidden", "16"]
    few = ["--updates", "4", "--validate-every", "4", "--chunk", "5"]
    shown: list[list[int]] = []
    for flags in ([], ["--decision-frames"]):
        run = tmp_path / f"run{len(flags)}"
        main(["sft", *data, *few, *flags, "--out", str(run)])
        episodes = read_json(run / "demonstrations.json")["episodes"]
        shown.append([len(episode["agent_pos"]) for episode in episodes])
    every, decided = shown
    assert decided == [-(-(length - 1) // 5) + 1 for length in every]


def test_sft_impossible_chunk_is_refused_before_training(
    stage_one: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = ["--data", str(stage_one / "data"), "--model", "mlp", "--out", str(tmp_path / "run")]
    for flags, sentence in (
        (["--chunk", "0"], "nearer: --chunk must be 1 or more, got 0; the default is 1"),
        (["--chunk", "200", "--calibration.env", POINT_MASS], "nearer: a time limit must leave"),
        (["--chunk", "5", "--relative"], "nearer: --relative must have a joint"),
        (["--decision-frames"], "nearer: --decision-frames must come with --chunk of 2 or more"),
    ):
        with pytest.raises(SystemExit):
            main(["sft", *data, *flags])
        assert capsys.readouterr().err.startswith(sentence)
        assert not (tmp_path / "run").exists()


def test_sft_relative_chunks_of_an_arm_reach_the_goal(tmp_path: Path) -> None:
    """A policy of three joint targets at once, relative to the joints, reaches the goal."""
    data, run = str(tmp_path / "data"), str(tmp_path / "sft")
    main(["collect", "--env", ARM, "--episodes", "60", "--num-envs", "20", "--max-steps", "40",
          "--min-observations", "3", "--out", data])  # fmt: skip
    main(["sft", "--data", data, "--model", "mlp", "--chunk", "3", "--relative", "--mlp.hidden",
          "64", "--mlp.num-bins", "16", "--updates", "300", "--validate-every", "150", "--out",
          run])  # fmt: skip
    main(["eval", "--checkpoint", run, "--env", ARM, "--episodes", "30", "--num-envs", "20",
          "--max-steps", "60", "--videos", "1"])  # fmt: skip
    main(["sft", "--resume", "--relative", "--chunk", "3", "--out", run])  # unchanged settings
    info = read_json(Path(run) / "eval/eval_info.json")
    assert info["overall"]["pc_success"] > 70
    assert len(list((Path(run) / "eval/videos").glob("*.mp4"))) == 1
    plain = load_demonstrations(open_dataset(Path(data)))
    relative = chunked(plain, Chunking(chunk=3, relative=True))
    assert relative.actions.abs().max() < 3 * 0.08 + 1e-5 < plain.actions.abs().max()


@pytest.mark.parametrize(
    ("chunking", "sentence"),
    [
        ({"chunk": 0}, "--chunk must be 1 or more, got 0"),
        ({"steps": 5}, "must fit the model that config.json describes"),
        ({"chunk": "5"}, "must fit the model that config.json describes"),
        ({"chunk": 2}, "must have the spaces of the checkpoint"),
    ],
)
def test_eval_checkpoint_with_a_damaged_chunk_is_refused(
    stage_one: Path, tmp_path: Path, chunking: Any, sentence: str, capsys: Capture
) -> None:
    copied = tmp_path / "model"
    shutil.copytree(stage_one / "sft/checkpoints/policy/pretrained_model", copied)
    (tmp_path / "COMPLETE").touch()
    config = read_json(copied / "config.json")
    config["spaces"]["chunking"] = chunking
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit):
        main(["eval", "--checkpoint", str(copied), "--env", POINT_MASS])
    assert sentence in capsys.readouterr().err
