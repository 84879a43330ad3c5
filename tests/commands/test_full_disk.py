"""A disk that fills up during training costs no finished work: the run resumes to the same bits."""

import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from tensorboard.summary.writer.record_writer import RecordWriter

from commands.faults import fill_disk
from commands.tiny_runs import TINY_IMPROVE, TINY_SFT
from nearer.cli import main
from refusals import refused

WEIGHTS = "checkpoints/last/pretrained_model/model.safetensors"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("command", ["sft", "improve"])
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
def test_training_full_disk_is_refused_and_resumes_to_the_same_weights(
    owner: Any,
    name: str,
    after: int,
    command: str,
    workspace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = {
        "sft": ["sft", "--data", str(workspace / "data"), *TINY_SFT],
        "improve": ["improve", "--run", str(workspace / "sft"), *TINY_IMPROVE],
    }[command]
    run, undisturbed = workspace / "run", workspace / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        fill_disk(patch, owner, name, after)
        message = refused(capsys, *start, "--out", run)
    assert "No space left on device" in message
    assert "unharmed" in message
    assert "free some space" in message
    started = (run / "run.json").exists()
    main([command, "--resume", "--out", str(run)] if started else [*start, "--out", str(run)])
    main([*start, "--out", str(undisturbed)])
    assert (run / WEIGHTS).read_bytes() == (undisturbed / WEIGHTS).read_bytes()
