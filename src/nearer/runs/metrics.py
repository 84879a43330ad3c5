"""metrics.jsonl: the records of a run, one a line, and their values as numbers."""

import math
import sys
from pathlib import Path

from nearer.core.errors import ConfigError
from nearer.core.metrics import Metric, Record
from nearer.runs.json_files import read_lines

METRICS = "metrics.jsonl"
_LARGEST = 2**63 - 1  # what an array of whole numbers holds
_ADVICE = "restore it, or start a new run"


def read_metrics(root: Path) -> list[Record]:
    """Return the records of a run, oldest first; empty before the first.

    Raises:
        ConfigError: a line is damaged: its step is no whole number, or a value no finite one.
    """
    path = root / METRICS
    records = list[Record](read_lines(path, _ADVICE))
    for row, record in enumerate(records, 1):
        for name, value in record.items():
            _check(value, name, f"line {row} of {path}")
        step = record.get("step")
        if not isinstance(step, int) or isinstance(step, bool) or step < 0:
            raise ConfigError(
                f"line {row} of {path} must name its step, a whole number of 0 or more, got "
                f"{str(step)[:60]}; {_ADVICE}"
            )
    return records


def _check(value: object, name: str, where: str) -> None:
    if isinstance(value, int | float):
        right = abs(value) <= (_LARGEST if isinstance(value, int) else sys.float_info.max)
    else:
        right = value is None or isinstance(value, str)
    if not right:
        raise ConfigError(
            f"{where} must have a finite number or a text in {name[:60]}, got "
            f"{str(value)[:60]}; {_ADVICE}"
        )


def count(record: Record, name: str) -> int:
    """Return a whole number of a record.

    Raises:
        ConfigError: it is missing, or something else.
    """
    value = record.get(name)
    if not isinstance(value, int):
        raise ConfigError(
            f"metrics.jsonl must have the whole number {name} in step {record.get('step')}, got "
            f"{str(value)[:60]}; {_ADVICE}"
        )
    return value


def number(value: Metric) -> float:
    """Return a value of a record as a number; nan for one that is none."""
    return float(value) if isinstance(value, int | float) else math.nan
