"""The scripted demonstrators in examples/: they solve their tasks, and `nearer demo` practises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMONSTRATORS = Path(__file__).parents[1] / "examples" / "demonstrators"


def run(*command: object) -> str:
    """Run a command with this Python, and return what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("package", "which", "script", "episodes", "at_least"),
    [
        ("gym_pusht", "pusht", ["pusht_pusher.py"], 4, 3),
        ("metaworld", "metaworld", ["metaworld_expert.py", "push-v3", "--goals", "4"], 8, 3),
    ],
)
def test_demonstrator_records_what_demo_practises_on(
    package: str, which: str, script: list[str], episodes: int, at_least: int, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    data = tmp_path / "data"
    printed = run(DEMONSTRATORS / script[0], *script[1:], "--episodes", episodes, "--out", data)
    successful = re.search(rf"(\d+) of {episodes} episodes", printed)
    assert successful is not None
    assert int(successful[1]) >= at_least
    out = tmp_path / "out"
    lines = run("-m", "nearer", "demo", which, "--data", data, "--out", out, "--quick")
    assert "Stage 2   success" in lines
    assert (out / "report.html").is_file()
