"""The command line: flags are frozen, help is complete and fits a screen."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nearer.cli import main

FLAGS = Path(__file__).parents[1] / "data" / "cli_flags.txt"
COMMANDS = (
    "collect", "sft", "improve", "eval", "report", "demo", "pretrain", "reproduce", "calibrate",
    "export", "card", "push", "serve", "label",
)  # fmt: skip
PAGES = (*COMMANDS, "sft --model mlp", "sft --model user/name")
"""Commands, and with a model that has settings of its own."""
SCREEN_LINES, SCREEN_COLUMNS = 68, 100  # a pipe gets three blank lines in place of boxes
UNITS = {
    "collect": {
        "--episodes": "demonstrations",
        "--max-steps": "control steps",
        "--min-observations": "shorter episodes",
        "--fps": "Hz",
        "--robots": "simulators",
    },
    "sft": {
        "--updates": "gradient updates",
        "--vision-encoder-updates": "gradient updates",
        "--batch-size": "frames",
        "--accumulate": "parts of a batch",
        "--warmup-updates": "updates",
        "--validate-every": "updates",
        "--val-fraction": "of the episodes",
        "--share": "of the data set's episodes",
        "--chunk": "control steps",
        "--other-instructions": "wrong ones",
        "--calibration.rollouts": "episodes",
        "--calibration.rollout-steps": "control steps",
        "--calibration.min-precision": "share",
    },
    "sft --model mlp": {
        "--chunk": "control steps",
        "--vision-encoder-updates": "gradient updates",
        "--share": "of the data set's episodes",
        "--mlp.steps-per-bin": "control steps",
        "--mlp.min-scale": "standard deviation",
        "--mlp.max-deviation": "standard deviations",
    },
    "sft --model user/name": {
        "--chunk": "control steps",
        "--vlm.action-levels": "magnitudes",
        "--vision-encoder-updates": "gradient updates",
        "--share": "of the data set's episodes",
        "--vlm.image-px": "side of the square",
        "--vlm.steps-per-bin": "control steps",
    },
    "improve": {
        "--robots": "simulators",
        "--threshold": "control steps",
        "--max-env-steps": "control steps",
        "--updates-per-iteration": "gradient updates",
        "--batch-size": "samples",
        "--accumulate": "parts of a batch",
        "--max-steps": "control steps",
        "--block-iterations": "iterations",
        "--patience-blocks": "blocks",
        "--min-gain": "relative",
        "--audit-every": "iterations",
        "--audit-episodes": "episodes",
        "--min-precision": "share",
        "--min-recall": "share",
        "--min-trials": "episodes",
        "--deviate.success-bonus": "steps",
        "--deviate.past-iterations": "iterations",
        "--deviate.epochs": "times",
    },
    "eval": {
        "--episodes": "starts",
        "--max-steps": "control steps",
        "--robots": "simulators",
        "--videos": "starts",
    },
    "report": {},
    "demo": {"--episodes": "demonstrations"},
    "pretrain": {
        "--images": "scenes",
        "--updates": "optimiser steps",
        "--batch-size": "images",
        "--naming": "weight of the loss",
        "--matching": "weight of the loss",
        "--measured": "scenes",
        "--workers": "processes",
    },
    "reproduce": {
        "--few": "demonstrations of",
        "--practice-steps": "control steps",
        "--demonstrations": "of the whole data set",
        "--shares": "percent",
        "--episodes": "test starts",
    },
    "calibrate": {
        "--rollouts": "episodes",
        "--rollout-steps": "control steps",
        "--episodes": "of each data set",
        "--min-precision": "share",
        "--baseline-updates": "gradient updates",
        "--baseline-seeds": "so many times",
    },
    "export": {"--episodes": "rows"},
    "card": {},
    "push": {},
    "serve": {
        "--port": "TCP port",
        "--threshold": "control steps",
        "--max-message-mb": "megabytes",
        "--max-rate": "messages a second",
        "--max-robots": "connections",
        "--idle-s": "seconds",
    },
    "label": {"--threshold": "control steps"},
}
"""What the help of each flag that takes a number must say."""

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN_COLUMNS))


def help_of(capsys: Capture, *command: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    return capsys.readouterr().out


def flags_of(page: str) -> dict[str, str]:
    """Return the help of each flag and positional argument, by its name and value."""
    flags: dict[str, str] = {}
    name = ""
    for line in page.replace("│", " ").splitlines():
        started = re.match(r"  (--[a-z].*?|\[[\[{].*?)(  |$)", line.rstrip())
        if started:
            name = started[1]
            flags[name] = line[2 + len(name) :].strip()
        elif line.startswith("        ") and name:
            flags[name] = f"{flags[name]} {line.strip()}".strip()
        else:
            name = ""
    return flags


@pytest.mark.parametrize("command", [(), *(tuple(page.split()) for page in PAGES)])
def test_help_fits_a_screen(command: tuple[str, ...], capsys: Capture) -> None:
    lines = help_of(capsys, *command).splitlines()
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines[1:])) <= SCREEN_COLUMNS  # the usage line names all commands


def test_help_lists_every_command(capsys: Capture) -> None:
    listed = re.findall(r"• (\w+) +\S", help_of(capsys))
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_help_says_what_each_flag_is_with_unit_and_default(page: str, capsys: Capture) -> None:
    flags = flags_of(help_of(capsys, *page.split()))
    for flag, text in flags.items():
        assert re.match(r"\w.{3,}\((default: .*|required)\)$", text), f"{flag}: {text}"
    numbers = {flag.split()[0] for flag in flags if re.search("INT|FLOAT", flag)}
    unitless = {
        flag for flag in numbers
        if re.search("seed|rate|decay|norm|discount|scale|hidden|num-bins|ppo-clip|rank", flag)
    }  # fmt: skip
    units = UNITS[page]
    assert numbers - unitless <= units.keys(), "a number without a unit: add it to UNITS"
    for flag, unit in units.items():
        (text,) = (text for name, text in flags.items() if name.split()[0] == flag)
        assert unit in text, f"{flag} must name its unit, {unit!r}, got {text!r}"


def test_the_flags_are_frozen(capsys: Capture, tmp_path: Path) -> None:
    lines: list[str] = []
    for page in PAGES:
        for flag, text in flags_of(help_of(capsys, *page.split())).items():
            (default,) = re.findall(r"\((default: [^()]*|required)\)", text)
            line = f"nearer {page.split()[0]} {flag} ({default})\n"
            lines += [] if line in lines else [line]
    found = tmp_path / FLAGS.name
    found.write_text("".join(lines))
    assert lines == FLAGS.read_text().splitlines(keepends=True), (
        f"the command line changed; if that is meant, say so in docs/log.md and cp {found} {FLAGS}"
    )


def test_a_reader_who_has_seen_enough_gets_no_traceback() -> None:
    command = f"{sys.executable} -c 'from nearer.cli import main; main()' improve --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("usage: nearer improve")
    assert done.stderr == ""


WHILE_TORCH_IS_IMPORTED = """
import signal, sys
from nearer.__main__ import main

class PressCtrlC:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, PressCtrlC())
{before}
main()
"""


def test_ctrl_c_before_anything_began_says_nothing() -> None:
    code = WHILE_TORCH_IS_IMPORTED.format(before="")
    command = [sys.executable, "-c", code, "report", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_who_ignores_ctrl_c_goes_on() -> None:
    code = WHILE_TORCH_IS_IMPORTED.format(before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    command = [sys.executable, "-c", code, "report", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("nearer: runs must be folders")
