"""The command line: flags equal the frozen list, help is complete and fits a screen."""

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
PAGES = (
    *(*NAMES, "sft --model small-vla", "sft --model mlp", "sft --model user/name"),
    "sft --vla.network unet",
    "improve --fleet processes",
)
"""Help pages: one of each command, and those of models and fleets with settings of their own."""
SCREEN_LINES, SCREEN_COLUMNS = 91, 100  # a pipe gets three blank lines in place of boxes
DEFAULT = "(default: [^()]*|required|needed unless --resume)"
VLA_UNITS = {
    "--vla.word-width": "width",
    "--vla.steps-per-bin": "control steps",
    "--vla.max-deviation": "standard deviations",
    "--vla.dropout": "fraction",
    "--vla.action-levels": "magnitudes",
}
UNITS = {
    "watch": {"--port": "TCP port"},
    "collect": {
        "--episodes": "demonstrations",
        "--max-steps": "control steps",
        "--min-observations": "shorter episodes",
        "--fps": "Hz",
        "--num-envs": "simulators",
    },
    "sft": {
        "--completion-cutoff": "control steps",
        "--updates": "gradient updates",
        "--vision-encoder-updates": "gradient updates",
        "--vision-encoder-objective-updates": "gradient updates",
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
        "--calibration.fps": "Hz",
        "--calibration.min-precision": "fraction",
    },
    "sft --model small-vla": {
        "--chunk": "control steps",
        "--vision-encoder-updates": "gradient updates",
        "--vision-encoder-objective-updates": "gradient updates",
        "--vision-encoder-episodes": "demonstrations",
        "--fraction": "of the data set's episodes",
        **VLA_UNITS,
    },
    "sft --vla.network unet": {
        **VLA_UNITS,
        "--vla.self-training.batch-size": "frames",
        "--vla.self-training.part-size": "frames",
        "--vla.self-training.warmup-updates": "updates",
        "--vla.self-training.min-confidence": "probability",
        "--vla.self-training.rounds": "so many times",
        "--vla.self-training.occluded-weight": "how often",
        "--vla.self-training.other-instructions": "instructions",
        "--vla.self-training.rehearsed-parts": "parts",
    },
    "sft --model mlp": {
        "--chunk": "control steps",
        "--vision-encoder-updates": "gradient updates",
        "--vision-encoder-objective-updates": "gradient updates",
        "--vision-encoder-episodes": "demonstrations",
        "--fraction": "of the data set's episodes",
        "--mlp.steps-per-bin": "control steps",
        "--mlp.min-scale": "standard deviation",
        "--mlp.max-scale": "largest",
        "--mlp.max-deviation": "standard deviations",
    },
    "sft --model user/name": {
        "--chunk": "control steps",
        "--vlm.action-levels": "magnitudes",
        "--vision-encoder-updates": "gradient updates",
        "--vision-encoder-objective-updates": "gradient updates",
        "--vision-encoder-episodes": "demonstrations",
        "--fraction": "of the data set's episodes",
        "--vlm.image-px": "side of the square",
        "--vlm.steps-per-bin": "control steps",
    },
    "improve": {
        "--fps": "Hz",
        "--num-envs": "robots",
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
        "--deviate.importance-cap": "weight",
        "--deviate.success-bonus": "steps",
        "--deviate.past-iterations": "iterations",
        "--deviate.epochs": "times",
        "--deviate.value-baseline.iterations": "before the present one",
        "--deviate.value-baseline.updates": "gradient updates",
        "--deviate.value-baseline.batch-size": "samples",
    },
    "improve --fleet processes": {
        "--fps": "Hz",
        "--num-envs": "robots",
        "--threshold": "control steps",
        "--fleet.processes": "processes",
        "--fleet.robots": "robots",
        "--fleet.max-staleness": "updates",
        "--fleet.hz": "rate",
        "--fleet.decide-ahead": "control steps",
        "--fleet.faults.start-s": "seconds",
        "--fleet.faults.step-s": "seconds",
        "--fleet.faults.reset-s": "seconds",
        "--fleet.faults.first-wait-s": "seconds",
        "--fleet.faults.most-in-a-row": "faults",
        "--fleet.faults.frozen-steps": "control steps",
    },
    "eval": {
        "--fps": "Hz",
        "--episodes": "starts",
        "--max-steps": "control steps",
        "--num-envs": "simulators",
        "--videos": "starts",
    },
    "adapt": {"--updates": "gradient updates", "--episodes": "of the data set"},
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
        "--objective-updates": "gradient updates",
        "--practice-steps": "control steps",
        "--algorithm-1-steps": "the same without deviations",
        "--demonstrations": "of the whole data set",
        "--fractions": "percent",
        "--episodes": "test starts",
    },
    "eval-reward": {
        "--fps": "Hz",
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
        "--answer-s": "seconds",
        "--reconnect-s": "seconds",
    },
    "label": {"--threshold": "control steps"},
}
"""What the help of each flag that takes a number must say."""

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def screen_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN_COLUMNS))


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python process of its own."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def help_of(capsys: Capture, *command: str) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit_info:
        main([*command, "--help"])
    assert exit_info.value.code == 0
    return capsys.readouterr().out


