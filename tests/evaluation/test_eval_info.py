"""eval_info.json, in lerobot's form."""

import json
from pathlib import Path

import pytest

from document_values import evaluation, info_of
from nearer.core.errors import ConfigError
from nearer.evaluation.eval_info import read_eval_info, write_eval_info


def test_read_eval_info_is_the_evaluation_that_was_written(tmp_path: Path) -> None:
    written = evaluation(2, 3)
    write_eval_info(tmp_path / "eval_info.json", info_of(written, "env"))
    assert read_eval_info(tmp_path / "eval_info.json").evaluation == written


def test_write_eval_info_has_the_keys_of_lerobot(tmp_path: Path) -> None:
    write_eval_info(tmp_path / "eval_info.json", info_of(evaluation(2, 4), "env"))
    document = json.loads((tmp_path / "eval_info.json").read_text())
    assert document["overall"]["pc_success"] == 50.0
    assert document["overall"].keys() >= {"eval_s", "eval_ep_s"}
    assert document["per_task"]["touch the goal"]["n_episodes"] == 4


def test_read_eval_info_without_episodes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "eval_info.json"
    write_eval_info(path, info_of(evaluation(2, 3), "env"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"episodes": []}))
    with pytest.raises(ConfigError, match="must hold one episode or more, got none; evaluate"):
        read_eval_info(path)
