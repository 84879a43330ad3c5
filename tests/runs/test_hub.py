"""Models on the hub: what is uploaded, what is loaded again by its name, what the card says.

There is no network: a fake keeps what HfApi is given, and what it keeps is then laid out as
huggingface_hub keeps a snapshot, so that its own code finds the files.
"""

import fnmatch
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard, constants
from huggingface_hub.errors import LocalTokenNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.cli import main
from nearer.core.errors import CheckpointError, ConfigError
from nearer.evaluation.calibration import read_calibration, write_calibration
from nearer.evaluation.reward_model import calibrated_threshold
from nearer.evaluation.reward_report import FOLDER, REWARD_REPORT, read_reward_report
from nearer.evaluation.threshold import DetectorAtThreshold
from nearer.models.factory import build_model
from nearer.models.pretrained import from_pretrained, push_to_hub, save_pretrained
from nearer.reporting.model_card import model_card, plain
from nearer.reporting.model_facts import read_model_facts
from nearer.runs.checkpoint import load_model, save_checkpoint, weights_hash
from nearer.runs.files import replace_link
from nearer.runs.hub import CALIBRATION, local_run
from refusals import refused

ENV_ID = "nearer/PointMass-v0"
NAME = "user/point-mass"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TINY_IMPROVE = [
    *("--env", ENV_ID, "--num-envs", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "1", "--batch-size", "32", "--max-env-steps", "300"),
    *("--block-iterations", "1", "--audit-every", "1"),
]  # fmt: skip
HOSTILE = "x'\"<script>alert(1)</script>\n---\n# [a](http://b.c) `| www.d.e @f $g$ ![h](i)"
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


