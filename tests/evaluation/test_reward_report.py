"""reward_report.json of nearer eval-reward."""

from pathlib import Path

import pytest

from document_values import reward_report
from nearer.core.errors import ConfigError
from nearer.evaluation.reward_report import (
    REWARD_REPORT,
    read_reward_report,
    write_reward_report,
)


def test_read_reward_report_is_what_was_written(tmp_path: Path) -> None:
    write_reward_report(tmp_path, reward_report())
    assert read_reward_report(tmp_path / REWARD_REPORT, "") == reward_report()


def test_read_reward_report_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / REWARD_REPORT).write_text('{"sources": {}}')
    with pytest.raises(ConfigError, match=r"as this version of nearer writes it.*; measure again"):
        read_reward_report(tmp_path / REWARD_REPORT, "measure again")
