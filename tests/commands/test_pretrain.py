"""`nearer pretrain`: drawn scenes become the weights of a vision encoder."""

from pathlib import Path

import pytest

from nearer.cli import main
from nearer.models.pointing.weights import load_pointing, settings_json
from refusals import refused

TINY = ["--images", "4", "--updates", "2", "--batch-size", "2", "--measured", "2"]


def test_pretrain_writes_weights_that_load_with_their_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "weights"
    main(["pretrain", "--out", str(out), "--workers", "1", *TINY])
    assert f"the vision encoder is in {out}" in capsys.readouterr().out
    assert not load_pointing(out).training
    settings = settings_json(out)
    assert (settings["images"], settings["updates"]) == (4, 2)
    assert settings["objective"] == "multimodal"


def test_pretrain_without_an_image_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "pretrain", "--out", tmp_path / "weights", "--images", 0)
    assert said == "nearer: --images must be 1 or more, got 0; the default is 30000\n"
    assert not (tmp_path / "weights").exists()
