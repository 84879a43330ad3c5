"""Impossible settings: the command line reads them, or says in a sentence what they must be."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hostile_attempts import Attempts
from mutations import Rng
from nearer.cli import parse

VALUES = (
    *("", "0", "-1", "1", "2.5", "1e999", "-inf", "nan", "1" * 400, "9" * 5000, "true", "None"),
    *("/", "..", "\x01", "[bold]", "{}", '{"a": 1}', "{", "a=b", "=", "a=1=2", "é" * 2000, "x/y"),
)
"""What a flag is given."""


def flags_by_command(frozen: Path) -> Mapping[str, Sequence[str]]:
    """Return command -> flags, of the list that tests/data/cli_flags.txt keeps."""
    flags: dict[str, list[str]] = {}
    for line in frozen.read_text().splitlines():
        _, command, flag, *_ = line.split()
        flags.setdefault(command, []).append(flag.rstrip(","))
    return flags


def hostile_flags(flags: Mapping[str, Sequence[str]], cases: int, seed: int) -> Attempts:
    """Return what became of so many command lines; only their settings are read.

    Args:
        flags: command -> its flags.
        cases: how many.
        seed: of the values; a case depends on seed and number alone.
    """
    attempts = Attempts()
    commands = sorted(flags)
    for case in range(cases):
        rng = np.random.default_rng([seed, case])
        command = commands[int(rng.integers(len(commands)))]
        arguments = [command, *_arguments(flags[command], rng)]

        def read(arguments: Sequence[str] = arguments) -> None:
            parse(arguments)

        attempts.refusal(f"case {case}: nearer {' '.join(arguments)[:200]}", read)
    return attempts


def _arguments(flags: Sequence[str], rng: Rng) -> list[str]:
    arguments: list[str] = []
    for _ in range(int(rng.integers(1, 6))):
        arguments.append(flags[int(rng.integers(len(flags)))])
        arguments += [
            VALUES[int(rng.integers(len(VALUES)))] for _ in range(int(rng.choice([0, 1, 1, 1, 2])))
        ]
    return arguments
