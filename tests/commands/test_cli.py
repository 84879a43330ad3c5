"""The command line: flags are frozen, help is complete and fits a screen."""

import re
import subprocess
import sys
from dataclasses import is_dataclass
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import get_type_hints

import pytest

import nearer
from nearer.cli import COMMANDS, Command, main, named
from refusals import refused

FLAGS = Path(__file__).parents[1] / "data" / "cli_flags.txt"
NAMES = tuple(command.name for command in COMMANDS)
PAGES = (*NAMES, "sft --model mlp", "sft --model user/name")
"""Commands, and with a model that has settings of its own."""
SCREEN_LINES, SCREEN_COLUMNS = 88, 100  # a pipe gets three blank lines in place of boxes
DEFAULT = "(default: [^()]*|required|needed unless --resume)"
UNITS = {
    "collect": {
        "--episodes": "demonstrations",
        "--max-steps": "control steps",
        "--min-observations": "shorter episodes",
        "--fps": "Hz",
        "--num-envs": "simulators",
    },
    "sft": {
        "--updates": "gradient updates",
        "--vision-encoder-updates": "gradient updates",
        "--vision-encoder-episodes": "demonstrations",
        "--batch-size": "frames",
        "--accumulate": "parts of a batch",
        "--warmup-updates": "updates",
        "--validate-every": "updates",
        "--val-fraction": "of the episodes",
        "--fraction": "of the data set's episodes",
        "--chunk": "control steps",
        "--other-instructions": "wrong ones",
        "--calibration.rollouts": "episodes",
        "--calibration.rollout-steps": "control steps",
        "--calibration.min-precision": "fraction",
    },
    "sft --model mlp": {
        "--chunk": "control steps",
        "--vision-encoder-updates": "gradient updates",
        "--vision-encoder-episodes": "demonstrations",
        "--fraction": "of the data set's episodes",
        "--mlp.steps-per-bin": "control steps",
        "--mlp.min-scale": "standard deviation",
        "--mlp.max-deviation": "standard deviations",
    },
    "sft --model user/name": {
        "--chunk": "control steps",
        "--vlm.action-levels": "magnitudes",
        "--vision-encoder-updates": "gradient updates",
        "--vision-encoder-episodes": "demonstrations",
        "--fraction": "of the data set's episodes",
        "--vlm.image-px": "side of the square",
        "--vlm.steps-per-bin": "control steps",
    },
    "improve": {
        "--num-envs": "simulators",
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
        "--min-precision": "fraction",
        "--min-recall": "fraction",
        "--min-trials": "episodes",
        "--deviate.success-bonus": "steps",
        "--deviate.past-iterations": "iterations",
        "--deviate.epochs": "times",
        "--deviate.value-baseline.iterations": "before the present one",
        "--deviate.value-baseline.updates": "gradient updates",
        "--deviate.value-baseline.batch-size": "samples",
    },
    "eval": {
        "--episodes": "starts",
        "--max-steps": "control steps",
        "--num-envs": "simulators",
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
        "--fractions": "percent",
        "--episodes": "test starts",
    },
    "eval-reward": {
        "--rollouts": "episodes",
        "--rollout-steps": "control steps",
        "--episodes": "of each data set",
        "--min-precision": "fraction",
        "--baseline-updates": "gradient updates",
        "--baseline-seeds": "so many times",
        "--baselines.hidden": "units",
        "--baselines.word-width": "numbers",
        "--baselines.dropout": "probability",
        "--baselines.embedding": "numbers",
        "--baselines.batch-size": "frames",
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
    rows = re.findall(r"^  ([a-z-]+) +(\S.*)$", help_of(capsys), re.MULTILINE)
    assert [name for name, _ in rows] == list(NAMES)
    assert all(len(summary) > 20 for _, summary in rows)


@pytest.mark.parametrize("page", PAGES)
def test_help_says_what_each_flag_is_with_unit_and_default(page: str, capsys: Capture) -> None:
    flags = flags_of(help_of(capsys, *page.split()))
    for flag, text in flags.items():
        assert re.match(rf"\w.{{3,}}\({DEFAULT}\)$", text), f"{flag}: {text}"
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


def test_flags_are_frozen(capsys: Capture, tmp_path: Path) -> None:
    lines: list[str] = []
    for page in PAGES:
        for flag, text in flags_of(help_of(capsys, *page.split())).items():
            (default,) = re.findall(rf"\({DEFAULT}\)", text)
            line = f"nearer {page.split()[0]} {flag} ({default})\n"
            lines += [] if line in lines else [line]
    listed = tmp_path / FLAGS.name
    listed.write_text("".join(lines))
    assert lines == FLAGS.read_text().splitlines(keepends=True), (
        f"the command line changed; if that is meant, say so in docs/log.md and cp {listed} {FLAGS}"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_command_has_a_config_and_a_main(command: Command) -> None:
    config = named(command.config)
    assert is_dataclass(config)
    assert command.config.startswith("nearer.configs.")
    parameters = signature(named(command.main)).parameters.values()
    assert [parameter.name for parameter in parameters] == ["config", "console"]
    hints = get_type_hints(named(command.main))
    assert hints["config"] is config


def test_every_file_of_commands_and_studies_with_a_main_is_in_the_table() -> None:
    source = Path(nearer.__file__).parent
    with_main = {
        f"nearer.{path.parent.name}.{path.stem}"
        for path in (*source.glob("commands/*.py"), *source.glob("studies/*.py"))
        if re.search(r"^def main", path.read_text(), re.MULTILINE)
    }
    assert with_main == {command.main.partition(":")[0] for command in COMMANDS}


HELP_WITHOUT = """
import contextlib, io, sys
from nearer.cli import main
for page in {pages!r}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        main(page)
    assert "usage: nearer" in shown.getvalue()
    loaded = {heavy!r} & sys.modules.keys()
    assert not loaded, f"nearer {{' '.join(page)}} imports {{loaded}}"
"""


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "matplotlib", "gymnasium", "transformers", "mujoco", "pyarrow", "numpy"}
    pages = [[*page.split(), "--help"] for page in ("", *PAGES)]
    code = HELP_WITHOUT.format(pages=pages, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_is_printed(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"nearer {version('nearer')}\n"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("imrpove", "got imrpove; did you mean improve?"),
        ("calibrate-reward", "got calibrate-reward; did you mean eval-reward?"),
        ("zzz", "got zzz; see nearer --help"),
        ("--resume", "got --resume; see nearer --help"),
    ],
)
def test_unknown_command_names_the_closest_one(name: str, advice: str, capsys: Capture) -> None:
    said = refused(capsys, name, code=2)
    assert said.startswith("nearer: the command must be one of collect, sft, improve")
    assert said.endswith(f"{advice}\n")


def test_no_command_is_a_sentence(capsys: Capture) -> None:
    assert "got none; see nearer --help" in refused(capsys, code=2)


def test_completion_script_knows_commands_and_flags(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--tyro-print-completion", "bash"])
    assert not left.value.code
    script = capsys.readouterr().out
    for name in NAMES:
        assert f"'{name}'" in script
    assert "--num-envs" in script


def test_completion_for_another_shell_is_a_sentence(capsys: Capture) -> None:
    assert "got tcsh" in refused(capsys, "--tyro-print-completion", "tcsh", code=2)


def test_help_in_a_pipe_that_closes_gives_no_traceback() -> None:
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


def test_ctrl_c_while_torch_is_imported_says_nothing() -> None:
    code = WHILE_TORCH_IS_IMPORTED.format(before="")
    command = [sys.executable, "-c", code, "report", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_ignored_by_the_shell_stays_ignored() -> None:
    code = WHILE_TORCH_IS_IMPORTED.format(before="signal.signal(signal.SIGINT, signal.SIG_IGN)")
    command = [sys.executable, "-c", code, "report", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("nearer: runs must be folders")