def flags_of(page: str) -> dict[str, str]:
    """Return the help of each flag and positional argument, by its name and value."""
    flags: dict[str, str] = {}
    name = ""
    for line in page.replace("│", " ").splitlines():
        first_line = re.match(r"  (--[a-z].*?|\[[\[{].*?)(  |$)", line.rstrip())
        if first_line:
            name = first_line[1]
            flags[name] = line[2 + len(name) :].strip()
        elif line.startswith("        ") and name:
            flags[name] = f"{flags[name]} {line.strip()}".strip()
        else:
            name = ""
    return flags


@pytest.mark.parametrize("command", [(), *(tuple(page.split()) for page in PAGES)])
def test_help_page_fits_a_screen(command: tuple[str, ...], capsys: Capture) -> None:
    lines = help_of(capsys, *command).splitlines()
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines[1:])) <= SCREEN_COLUMNS  # the usage line names all commands


def test_help_without_command_lists_every_command(capsys: Capture) -> None:
    rows = re.findall(r"^  ([a-z-]+) +(\S.*)$", help_of(capsys), re.MULTILINE)
    assert [name for name, _ in rows] == list(NAMES)
    assert all(len(summary) > 20 for _, summary in rows)


@pytest.mark.parametrize("page", PAGES)
def test_help_flag_says_meaning_unit_and_default(page: str, capsys: Capture) -> None:
    flags = flags_of(help_of(capsys, *page.split()))
    for flag, text in flags.items():
        assert re.match(rf"\w.{{3,}}\({DEFAULT}\)$", text), f"{flag}: {text}"
    numbers = {flag.split()[0] for flag in flags if re.search("INT|FLOAT", flag)}
    unitless = {
        flag for flag in numbers
        if re.search(
            "seed|rate|decay|norm|discount|scale|hidden|num-bins|ppo-clip|rank|grippers", flag
        )
    }  # fmt: skip
    units = UNITS[page]
    assert numbers - unitless <= units.keys(), "a number without a unit: add it to UNITS"
    for flag, unit in units.items():
        (text,) = (text for name, text in flags.items() if name.split()[0] == flag)
        assert unit in text, f"{flag} must name its unit, {unit!r}, got {text!r}"


