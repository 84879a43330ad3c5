"""Records of metrics.jsonl and their values."""

import math
from pathlib import Path

import pytest

from nearer.runs.metrics import METRICS, number, read_metrics


def test_read_metrics_truncated_line_is_left_out(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
    (tmp_path / METRICS).write_text('{"step": 1, "a/b": 0.5}\n{"step": 2, "a')
    assert read_metrics(tmp_path) == [{"step": 1, "a/b": 0.5}]


@pytest.mark.parametrize("value", [None, "a text"])
def test_number_other_value_is_nan(value: str | None) -> None:
    assert math.isnan(number(value))


def test_number_count_becomes_a_float() -> None:
    assert isinstance(number(3), float)
