"""calibration.json of Stage 1."""

import json
from pathlib import Path

import pytest

from document_values import calibration
from nearer.core.errors import ConfigError
from nearer.evaluation.calibration import read_calibration, write_calibration
from nearer.runs.hub import CALIBRATION


def test_read_calibration_is_what_was_written(tmp_path: Path) -> None:
    write_calibration(tmp_path, calibration())
    assert read_calibration(tmp_path / CALIBRATION, "") == calibration()


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1.0, True, "few", None])
def test_read_calibration_without_a_threshold_is_refused(threshold: object, tmp_path: Path) -> None:
    write_calibration(tmp_path, calibration())
    path = tmp_path / CALIBRATION
    path.write_text(json.dumps(json.loads(path.read_text()) | {"threshold_steps": threshold}))
    with pytest.raises(ConfigError, match=r"a finite number of 0 or more, got .*; do this"):
        read_calibration(path, "do this")
