"""nearer eval-reward: reward reports of whole runs, what is new to the model, caches, refusals."""

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nearer.cli import main
from nearer.commands.eval_reward import familiarity, run_eval_reward
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.core.spaces import Spaces
from nearer.datasets.episodes import create_dataset, episode_frames
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.practice_store import read_practice
from nearer.evaluation.baseline_settings import BaselineSettings
from nearer.evaluation.baselines import (
    BASELINES,
)
from nearer.evaluation.label_sources import (
    VERDICT,
    TrainingData,
    training_data_of,
)
from nearer.evaluation.reward_report import (
    REWARD_REPORT,
    RewardReport,
    read_reward_report,
)
from nearer.evaluation.success import rollouts_with_ground_truth
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig
from nearer.runs.checkpoint import save_checkpoint
from nearer.testing import CountingFleet, EchoPolicy

ENV = "nearer/PointMass-v0"


SMALL = [
    *("--rollouts", "30", "--rollout-steps", "60", "--episodes", "12"),
    *("--baseline-updates", "10", "--baseline-seeds", "1"),
]  # fmt: skip


Capture = pytest.CaptureFixture[str]


def test_what_is_new_is_told_in_every_sense() -> None:
    taught = ["push the red moon to the blue cube", "push the green star to the red moon"]
    asked = [
        "push the red moon to the blue cube",
        "move the red crescent next to the blue box",
        "push the green star to the blue cube",
        "push the yellow pentagon to the red moon",
    ]
    new = {name: rows.tolist() for name, rows in familiarity(asked, taught).items()}
    assert new["instructions never seen"] == [False, True, True, True]
    assert new["things never seen together"] == [False, False, True, True]
    assert new["a thing never named"] == [False, False, False, True]
    assert all(
        new[seen] == [not one for one in new[unseen]]
        for seen, unseen in zip([*new][::2], [*new][1::2], strict=True)
    )
    other = familiarity(["fold the towel", "lift it"], ["lift it"])
    assert {name: rows.tolist() for name, rows in other.items()} == {
        "instructions seen": [False, True],
        "instructions never seen": [True, False],
    }


@pytest.fixture(scope="module")
def work(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set, a run on half of it, and its practice."""
    root = tmp_path_factory.mktemp("work")
    shutil.copytree(stage_one / "data", root / "data")
    run, data = str(root / "sft"), str(root / "data")
    tiny = ["--model", "mlp", "--mlp.hidden", "16", "--updates", "40", "--validate-every", "20"]
    main(["sft", "--data", data, "--fraction", "0.5", "--out", run, *tiny])
    sizes = ["--updates-per-iteration", "2", "--max-env-steps", "2000", "--max-steps", "60"]
    out = ["--out", str(root / "practice"), "--threshold", "20", "--num-envs", "4"]
    main(["improve", "--run", run, "--env", ENV, *out, *sizes])
    return root


def reported(work: Path, out: Path, *more: str) -> RewardReport:
    main(["eval-reward", "--checkpoint", str(work / "sft"), "--out", str(out), *SMALL, *more])
    return read_reward_report(out / REWARD_REPORT, "")


def test_a_run_is_measured_on_what_it_never_trained_on(work: Path, tmp_path: Path) -> None:
    data, practice = str(work / "data"), str(work / "practice/practice")
    report = reported(work, tmp_path, "--data", data, practice, "--env", ENV)
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
    taught = training_data_of(work / "sft", None)
    assert isinstance(taught, TrainingData)
    everything = {*taught.train.tolist(), *taught.unseen.tolist()}
    assert not set(taught.train.tolist()) & set(taught.unseen.tolist())
    total = len(open_dataset(work / "data").episode_lengths)
    assert len(taught.train) < round(total / 2)
    assert len(everything) == total


def test_practice_without_its_simulator_is_no_truth(work: Path, tmp_path: Path) -> None:
    report = reported(work, tmp_path, "--data", str(work / "practice/practice"))
    source = report.sources["practised episodes"]
    assert source.labels == VERDICT
    assert not source.is_ground_truth
    assert report.recommended is None
    assert report.baselines is None
    assert report.why_no_baselines == "no source with labels by ground truth"
    ended = [one.episode.ended.value for one in read_practice(work / "practice/practice")]
    assert source.slices["all"].num_success <= ended.count("success_detected")


def test_a_second_call_asks_no_model_and_no_env(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearer.datasets.caching.results.git_revision", lambda: "a revision")
    config = EvalRewardConfig(
        checkpoint=work / "sft",
        data=(str(work / "data"), str(work / "practice/practice")),
        env=ENV,
        rollouts=5,
        rollout_steps=20,
        baseline_updates=5,
        baseline_seeds=1,
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    first = run_eval_reward(config)

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("this was computed before")

    for slow in (
        "evaluation.predictions.steps_to_go_probabilities",
        "evaluation.label_sources.rollouts_with_ground_truth",
        "evaluation.label_sources.replayed_ground_truth",
        "commands.eval_reward.train_baseline",
    ):
        monkeypatch.setattr(f"nearer.{slow}", refuse)
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
        (["--env", ENV, "--rollouts", "0"], "must have labelled episodes"),
        (["--data", "nowhere at all"], "must be an existing folder or a hub id"),
        (
            ["--data", "{data}", "--demonstrations", "{other}"],
            "the data set that .* was trained on",
        ),
        (["--data", "{narrow}"], "must have the spaces of the checkpoint"),
        (["--env", ENV, "--policy", "{data}"], "must be a run or a checkpoint"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(
    flags: list[str], sentence: str, work: Path, tmp_path: Path, capsys: Capture
) -> None:
    sizes = {"episodes": 3, "max_steps": 6, "seed": 0}
    ran = [one for one, _ in rollouts_with_ground_truth(CountingFleet(3, 4), EchoPolicy(), **sizes)]
    narrow = Spaces(agent_pos=2, environment_state=0, action=1)
    create_dataset(tmp_path / "narrow", narrow, 10, "counter").append(
        [episode_frames(one) for one in ran]
    )
    other = ["--env", ENV, "--episodes", "5", "--out", str(tmp_path / "other"), "--seed", "3"]
    main(["collect", *other])
    places = {"data": work / "data", "other": tmp_path / "other", "narrow": tmp_path / "narrow"}
    given = [flag.format(**places) for flag in flags]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(
            ["eval-reward", "--checkpoint", str(work / "sft"), "--out", str(tmp_path / "o"), *given]
        )
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(sentence, told), told


def test_practice_of_another_robot_is_a_sentence(
    work: Path, tmp_path: Path, capsys: Capture
) -> None:
    spaces = Spaces(agent_pos=5, environment_state=2, action=2)
    model = new_model("mlp", MLPConfig(hidden=8), spaces, ["go"], seed=0)
    save_checkpoint(tmp_path / "other", model, None)
    with pytest.raises(SystemExit):
        main(["eval-reward", "--checkpoint", str(tmp_path / "other"), "--data",
              str(work / "practice/practice")])  # fmt: skip
    assert "must have practised with the robot of the checkpoint" in capsys.readouterr().err
