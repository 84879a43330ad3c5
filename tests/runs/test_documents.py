"""run.json and the small files beside it: what they say, and what a run may be continued with."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from document_values import drawn, header
from nearer.core.errors import ConfigError
from nearer.runs.documents import (
    Demonstrations,
    EncodingTime,
    Rollouts,
    RunInputs,
    TrackerIds,
    read_demonstrations,
    read_encoding_time,
    read_header,
    read_rollouts,
    read_tracker_ids,
    remove_rollouts,
    write_demonstrations,
    write_encoding_time,
    write_header,
    write_rollouts,
    write_tracker_ids,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seeded:
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    data: str
    training: Seeded


def test_read_header_written_header_is_equal(tmp_path: Path) -> None:
    written = header("improve", {"run": "one", "practice": {"seed": 3}})
    write_header(tmp_path, written)
    assert read_header(tmp_path) == written


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('{"command": "sft", "versions": {"nearer": "0.1.0"}, "config": {}}', "0.1.0"),
        ('{"format": 1, "versions": {"nearer": "0.0.9"}}', "0.0.9"),
        ('{"format": 99, "versions": {"nearer": "7.0"}}', "7.0"),
        ('{"versions": 3}', r"\(unknown\)"),
        ("{}", r"\(unknown\)"),
    ],
)
def test_read_header_other_format_names_the_version_that_made_it(
    text: str, version: str, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text(text)
    sentence = f"made by nearer {version}, with format .*; start a new run, or use that version"
    with pytest.raises(ConfigError, match=sentence):
        read_header(tmp_path)


def test_read_header_missing_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.json must be a JSON file.*--out named"):
        read_header(tmp_path)


def test_header_part_of_a_dataclass_reads_its_settings(tmp_path: Path) -> None:
    config = {"data": "here", "training": {"seed": 3, "updates": 7}, "more": None}
    assert header("sft", config).part(Part, tmp_path) == Part(data="here", training=Seeded(seed=3))


def test_header_part_missing_setting_is_refused(tmp_path: Path) -> None:
    config = {"data": "here", "training": {"updates": 7}}
    with pytest.raises(ConfigError, match=r"config with training\.seed there, got no such key"):
        header("sft", config).part(Part, tmp_path)


@pytest.mark.parametrize("name", ["data_sha256", "frozen_sha256", "threshold_steps"])
def test_check_same_other_input_is_refused(name: str, tmp_path: Path) -> None:
    before = RunInputs(data_sha256="a", frozen_sha256="b", threshold_steps=1.5)
    before.check_same(tmp_path, before)
    now = replace(before, **{name: None})
    sentence = rf"{name} must be {getattr(before, name)}, as .*run\.json says, got None; restore"
    with pytest.raises(ConfigError, match=sentence):
        before.check_same(tmp_path, now)


def test_documents_of_a_new_run_are_none(tmp_path: Path) -> None:
    assert read_encoding_time(tmp_path) is None
    assert read_demonstrations(tmp_path) is None
    assert read_rollouts(tmp_path) is None
    assert read_tracker_ids(tmp_path).ids == {}


def test_documents_of_a_run_are_read_as_written(tmp_path: Path) -> None:
    write_encoding_time(tmp_path, EncodingTime(seconds=2.5))
    write_tracker_ids(tmp_path, TrackerIds(ids={"wandb": "0a"}))
    write_demonstrations(tmp_path, Demonstrations(episodes=(drawn(3),)))
    write_rollouts(tmp_path, Rollouts(env="env", episodes=(drawn(3),)))
    assert read_encoding_time(tmp_path) == EncodingTime(seconds=2.5)
    assert read_tracker_ids(tmp_path).ids == {"wandb": "0a"}
    assert read_demonstrations(tmp_path) == Demonstrations(episodes=(drawn(3),))
    assert read_rollouts(tmp_path) == Rollouts(env="env", episodes=(drawn(3),))


def test_remove_rollouts_leaves_none_and_may_be_done_twice(tmp_path: Path) -> None:
    write_rollouts(tmp_path, Rollouts(env="env", episodes=(drawn(3),)))
    for _ in range(2):
        remove_rollouts(tmp_path)
        assert read_rollouts(tmp_path) is None
