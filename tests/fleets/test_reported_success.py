"""Success as envs report it; an env that never does is refused where success is measured."""

from typing import Any

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.fleets.reported_success import ReportedSuccess

BOTH = np.arange(2)
FIRST = np.arange(1)


@pytest.mark.parametrize(
    ("info", "success"),
    [
        ({"is_success": True}, True),
        ({"success": 1.0}, True),  # Meta-World's
        ({"success": np.float32(0)}, False),
        ({"is_success": False, "success": True}, False),
        ({"is_success": np.array([True])}, True),
    ],
)
def test_success_is_what_the_env_reports(info: dict[str, Any], success: bool) -> None:
    reported = ReportedSuccess("some/Env", 1)
    reported.note(FIRST, info)
    assert reported.of(FIRST).tolist() == [success]


def test_success_has_a_row_a_robot() -> None:
    reported = ReportedSuccess("some/Env", 3)
    reported.note(np.array([2, 0]), {"is_success": np.array([True, False])})
    assert reported.of(np.arange(3)).tolist() == [False, False, True]


def test_a_start_without_a_report_is_no_success() -> None:
    reported = ReportedSuccess("some/Env", 2)
    reported.note(BOTH, {"is_success": np.array([True, True])})
    reported.begin(BOTH, {})
    assert reported.of(BOTH).tolist() == [False, False]


def test_a_step_without_a_report_is_refused_where_success_is_asked() -> None:
    reported = ReportedSuccess("some/Env", 2)
    reported.note(BOTH, {"is_success": np.array([True, True])})
    reported.note(FIRST, {"reward_terms": 3})
    assert reported.of(np.array([1])).tolist() == [True]
    with pytest.raises(EnvError, match=r"some/Env must report is_success .or success.*got neither"):
        reported.of(BOTH)
    reported.begin(FIRST, {})
    assert reported.of(FIRST).tolist() == [False]


@pytest.mark.parametrize("strange", [float("nan"), 0.5, "yes", None, 2])
def test_a_report_that_is_neither_true_nor_false_is_refused(strange: Any) -> None:
    with pytest.raises(EnvError, match="must report success as true or false"):
        ReportedSuccess("some/Env", 1).note(FIRST, {"success": strange})
