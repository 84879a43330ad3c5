"""nearer eval-reward: reports of whole runs, tasks new to the model, cached results, refusals."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands.tiny_runs import ENV_ID
from nearer.cli import main
from nearer.commands.eval_reward import familiarity, run_eval_reward
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.core.spaces import Spaces
from nearer.datasets.episodes import create_dataset, episode_frames
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.practice_store import read_practice
from nearer.evaluation.baseline_settings import BaselineSettings
from nearer.evaluation.baselines import BASELINES
from nearer.evaluation.label_sources import DETECTED, TrainingData, training_data_of
from nearer.evaluation.reward_report import REWARD_REPORT, RewardReport, read_reward_report
from nearer.evaluation.success import rollouts_with_ground_truth
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig
from nearer.runs.checkpoint import save_checkpoint
from nearer.testing import CountingFleet, EchoPolicy
from refusals import refused

SMALL = [
    *("--rollouts", "30", "--rollout-steps", "60", "--episodes", "12"),
    *("--baseline-updates", "10", "--baseline-seeds", "1"),
]  # fmt: skip

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set, a run on half of it, and its practice."""
    root = tmp_path_factory.mktemp("runs")
    shutil.copytree(stage_one / "data", root / "data")
    run, data = str(root / "sft"), str(root / "data")
    tiny = ["--model", "mlp", "--mlp.hidden", "16", "--updates", "40", "--validate-every", "20"]
    main(["sft", "--data", data, "--fraction", "0.5", "--out", run, *tiny])
    sizes = ["--updates-per-iteration", "2", "--max-env-steps", "2000", "--max-steps", "60"]
    out = ["--out", str(root / "practice"), "--threshold", "20", "--num-envs", "4"]
    main(["improve", "--run", run, "--env", ENV_ID, *out, *sizes])
    return root


def evaluate_reward(runs: Path, out: Path, *options: str) -> RewardReport:
    """Run the command on the Stage-1 reward model and return its report."""
    main(["eval-reward", "--checkpoint", str(runs / "sft"), "--out", str(out), *SMALL, *options])
    return read_reward_report(out / REWARD_REPORT, "")


def test_familiarity_of_new_instructions_names_what_is_new() -> None:
    trained = ["push the red moon to the blue cube", "push the green star to the red moon"]
    evaluated = [
        "push the red moon to the blue cube",
        "move the red crescent next to the blue box",
        "push the green star to the blue cube",
        "push the yellow pentagon to the red moon",
    ]
    slices = {name: rows.tolist() for name, rows in familiarity(evaluated, trained).items()}
    assert slices["instructions never seen"] == [False, True, True, True]
    assert slices["things never seen together"] == [False, False, True, True]
    assert slices["a thing never named"] == [False, False, False, True]
    for familiar, unfamiliar in zip([*slices][::2], [*slices][1::2], strict=True):
        assert slices[familiar] == [not is_new for is_new in slices[unfamiliar]]


def test_familiarity_without_named_things_compares_instructions_alone() -> None:
    slices = familiarity(["fold the towel", "lift it"], ["lift it"])
    assert {name: rows.tolist() for name, rows in slices.items()} == {
        "instructions seen": [False, True],
        "instructions never seen": [True, False],
    }


def test_eval_reward_run_measures_every_source(runs: Path, tmp_path: Path) -> None:
    data, practice = str(runs / "data"), str(runs / "practice/practice")
    report = evaluate_reward(runs, tmp_path, "--data", data, practice, "--env", ENV_ID)
    assert list(report.sources) == [
        "demonstrations never trained on",
        "practised episodes",
        "rollouts",
    ]
    practised = report.sources["practised episodes"]
    assert report.sources["rollouts"].slices["all"].num_episodes == 30
    assert practised.slices["all"].num_episodes == 12
    assert practised.remarks.audits is not None
    assert practised.remarks.audits.num_episodes > 0
    assert "replayed" in practised.labels
    assert report.baselines is not None
    assert report.baselines.settings == BaselineSettings()
    assert list(report.baselines.sources["rollouts"]) == ["the checkpoint's own", *BASELINES]
    assert report.recommended is not None
    thresholds = report.recommended.curves["rollouts"].thresholds_steps
    assert report.recommended.threshold_steps in thresholds
    page = (tmp_path / "reward_report.md").read_text()
    assert "Recommended threshold" in page
    assert "nan" not in page


