"""`nearer report`: where the page goes."""

import shutil
from pathlib import Path

import pytest

from nearer.cli import main


@pytest.mark.parametrize("out", [None, "deep/page.html"])
def test_report_without_out_is_beside_the_last_run(
    out: str | None, stage_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(stage_one / "sft", tmp_path / "runs/sft", symlinks=True)
    main(["report", str(run), *(["--out", str(tmp_path / out)] if out else [])])
    page = tmp_path / (out or "runs/report.html")
    assert page.read_text().startswith("<!doctype html>")
    assert str(page) in capsys.readouterr().out.replace("\n", "")
