"""metrics.jsonl: the records of a run, one a line, and their values as numbers."""

import math
from pathlib import Path

from nearer.core.metrics import Metric, Record
from nearer.runs.json_files import read_lines

METRICS = "metrics.jsonl"


def read_metrics(root: Path) -> list[Record]:
    """Return the records of a run, oldest first; empty before the first."""
    return list[Record](read_lines(root / METRICS))


def number(value: Metric) -> float:
    """Return a value of a record as a number; nan for one that is none."""
    return float(value) if isinstance(value, int | float) else math.nan