def test_help_flags_equal_the_frozen_list(capsys: Capture, tmp_path: Path) -> None:
    lines: list[str] = []
    for page in PAGES:
        for flag, text in flags_of(help_of(capsys, *page.split())).items():
            (default,) = re.findall(rf"\({DEFAULT}\)", text)
            line = f"nearer {page.split()[0]} {flag} ({default})\n"
            lines += [] if line in lines else [line]
    now = tmp_path / FLAGS.name
    now.write_text("".join(lines))
    assert lines == FLAGS.read_text().splitlines(keepends=True), (
        f"the command line changed; if that is meant, say so in docs/log.md and cp {now} {FLAGS}"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_commands_table_row_names_a_config_and_a_main(command: Command) -> None:
    config = named(command.config)
    assert is_dataclass(config)
    assert command.config.startswith("nearer.configs.")
    parameters = signature(named(command.main)).parameters.values()
    assert [parameter.name for parameter in parameters] == ["config", "console"]
    hints = get_type_hints(named(command.main))
    assert hints["config"] is config


def test_commands_table_lists_every_module_with_a_main() -> None:
    source = Path(nearer.__file__).parent
    with_main = {
        f"nearer.{path.parent.name}.{path.stem}"
        for path in (*source.glob("commands/*.py"), *source.glob("studies/*.py"))
        if re.search(r"^def main", path.read_text(), re.MULTILINE)
    }
    assert with_main == {command.main.partition(":")[0] for command in COMMANDS}


HELP_WITHOUT_HEAVY_IMPORTS = """
import contextlib, io, sys
from nearer.cli import main
for page in {pages!r}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        main(page)
    assert "usage: nearer" in shown.getvalue()
    loaded = {heavy!r} & sys.modules.keys()
    assert not loaded, f"nearer {{' '.join(page)}} imports {{loaded}}"
"""


def test_help_page_imports_no_heavy_package() -> None:
    heavy = {"torch", "matplotlib", "gymnasium", "transformers", "mujoco", "pyarrow", "numpy"}
    pages = [[*page.split(), "--help"] for page in ("", *PAGES)]
    completed = run_python(HELP_WITHOUT_HEAVY_IMPORTS.format(pages=pages, heavy=heavy))
    assert completed.returncode == 0, completed.stderr


def test_version_flag_prints_the_version(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])
    assert exit_info.value.code == 0
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
def test_main_unknown_command_names_the_closest_one(
    name: str, advice: str, capsys: Capture
) -> None:
    message = refused(capsys, name, code=2)
    assert message.startswith("nearer: the command must be one of collect, sft, improve")
    assert message.endswith(f"{advice}\n")


def test_main_missing_command_is_refused(capsys: Capture) -> None:
    assert "got none; see nearer --help" in refused(capsys, code=2)


def test_completion_for_bash_contains_commands_and_flags(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["--tyro-print-completion", "bash"])
    assert not exit_info.value.code
    script = capsys.readouterr().out
    for name in NAMES:
        assert f"'{name}'" in script
    assert "--num-envs" in script


def test_completion_for_unknown_shell_is_refused(capsys: Capture) -> None:
    assert "got tcsh" in refused(capsys, "--tyro-print-completion", "tcsh", code=2)


def test_help_closed_pipe_prints_no_traceback() -> None:
    command = f"{sys.executable} -c 'from nearer.cli import main; main()' improve --help | head -1"
    completed = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert completed.stdout.startswith("usage: nearer improve")
    assert completed.stderr == ""


def test_main_refusal_in_a_shell_is_one_sentence_on_stderr(tmp_path: Path) -> None:
    code = "from nearer.cli import main; main()"
    completed = run_python(code, "sft", "--data", "none", "--out", str(tmp_path / "run"))
    assert completed.returncode == 1
    assert completed.stderr == (
        "nearer: a data set must be an existing folder or a hub id 'user/name', got 'none'\n"
    )


CTRL_C_DURING_IMPORT = """
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


def test_main_ctrl_c_during_imports_is_silent() -> None:
    completed = run_python(CTRL_C_DURING_IMPORT.format(before=""), "report", "none")
    assert (completed.returncode, completed.stdout, completed.stderr) == (130, "", "")


def test_main_ctrl_c_ignored_by_the_shell_stays_ignored() -> None:
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    completed = run_python(CTRL_C_DURING_IMPORT.format(before=ignore), "report", "none")
    assert completed.returncode == 1
    assert completed.stderr.startswith("nearer: runs must be folders")
