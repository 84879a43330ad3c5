"""Files that appear whole or not at all: what is there after a failure, and what after success."""

import json
from pathlib import Path

import pytest

from nearer.core.errors import DatasetError, NearerError
from nearer.runs.files import (
    StagedFiles,
    append_line,
    replace_link,
    temporary_path,
    whole_file,
    whole_folder,
    write_json,
    write_lines,
    write_text,
)


def test_write_text_over_an_earlier_file_replaces_it(tmp_path: Path):
    path = tmp_path / "deep" / "note.txt"
    write_text(path, "before")
    write_text(path, "größer")
    assert path.read_text(encoding="utf-8") == "größer"
    assert list(path.parent.iterdir()) == [path]


def test_write_json_and_lines_are_read_as_written(tmp_path: Path):
    write_json(tmp_path / "value.json", {"a": [1, 2]})
    write_lines(tmp_path / "lines.jsonl", [{"a": 1}, {"a": 2}])
    append_line(tmp_path / "lines.jsonl", {"a": 3})
    assert json.loads((tmp_path / "value.json").read_text()) == {"a": [1, 2]}
    assert (tmp_path / "lines.jsonl").read_text() == '{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_write_text_full_disk_keeps_the_earlier_file(tmp_path: Path):
    path = tmp_path / "note.txt"
    write_text(path, "before")
    temporary_path(path).symlink_to("/dev/full")
    with pytest.raises(NearerError, match="No space left on device; what was written before"):
        write_text(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_whole_file_with_an_error_inside_changes_nothing(tmp_path: Path):
    path = tmp_path / "note.txt"

    def write_half() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write_half()
    assert not list(tmp_path.iterdir())


def test_whole_folder_takes_the_place_of_an_earlier_one(tmp_path: Path):
    folder = tmp_path / "000001"
    for content in ("before", "after"):
        with whole_folder(folder) as temporary:
            (temporary / content).write_text(content)
    assert [path.name for path in folder.iterdir()] == ["after"]
    assert list(tmp_path.iterdir()) == [folder]


def test_whole_folder_with_an_error_inside_keeps_the_earlier_one(tmp_path: Path):
    folder = tmp_path / "000001"
    with whole_folder(folder) as temporary:
        (temporary / "before").touch()

    def write_half() -> None:
        with whole_folder(folder) as temporary:
            (temporary / "after").touch()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert [path.name for path in folder.iterdir()] == ["before"]
    assert list(tmp_path.iterdir()) == [folder]


def test_replace_link_over_an_earlier_link_names_the_new_target(tmp_path: Path):
    for name in ("000001", "000002"):
        (tmp_path / name).mkdir()
        replace_link(tmp_path / "last", tmp_path / name)
    assert (tmp_path / "last").readlink() == Path("000002")


def test_staged_files_without_a_commit_leave_nothing(tmp_path: Path):
    with StagedFiles() as staged, staged.open(tmp_path / "a") as handle:
        handle.write(b"half")
    assert not list(tmp_path.iterdir())


def test_staged_files_over_a_file_of_another_writer_are_refused(tmp_path: Path):
    (tmp_path / "a").write_text("another writer's")
    with (
        pytest.raises(DatasetError, match="got a file of another writer"),
        StagedFiles() as staged,
        staged.open(tmp_path / "a"),
    ):
        pass
    assert (tmp_path / "a").read_text() == "another writer's"