def test_training_data_of_half_a_data_set_separates_unseen_episodes(runs: Path) -> None:
    training_data = training_data_of(runs / "sft", None)
    assert isinstance(training_data, TrainingData)
    train, unseen = set(training_data.train.tolist()), set(training_data.unseen.tolist())
    num_episodes = len(open_dataset(runs / "data").episode_lengths)
    assert not train & unseen
    assert len(train) < round(num_episodes / 2)
    assert len(train | unseen) == num_episodes


def test_eval_reward_practice_without_env_has_no_ground_truth(runs: Path, tmp_path: Path) -> None:
    report = evaluate_reward(runs, tmp_path, "--data", str(runs / "practice/practice"))
    source = report.sources["practised episodes"]
    assert source.labels == DETECTED
    assert not source.is_ground_truth
    assert report.recommended is None
    assert report.baselines is None
    assert report.why_no_baselines == "no source with labels by ground truth"
    practice = read_practice(runs / "practice/practice")
    num_detected = [stored.episode.ended.value for stored in practice].count("success_detected")
    assert source.slices["all"].num_success <= num_detected


def test_run_eval_reward_second_call_reads_cached_results(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearer.datasets.caching.results.git_revision", lambda: "a revision")
    config = EvalRewardConfig(
        checkpoint=runs / "sft",
        data=(str(runs / "data"), str(runs / "practice/practice")),
        env=ENV_ID,
        rollouts=5,
        rollout_steps=20,
        baseline_updates=5,
        baseline_seeds=1,
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    first = run_eval_reward(config)

    def fail(*_: object, **__: object) -> Any:
        raise AssertionError("this was computed before")

    for function in (
        "evaluation.predictions.steps_to_go_probabilities",
        "evaluation.label_sources.rollouts_with_ground_truth",
        "evaluation.label_sources.replayed_ground_truth",
        "commands.eval_reward.train_baseline",
    ):
        monkeypatch.setattr(f"nearer.{function}", fail)
    assert run_eval_reward(config) == first
    with pytest.raises(AssertionError, match="computed before"):
        run_eval_reward(replace(config, seed=7))
    monkeypatch.undo()
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    monkeypatch.setattr("nearer.datasets.caching.results.git_revision", lambda: "a revision")
    assert run_eval_reward(config) == first


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "must have labelled episodes, got none; pass --data"),
        (["--env", ENV_ID, "--rollouts", "0"], "must have labelled episodes"),
        (["--data", "nowhere at all"], "must be an existing folder or a hub id"),
        (
            ["--data", "{data}", "--demonstrations", "{other}"],
            "the data set that .* was trained on",
        ),
        (["--data", "{narrow}"], "must have the spaces of the checkpoint"),
        (["--env", ENV_ID, "--policy", "{data}"], "must be a run or a checkpoint"),
    ],
)
def test_eval_reward_unusable_input_is_refused(
    flags: list[str], sentence: str, runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    sizes = {"episodes": 3, "max_steps": 6, "seed": 0}
    rollouts = rollouts_with_ground_truth(CountingFleet(3, 4), EchoPolicy(), **sizes)
    narrow = Spaces(agent_pos=2, environment_state=0, action=1)
    create_dataset(tmp_path / "narrow", narrow, 10, "counter").append(
        [episode_frames(episode) for episode, _ in rollouts]
    )
    other = ["--env", ENV_ID, "--episodes", "5", "--out", str(tmp_path / "other"), "--seed", "3"]
    main(["collect", *other])
    places = {"data": runs / "data", "other": tmp_path / "other", "narrow": tmp_path / "narrow"}
    options = [flag.format(**places) for flag in flags]
    command = ["eval-reward", "--checkpoint", runs / "sft", "--out", tmp_path / "out"]
    message = refused(capsys, *command, *options)
    assert re.search(sentence, message), message


def test_eval_reward_practice_of_other_robot_is_refused(
    runs: Path, tmp_path: Path, capsys: Capture
) -> None:
    spaces = Spaces(agent_pos=5, environment_state=2, action=2)
    model = new_model("mlp", MLPConfig(hidden=8), spaces, ["go"], seed=0)
    save_checkpoint(tmp_path / "other", model, None)
    practice = runs / "practice/practice"
    message = refused(capsys, "eval-reward", "--checkpoint", tmp_path / "other", "--data", practice)
    assert "must have practised with the robot of the checkpoint" in message
