"""nearer card: what a model card says of a run, and which runs it refuses."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st

from commands.fake_hub import NAME
from commands.faults import change_json
from commands.tiny_runs import ENV_ID, SHORT_IMPROVE
from nearer.cli import main
from nearer.core.errors import CheckpointError, ConfigError
from nearer.evaluation.calibration import read_calibration, write_calibration
from nearer.evaluation.reward_model import calibrated_threshold
from nearer.evaluation.reward_report import FOLDER, REWARD_REPORT, read_reward_report
from nearer.evaluation.threshold import DetectorAtThreshold
from nearer.reporting.model_card import model_card, plain
from nearer.reporting.model_facts import read_model_facts
from nearer.runs.files import replace_link
from nearer.runs.hub import CALIBRATION
from refusals import refused

HOSTILE = "x'\"<script>alert(1)</script>\n---\n# [a](http://b.c) `| www.d.e @f $g$ ![h](i)"
Capture = pytest.CaptureFixture[str]


def test_card_evaluated_run_contains_its_measurements(run: Path, capsys: Capture) -> None:
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "20"])
    detector = DetectorAtThreshold(
        precision=0.75,
        recall=0.3,
        num_detections=8,
        delay_steps=0.0,
        num_episodes=20,
        num_success=20,
    )
    silent = replace(detector, num_detections=0)
    at_threshold = {"labelled rollouts": detector, "held-out demonstrations": silent}
    calibration = replace(read_calibration(run / CALIBRATION, ""), at_threshold=at_threshold)
    write_calibration(run, calibration)
    capsys.readouterr()
    main(["card", str(run), "--name", NAME])
    card = capsys.readouterr().out
    overall = json.loads((run / "eval/eval_info.json").read_text())["overall"]
    successes, (low, high) = overall["n_success"], overall["pc_success_ci95"]
    assert f"{successes / 20:.3f} [{low / 100:.3f}, {high / 100:.3f}] (n = 20)" in card
    assert f"done at {calibration.threshold_steps:g} steps to go" in card
    assert "| labelled rollouts | 0.750 [0.409, 0.929] (n = 8) | 0.300 | 20 |" in card
    assert "| held-out demonstrations | never fired | 0.300 | 20 |" in card
    data = ModelCard(card).data
    assert data.to_dict() == {
        "license": "apache-2.0",
        "library_name": "nearer",
        "pipeline_tag": "robotics",
        "tags": ["robotics", "reinforcement-learning", "self-improvement"],
        "model-index": data.to_dict()["model-index"],
    }
    (result,) = data.eval_results
    assert (result.metric_value, result.dataset_name) == (successes / 20, ENV_ID)
    assert f'from_pretrained("{NAME}", "reward")' in card


def test_card_run_with_reward_report_contains_its_metrics(
    run: Path, stage_one: Path, capsys: Capture
) -> None:
    command = ["--checkpoint", str(run), "--data", str(stage_one / "data"), "--rollouts", "0"]
    main(["eval-reward", *command, "--baseline-updates", "0"])
    (source,) = read_reward_report(run / FOLDER / REWARD_REPORT, "").sources.values()
    capsys.readouterr()
    main(["card", str(run), "--name", NAME])
    card = capsys.readouterr().out
    assert "## Reward metrics of the reward" in card
    assert str(run) not in card, "a path of this machine"
    assert f"{source.slices['all'].mean_absolute_error_steps:.1f}" in card
    assert "precision at s" in card


def test_card_reward_report_of_older_version_is_refused(run: Path, capsys: Capture) -> None:
    (run / FOLDER).mkdir()
    (run / FOLDER / REWARD_REPORT).write_text('{"sources": {}}')
    assert "run nearer eval-reward again" in refused(capsys, "card", run)


def test_card_evaluation_of_other_weights_is_refused(run: Path, capsys: Capture) -> None:
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "5"])
    replace_link(run / "checkpoints/policy", run / "checkpoints/000007")
    assert "of other weights; run nearer eval again" in refused(capsys, "card", run)


def test_card_practised_policy_describes_its_own_training(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    reward, practised = tmp_path / "reward", tmp_path / "practised"
    shutil.copytree(run, reward, symlinks=True)
    change_json(
        reward / "run.json",
        lambda header: header["config"].update(data="reward_data", fraction=0.5),
    )
    change_json(
        run / "run.json",
        lambda header: header["config"]["training"].update(leave_out=["far left"]),
    )
    options = ["--reward", str(reward), "--out", str(practised)]
    main(["improve", "--run", str(run), *SHORT_IMPROVE, *options])
    replace_link(practised / "checkpoints/policy", practised / "checkpoints/last")
    capsys.readouterr()
    main(["card", str(practised)])
    card = capsys.readouterr().out
    assert "reward_data" not in card
    assert "50 % of its episodes" not in card
    assert "far left" in card
    assert "control steps of all robots" in card
    checkpoints = (practised / "checkpoints").iterdir()
    first = min(path for path in checkpoints if path.name.isdigit())
    step_zero = practised / "checkpoints/000000"
    if first != step_zero:
        shutil.copytree(first, step_zero)
    replace_link(practised / "checkpoints/policy", step_zero)
    main(["card", str(practised)])
    assert "No policy was better than the one practice started with" in capsys.readouterr().out


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1.0, True])
def test_calibrated_threshold_impossible_number_is_refused(run: Path, threshold: float) -> None:
    change_json(
        run / "calibration.json", lambda calibration: calibration.update(threshold_steps=threshold)
    )
    with pytest.raises(ConfigError, match="a finite number of 0 or more"):
        calibrated_threshold(run)


def test_card_without_a_network_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    main(["card", str(run), "--license", "mit", "--out", str(tmp_path / "deep/README.md")])
    assert ModelCard.load(tmp_path / "deep/README.md").data.license == "mit"


def test_model_card_hub_data_and_base_model_are_named(run: Path) -> None:
    def change(header: Any) -> None:
        header["config"] |= {"data": "lab/push-blocks", "revision": "v2", "model": "lab/base-vlm"}

    change_json(run / "run.json", change)
    data = ModelCard(model_card(read_model_facts(run), NAME)).data
    assert data.datasets == ["lab/push-blocks"]
    assert data.base_model == "lab/base-vlm"


def test_model_card_pretrained_chunked_model_says_licence_and_chunk(run: Path) -> None:
    def change(described: Any) -> None:
        described["model"] = "vlm"
        described["spaces"]["chunking"] = {"chunk": 5, "relative": False}

    change_json(run / "checkpoints/policy/pretrained_model/config.json", change)
    card = model_card(read_model_facts(run), NAME)
    assert ModelCard(card).data.license is None
    assert "Licence: that of the pretrained model" in card
    assert "pip install 'nearer[vlm]'" in card
    assert "chunks of 5 steps to go or fewer" in card
    assert ModelCard(model_card(read_model_facts(run), NAME, "gemma")).data.license == "gemma"


def test_model_card_hostile_text_becomes_no_markup(run: Path) -> None:
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "4"])
    change_json(
        run / "run.json", lambda header: header["config"].update(data=HOSTILE, model=HOSTILE)
    )
    change_json(
        run / "run.json", lambda header: header["config"]["training"].update({HOSTILE: HOSTILE})
    )

    def change(info: Any) -> None:
        info["env"] = HOSTILE
        for number, episode in enumerate(info["episodes"]):
            episode["instruction"] = f"{HOSTILE} {number}"

    change_json(run / "eval/eval_info.json", change)
    card = model_card(read_model_facts(run), NAME)
    header, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", card, flags=re.S).groups()  # type: ignore[union-attr]
    assert ModelCard(card).data.library_name == "nearer"
    assert "library_name: nearer" in header
    assert "<script" not in body
    assert not re.search(r"(?<!\\)\]\(http://b", body)
    assert "http://" not in body
    assert [line for line in body.splitlines() if line.startswith("# ")] == [f"# {NAME}"]
    assert "--env ID" in body


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_plain_any_text_becomes_one_bounded_line_without_markup(words: str) -> None:
    line = plain(words)
    assert len(line.splitlines()) <= 1
    assert len(line) <= 6 * 121
    assert "<" not in line
    assert ">" not in line
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]#|$@:]", line)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("calibration.json", lambda document: document.update(at_threshold=3)),
        ("calibration.json", lambda document: document.pop("threshold_steps")),
        ("calibration.json", lambda document: document.update(threshold_steps=float("nan"))),
        ("run.json", lambda document: document.pop("config")),
        ("run.json", lambda document: document.update(config=[])),
        ("run.json", lambda document: document["config"].update(training="much")),
        ("run.json", lambda document: document.update(command="demo")),
        ("eval/eval_info.json", lambda document: document.update(episodes=[])),
        ("eval/eval_info.json", lambda document: document.update(episodes={"a": 1})),
        ("eval/eval_info.json", lambda document: document.pop("env")),
        (
            "checkpoints/policy/pretrained_model/config.json",
            lambda document: document.update(spaces=None),
        ),
    ],
)
def test_card_damaged_file_is_refused(
    name: str, change: Callable[[Any], object], run: Path, capsys: Capture
) -> None:
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "2"])
    main(["card", str(run)])
    capsys.readouterr()
    change_json(run / name, change)
    refused(capsys, "card", run)


def test_read_model_facts_folder_without_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.json must be"):
        read_model_facts(tmp_path)


def test_read_model_facts_run_without_policy_is_refused(run: Path) -> None:
    (run / "checkpoints/policy").unlink()
    with pytest.raises(CheckpointError, match="checkpoints/policy"):
        read_model_facts(run)
