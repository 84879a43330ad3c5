"""nearer push: what is uploaded, and what is loaded again by its name on the hub."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError

from commands.fake_hub import NAME, FakeHub, download, hash_of
from commands.tiny_runs import ENV_ID, SHORT_IMPROVE
from nearer.cli import main
from nearer.models.pretrained import from_pretrained, push_to_hub, save_pretrained
from nearer.runs.checkpoint import weights_hash
from nearer.runs.files import replace_link
from refusals import refused

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def test_push_run_is_loaded_again_by_its_name(
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


def test_push_practised_run_replaces_policy_and_evaluation(
    run: Path, hub: FakeHub, tmp_path: Path
) -> None:
    practised = tmp_path / "practised"
    main(["eval", "--checkpoint", str(run), "--env", ENV_ID, "--episodes", "20"])
    main(["push", str(run), NAME])
    assert "eval_info.json" in hub.files(NAME)
    download(hub, NAME)
    main(["improve", "--run", NAME, *SHORT_IMPROVE, "--out", str(practised)])
    main(["push", str(practised), NAME])
    assert hash_of(hub.root / NAME, "reward") == hash_of(run, "reward")
    assert hash_of(hub.root / NAME, "policy") == hash_of(practised, "policy")
    assert "eval_info.json" not in hub.files(NAME), "it belongs to the policy that was there before"
    card = (hub.root / NAME / "README.md").read_text()
    assert "## Practice" in card
    assert "Not evaluated" in card


def test_from_pretrained_folder_like_a_snapshot_is_loaded(run: Path, hub: FakeHub) -> None:
    main(["push", str(run), NAME])
    for link in ("policy", "reward"):
        assert weights_hash(from_pretrained(hub.root / NAME, link)) == hash_of(run, link)


@pytest.mark.usefixtures("hub")
def test_eval_unreachable_hub_model_is_refused(capsys: Capture) -> None:
    message = refused(capsys, "eval", "--checkpoint", "user/none", "--env", ENV_ID)
    assert "user/none must be a folder, or a model on the hub that can be reached" in message


@pytest.mark.parametrize("name", ["name", "a/b/c", "../up", "a/..", "user/na me", "a/b--c"])
def test_push_impossible_name_is_refused(name: str, run: Path, capsys: Capture) -> None:
    assert "user/name" in refused(capsys, "push", run, name)


def test_push_without_a_token_is_refused(
    run: Path, hub: FakeHub, monkeypatch: Patch, capsys: Capture
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise LocalTokenNotFoundError("Token is required\nand more")

    monkeypatch.setattr(hub, "create_repo", fail)
    assert "got: Token is required; log in with hf auth login" in refused(capsys, "push", run, NAME)


def test_push_reward_changed_since_practice_is_refused(
    run: Path, hub: FakeHub, tmp_path: Path, capsys: Capture
) -> None:
    practised = tmp_path / "practised"
    main(["improve", "--run", str(run), *SHORT_IMPROVE, "--out", str(practised)])
    replace_link(run / "checkpoints/reward", (run / "checkpoints/policy").readlink())
    assert "must hold the reward that" in refused(capsys, "push", practised, NAME)
    assert not hub.root.exists()


def test_push_to_hub_model_is_loaded_again(run: Path, hub: FakeHub, tmp_path: Path) -> None:
    model = from_pretrained(run, "reward")
    folder = save_pretrained(model, tmp_path / "deep/saved")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert weights_hash(from_pretrained(folder)) == weights_hash(model)
    assert push_to_hub(model, NAME) == f"https://hub.invalid/{NAME}"
    assert weights_hash(from_pretrained(hub.root / NAME)) == weights_hash(model)
    assert ModelCard((hub.root / NAME / "README.md").read_text()).data.library_name == "nearer"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "calibration.json"])
def test_push_follows_no_link_out_of_the_run(
    name: str, run: Path, hub: FakeHub, tmp_path: Path, capsys: Capture
) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "copied", symlinks=True))
    for file in copied.rglob(name):
        if not file.is_symlink() and not file.parent.is_symlink():
            secret = tmp_path / f"secret-{len(list(tmp_path.iterdir()))}"
            file.rename(secret)
            file.symlink_to(secret)
    message = refused(capsys, "push", copied, NAME)
    assert "to be pushed, got a link to" in message
    assert name in message
    assert not hub.root.joinpath(NAME).exists()


def test_push_of_a_checkpoint_outside_the_run_is_refused(
    run: Path, hub: FakeHub, tmp_path: Path, capsys: Capture
) -> None:
    copied = Path(shutil.copytree(run, tmp_path / "copied", symlinks=True))
    other = Path(shutil.copytree(run, tmp_path / "other", symlinks=True))
    (copied / "checkpoints/policy").unlink()
    (copied / "checkpoints/policy").symlink_to((other / "checkpoints/policy").resolve())
    assert "to be pushed, got a link to" in refused(capsys, "push", copied, NAME)
