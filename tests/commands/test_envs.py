"""Envs that a command cannot use are refused; actions beyond an env's limits are counted."""

import json
import re
from pathlib import Path

import pytest

from commands.faults import file_contents
from commands.tiny_runs import TINY_IMPROVE, TINY_SFT, improve_in
from nearer.cli import main
from nearer.runs.metrics import read_metrics
from refusals import refused

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("faulty_envs")


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (
            "nearer/PointMas-v0",
            r"got 'nearer/PointMas-v0' \(imported nearer, .*\); did you mean nearer/PointMass-v0",
        ),
        ("zzz", "got 'zzz'; install the package that registers it"),
        (
            "test/DiscreteActions-v0",
            r"a Box action space of real numbers, got Discrete\(3\); policies choose among levels",
        ),
        (
            "test/OtherKeys-v0",
            r"must observe agent_pos, .* got joints \(Box, shape \(4,\), float32\); name yours "
            "with --rename KEY=agent_pos",
        ),
        (
            "test/OtherSizes-v0",
            "must have the spaces of the checkpoint, .*action 2.*got .*action 7",
        ),
        ("test/NeedsPackage-v0", "No module named 'mujoco'; install what it needs"),
        ("test/NeedsExtra-v0", "box2d is not installed; install what it needs"),
        ("test/CannotStart-v0", "must be made without an error, got OSError: no robot at /dev/tty"),
    ],
)
def test_command_unusable_env_is_refused(
    env: str, sentence: str, workspace: Path, capsys: Capture
) -> None:
    before = file_contents(workspace)
    run, data = workspace / "sft", workspace / "data"
    out = ["--out", workspace / "run"]
    commands = [
        ["eval", "--checkpoint", run, "--env", env],
        ["improve", "--run", run, *out, *TINY_IMPROVE, "--env", env],
        ["sft", "--data", data, *out, *TINY_SFT, "--calibration.env", env],
    ]
    for command in commands:
        assert re.search(sentence, refused(capsys, *command))
    assert file_contents(workspace) == before
    assert not (workspace / "run").exists()


def test_command_actions_beyond_limits_are_counted(workspace: Path, capsys: Capture) -> None:
    run, env = improve_in("NarrowActions", workspace), "test/NarrowActions-v0"
    practised = [record["practice/actions_outside"] for record in read_metrics(run)]
    assert min(practised) > 0
    capsys.readouterr()
    main(["eval", "--checkpoint", str(run), "--env", env, "--episodes", "4"])
    (printed,) = re.findall(r"(\d+) actions were beyond the limits of", capsys.readouterr().out)
    evaluated = int(printed)
    document = json.loads((run / "eval/eval_info.json").read_text())
    assert document["overall"]["n_actions_outside"] == evaluated
    assert sum(episode["actions_outside"] for episode in document["episodes"]) == evaluated
    main(["report", str(run), "--out", str(workspace / "report.html")])
    page = (workspace / "report.html").read_text()
    assert f">{sum(practised):,}<" in page
    assert f">{evaluated:,}<" in page
    main(["collect", "--env", env, "--episodes", "4", "--out", str(workspace / "more")])
    assert re.search(r"actions beyond limits \d+", capsys.readouterr().out)
