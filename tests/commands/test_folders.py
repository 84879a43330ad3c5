"""Checkpoints and output folders that a command cannot use are refused and stay unharmed."""

import re
import shutil
from pathlib import Path

import pytest

from commands.faults import (
    Damage,
    edit_json,
    file_contents,
    remove_key,
    shift_normalisation,
    truncate,
)
from commands.tiny_runs import ENV_ID, TINY_IMPROVE, TINY_SFT
from refusals import refused

CONFIG = "checkpoints/policy/pretrained_model/config.json"
WEIGHTS = "checkpoints/policy/pretrained_model/model.safetensors"
TOO_LARGE = {"hidden": 10**7, "num_bins": 30}
"""Sizes of a model that no machine's memory holds."""

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda run: truncate(run / WEIGHTS),
            "must be a whole safetensors file, got",
        ),
        (
            lambda run: truncate(run / CONFIG),
            "must be a JSON file, got: .*; copy the checkp",
        ),
        (
            lambda run: (run / CONFIG).write_text("[]"),
            "must hold a JSON object",
        ),
        (
            lambda run: shift_normalisation(run / WEIGHTS),
            "must carry the normalisation that config.json was written with",
        ),
        (
            lambda run: edit_json(run / CONFIG, model="pi0"),
            "got 'pi0'; use",
        ),
        (
            lambda run: edit_json(run / CONFIG, sizes={"hidden": 8}),
            "must fit the model",
        ),
        (
            lambda run: remove_key(run / CONFIG, "spaces"),
            "must fit the model .*'spaces'",
        ),
        (
            lambda run: edit_json(run / CONFIG, sizes=TOO_LARGE),
            "must fit the model .*in place of",
        ),
        (
            lambda run: (run / "checkpoints/policy/COMPLETE").unlink(),
            "got a checkpoint that was nev",
        ),
        (
            lambda run: shutil.rmtree(run / "checkpoints"),
            "got neither there nor in .*; make one wit",
        ),
    ],
)
@pytest.mark.parametrize("command", ["eval", "improve"])
def test_command_damaged_checkpoint_is_refused(
    damage: Damage, sentence: str, command: str, workspace: Path, capsys: Capture
) -> None:
    run = workspace / "sft"
    damage(run)
    before = file_contents(workspace)
    options = {
        "eval": ["--checkpoint", run, "--env", ENV_ID],
        "improve": ["--run", run, "--out", workspace / "run", *TINY_IMPROVE],
    }[command]
    message = refused(capsys, command, *options)
    assert re.search(sentence, message)
    assert str(run) in message or "config.json" in message
    assert file_contents(workspace) == before


def test_command_unusable_output_folder_is_refused(workspace: Path, capsys: Capture) -> None:
    (workspace / "file").write_text("mine")
    before = file_contents(workspace)
    commands = [
        ["collect", "--env", ENV_ID, "--episodes", "4"],
        ["sft", "--data", workspace / "data", *TINY_SFT],
        ["improve", "--run", workspace / "sft", *TINY_IMPROVE],
    ]
    for command in commands:
        for occupied in (workspace / "data", workspace / "file"):
            message = refused(capsys, *command, "--out", occupied)
            sentence = "must be an? (new or empty|empty or new) folder, got.*; choose"
            assert re.search(sentence, message)
            assert str(occupied) in message
        message = refused(capsys, *command, "--out", workspace / "file" / "below")
        assert re.search("must be on a disk that can be written, got:? Not a directory", message)
    message = refused(
        capsys, "eval", "--checkpoint", workspace / "sft", "--env", ENV_ID, "--out", "/proc/x"
    )
    assert "/proc/x must be on a disk that can be written, got: No such file" in message
    assert file_contents(workspace) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["sft", "--data", "data", *TINY_SFT, "--mlp.hidden", 10**6],
            r"must hold about 14,901 GiB for a network with layers of 1,000,000 units, got .*"
            "; choose a smaller --mlp.hidden",
        ),
        (
            [
                *("improve", "--run", "sft", *TINY_IMPROVE),
                *("--num-envs", 10**9, "--max-env-steps", 10**12),
            ],
            "for 1,000,000,000 envs, got .*; choose a smaller --num-envs",
        ),
        (
            ["eval", "--checkpoint", "sft", "--env", ENV_ID, "--max-steps", 10**9],
            "for episodes of 1,000,000,000 decisions of .* robots, got .* or --max-steps",
        ),
    ],
)
def test_sizes_that_cannot_fit_are_refused_by_an_estimate(
    arguments: list[object],
    sentence: str,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(workspace)
    assert re.search(sentence, refused(capsys, *arguments, "--out", workspace / "new"))