class FakeHub:
    """HfApi as far as nearer needs it: keeps repositories in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.private: list[bool] = []

    def __call__(self) -> "FakeHub":
        return self

    def create_repo(self, name: str, *, repo_type: str, private: bool, exist_ok: bool) -> str:
        assert repo_type == "model"
        assert exist_ok
        (self.root / name).mkdir(parents=True, exist_ok=True)
        self.private.append(private)
        return f"https://hub.invalid/{name}"

    def upload_folder(
        self,
        *,
        repo_id: str,
        repo_type: str,
        folder_path: Path,
        commit_message: str,
        delete_patterns: list[str],
    ) -> None:
        kept = self.root / repo_id
        for name in self.files(repo_id):
            if any(fnmatch.fnmatch(name, pattern) for pattern in delete_patterns):
                (kept / name).unlink()
        shutil.copytree(folder_path, kept, dirs_exist_ok=True)

    def files(self, name: str) -> list[str]:
        kept = self.root / name
        return sorted(str(one.relative_to(kept)) for one in kept.rglob("*") if one.is_file())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: Patch) -> FakeHub:
    """Replace HfApi, and let huggingface_hub find in its cache alone."""
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", fake)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return fake


def download(hub: FakeHub, name: str) -> None:
    """Lay a repository of the fake out as huggingface_hub keeps a snapshot of it."""
    kept = Path(constants.HF_HUB_CACHE) / ("models--" + name.replace("/", "--"))
    shutil.copytree(hub.root / name, kept / "snapshots" / REVISION)
    (kept / "refs").mkdir()
    (kept / "refs/main").write_text(REVISION)


def hash_of(run: Path | str, link: str) -> str:
    return weights_hash(load_model(Path(run), build_model, link))


def edit(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


@pytest.fixture
def run(stage_one: Path, tmp_path: Path) -> Path:
    """Return a Stage-1 run whose reward has other weights than its policy."""
    root = Path(shutil.copytree(stage_one / "sft", tmp_path / "sft", symlinks=True))
    reward = from_pretrained(root, "reward")
    with torch.no_grad():
        for weights in reward.parameters():
            weights.add_(0.01)
    save_checkpoint(root / "checkpoints/000007", reward, None)
    replace_link(root / "checkpoints/reward", root / "checkpoints/000007")
    return root


def test_a_run_goes_to_the_hub_and_comes_back_by_its_name(
    run: Path, hub: FakeHub, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "20"])
    main(["push", str(run), NAME, "--private"])
    assert hub.private == [True]
    assert hub.files(NAME) == [
        "README.md", "calibration.json", "config.json", "eval_info.json", "model.safetensors",
        "reward/config.json", "reward/model.safetensors",
    ]  # fmt: skip
    for path in (hub.root / NAME).rglob("*.json"):
        assert str(tmp_path) not in path.read_text(), "the hub must not learn of this machine"
    assert str(tmp_path) not in (hub.root / NAME / "README.md").read_text()
    download(hub, NAME)
    for link in ("policy", "reward"):
        assert weights_hash(from_pretrained(NAME, link)) == hash_of(run, link)
    assert hash_of(run, "policy") != hash_of(run, "reward")
    capsys.readouterr()
    evaluate = ["--env", ENV_ID, "--episodes", "20"]
    main(["eval", "--checkpoint", NAME, *evaluate, "--against", str(run)])
    assert "0 starts solved by this policy alone, 0 by the other alone" in capsys.readouterr().out
    assert (tmp_path / "outputs/eval/user_point-mass/eval_info.json").exists()
    assert not (tmp_path / "user").exists(), "a folder of this name would hide the hub's model"
    practise_and_push_again(hub, run, tmp_path)


def practise_and_push_again(hub: FakeHub, run: Path, tmp_path: Path) -> None:
    practised = tmp_path / "practised"
    main(["improve", "--run", NAME, *TINY_IMPROVE, "--out", str(practised)])
    main(["push", str(practised), NAME])
    assert hash_of(hub.root / NAME, "reward") == hash_of(run, "reward")
    assert hash_of(hub.root / NAME, "policy") == hash_of(practised, "policy")
    assert "eval_info.json" not in hub.files(NAME), "it belongs to the policy that was there before"
    card = (hub.root / NAME / "README.md").read_text()
    assert "## Practice" in card
    assert "Not evaluated" in card


def test_a_folder_like_a_snapshot_is_loaded_too(run: Path, hub: FakeHub) -> None:
    main(["push", str(run), NAME])
    for link in ("policy", "reward"):
        assert weights_hash(from_pretrained(hub.root / NAME, link)) == hash_of(run, link)


def test_only_json_and_safetensors_are_downloaded(tmp_path: Path, monkeypatch: Patch) -> None:
    asked: list[tuple[str, str | None, list[str]]] = []

    def snapshot(
        name: str, *, repo_type: str, revision: str | None, allow_patterns: list[str]
    ) -> str:
        assert repo_type == "model"
        asked.append((name, revision, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert local_run(Path("user/name")) == tmp_path
    assert local_run(Path("user/name@v1.0")) == tmp_path
    patterns = ["*.json", "*.safetensors"]
    assert asked == [("user/name", None, patterns), ("user/name", "v1.0", patterns)]


@pytest.mark.parametrize("name", ["one", "/a/b", "a/b/c", "../up", "a/..", ".a/b", "a b/c", "a/b@"])
def test_what_is_no_hub_id_is_left_alone(name: str, monkeypatch: Patch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    assert local_run(Path(name)) == Path(name)


def test_a_folder_here_goes_before_the_hub(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user/name").mkdir(parents=True)
    assert local_run(Path("user/name")) == Path("user/name")


@pytest.mark.usefixtures("hub")
def test_a_model_that_cannot_be_had_is_a_sentence(capsys: Capture) -> None:
    said = refused(capsys, "eval", "--checkpoint", "user/none", "--env", ENV_ID)
    assert "user/none must be a folder, or a model on the hub that can be reached" in said


@pytest.mark.parametrize("name", ["name", "a/b/c", "../up", "a/..", "user/na me", "a/b--c"])
def test_a_name_that_the_hub_cannot_have_is_refused(name: str, run: Path, capsys: Capture) -> None:
    assert "user/name" in refused(capsys, "push", run, name)


def test_a_hub_that_refuses_is_a_sentence(
    run: Path, hub: FakeHub, monkeypatch: Patch, capsys: Capture
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise LocalTokenNotFoundError("Token is required\nand more")

    monkeypatch.setattr(hub, "create_repo", refuse)
    assert "got: Token is required; log in with hf auth login" in refused(capsys, "push", run, NAME)


def test_another_reward_than_practised_with_is_refused(
    run: Path, hub: FakeHub, tmp_path: Path, capsys: Capture
) -> None:
    practised = tmp_path / "practised"
    main(["improve", "--run", str(run), *TINY_IMPROVE, "--out", str(practised)])
    replace_link(run / "checkpoints/reward", (run / "checkpoints/policy").readlink())
    assert "must hold the reward that" in refused(capsys, "push", practised, NAME)
    assert not hub.root.exists()


def test_a_model_is_saved_and_pushed_from_python(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    model = from_pretrained(run, "reward")
    folder = save_pretrained(model, tmp_path / "deep/saved")
    assert sorted(one.name for one in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert weights_hash(from_pretrained(folder)) == weights_hash(model)
    assert push_to_hub(model, NAME) == f"https://hub.invalid/{NAME}"
    assert weights_hash(from_pretrained(hub.root / NAME)) == weights_hash(model)
    assert ModelCard((hub.root / NAME / "README.md").read_text()).data.library_name == "nearer"


def test_the_card_says_what_was_measured(run: Path, capsys: Capture) -> None:
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "20"])
    measured = DetectorAtThreshold(
        precision=0.75,
        recall=0.3,
        num_detections=8,
        delay_steps=0.0,
        num_episodes=20,
        num_success=20,
    )
    never = replace(measured, num_detections=0)
    at_threshold = {"labelled rollouts": measured, "held-out demonstrations": never}
    calibration = replace(read_calibration(run / CALIBRATION, ""), at_threshold=at_threshold)
    write_calibration(run, calibration)
    capsys.readouterr()
    main(["card", str(run), "--name", NAME])
    card = capsys.readouterr().out
    overall = json.loads((run / "eval/eval_info.json").read_text())["overall"]
    wins, (low, high) = overall["n_success"], overall["pc_success_ci95"]
    assert f"{wins / 20:.3f} [{low / 100:.3f}, {high / 100:.3f}] (n = 20)" in card
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
    assert (result.metric_value, result.dataset_name) == (wins / 20, ENV_ID)
    assert f'from_pretrained("{NAME}", "reward")' in card


def test_the_card_says_how_far_the_reward_can_be_trusted(
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


def test_what_an_older_version_measured_is_measured_again(run: Path, capsys: Capture) -> None:
    (run / FOLDER).mkdir()
    (run / FOLDER / REWARD_REPORT).write_text('{"sources": {}}')
    assert "run nearer eval-reward again" in refused(capsys, "card", run)


def test_an_evaluation_of_other_weights_is_refused(run: Path, capsys: Capture) -> None:
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "5"])
    replace_link(run / "checkpoints/policy", run / "checkpoints/000007")
    assert "of other weights; run nearer eval again" in refused(capsys, "card", run)


def test_the_card_of_a_practised_policy_tells_its_own_training(
    run: Path, tmp_path: Path, capsys: Capture
) -> None:
    termination, practised = tmp_path / "judge", tmp_path / "practised"
    shutil.copytree(run, termination, symlinks=True)
    edit(
        termination / "run.json", lambda one: one["config"].update(data="judge_data", fraction=0.5)
    )
    edit(run / "run.json", lambda one: one["config"]["training"].update(leave_out=["far left"]))
    more = ["--reward", str(termination), "--out", str(practised)]
    main(["improve", "--run", str(run), *TINY_IMPROVE, *more])
    replace_link(practised / "checkpoints/policy", practised / "checkpoints/last")
    capsys.readouterr()
    main(["card", str(practised)])
    card = capsys.readouterr().out
    assert "judge_data" not in card
    assert "50 % of its episodes" not in card
    assert "far left" in card
    assert "control steps of all robots" in card
    first = sorted(one for one in (practised / "checkpoints").iterdir() if one.name.isdigit())[0]
    step_zero = practised / "checkpoints/000000"
    if first != step_zero:
        shutil.copytree(first, step_zero)
    replace_link(practised / "checkpoints/policy", step_zero)
    main(["card", str(practised)])
    assert "No policy was better than the one practice started with" in capsys.readouterr().out


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1.0, True])
def test_a_threshold_that_is_none_is_refused(run: Path, threshold: float) -> None:
    edit(run / "calibration.json", lambda one: one.update(threshold_steps=threshold))
    with pytest.raises(ConfigError, match="a finite number of 0 or more"):
        calibrated_threshold(run)


def test_a_card_is_written_without_a_network(run: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(huggingface_hub, "HfApi", None)
    main(["card", str(run), "--license", "mit", "--out", str(tmp_path / "deep/README.md")])
    assert ModelCard.load(tmp_path / "deep/README.md").data.license == "mit"


def test_data_of_the_hub_and_a_base_model_are_named(run: Path) -> None:
    def change(header: Any) -> None:
        header["config"] |= {"data": "lab/push-blocks", "revision": "v2", "model": "lab/base-vlm"}

    edit(run / "run.json", change)
    data = ModelCard(model_card(read_model_facts(run), NAME)).data
    assert data.datasets == ["lab/push-blocks"]
    assert data.base_model == "lab/base-vlm"


def test_a_model_of_others_weights_in_chunks_says_so(run: Path) -> None:
    def change(described: Any) -> None:
        described["model"] = "vlm"
        described["spaces"]["chunking"] = {"chunk": 5, "relative": False}

    edit(run / "checkpoints/policy/pretrained_model/config.json", change)
    card = model_card(read_model_facts(run), NAME)
    assert ModelCard(card).data.license is None
    assert "Licence: that of the pretrained model" in card
    assert "pip install 'nearer[vlm]'" in card
    assert "chunks of 5 steps to go or fewer" in card
    assert ModelCard(model_card(read_model_facts(run), NAME, "gemma")).data.license == "gemma"


def test_nothing_from_outside_becomes_markup(run: Path) -> None:
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "4"])
    edit(run / "run.json", lambda header: header["config"].update(data=HOSTILE, model=HOSTILE))
    edit(run / "run.json", lambda header: header["config"]["training"].update({HOSTILE: HOSTILE}))

    def change(info: Any) -> None:
        info["env"] = HOSTILE
        for number, episode in enumerate(info["episodes"]):
            episode["instruction"] = f"{HOSTILE} {number}"

    edit(run / "eval/eval_info.json", change)
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
def test_a_plain_text_is_one_bounded_line_without_marks(words: str) -> None:
    line = plain(words)
    assert len(line.splitlines()) <= 1
    assert len(line) <= 6 * 121
    assert "<" not in line
    assert ">" not in line
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]#|$@:]", line)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("calibration.json", lambda one: one.update(at_threshold=3)),
        ("calibration.json", lambda one: one.pop("threshold_steps")),
        ("calibration.json", lambda one: one.update(threshold_steps=float("nan"))),
        ("run.json", lambda one: one.pop("config")),
        ("run.json", lambda one: one.update(config=[])),
        ("run.json", lambda one: one["config"].update(training="much")),
        ("run.json", lambda one: one.update(command="demo")),
        ("eval/eval_info.json", lambda one: one.update(episodes=[])),
        ("eval/eval_info.json", lambda one: one.update(episodes={"a": 1})),
        ("eval/eval_info.json", lambda one: one.pop("env")),
        ("checkpoints/policy/pretrained_model/config.json", lambda one: one.update(spaces=None)),
    ],
)
def test_damaged_files_are_a_sentence(
    name: str, change: Callable[[Any], object], run: Path, capsys: Capture
) -> None:
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "2"])
    main(["card", str(run)])
    capsys.readouterr()
    edit(run / name, change)
    refused(capsys, "card", run)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.json must be"):
        read_model_facts(tmp_path)


def test_a_run_without_a_policy_is_refused(run: Path) -> None:
    (run / "checkpoints/policy").unlink()
    with pytest.raises(CheckpointError, match="checkpoints/policy"):
        read_model_facts(run)
