"""Paths of a page: relative to its folder, or a name; never those of the machine."""

from pathlib import Path

import pytest

from nearer.reporting.html.paths import shown_path, shown_setting, shown_text

FOLDERS = (Path("/users/ada/runs"), Path("/data/made"))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/users/ada/runs/deep/sft", "deep/sft"),
        ("/data/made/demonstrations", "demonstrations"),
        ("/somewhere/else/sft", "sft"),
        ("/users/ada/runs", "runs"),
        ("outputs/sft", "sft"),
    ],
)
def test_shown_path_is_relative_to_the_page_or_a_name(path: str, shown: str) -> None:
    assert shown_path(Path(path), FOLDERS) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("/users/ada/runs/sft", "sft"),
        ("/users/ada lovelace/my run", "my run"),
        ("~/runs/sft", "sft"),
        (r"C:\\Users\\ada\\run", "run"),
        (["/data/made/a", "/elsewhere/b"], "a, b"),
        ([], "none"),
        ("nearer/PointMass-v0", "nearer/PointMass-v0"),
        ("lab/model@main", "lab/model@main"),
        (0.5, "0.5"),
        (None, "None"),
    ],
)
def test_shown_setting_keeps_all_but_absolute_paths(value: object, shown: str) -> None:
    assert shown_setting(value, FOLDERS) == shown


def test_shown_text_replaces_the_paths_of_a_sentence() -> None:
    words = "/users/ada/runs/sft must have a split.json, got none in '/scratch/x/data'; 1/2 and/or http://a/b"
    assert shown_text(words, FOLDERS) == (
        "sft must have a split.json, got none in 'data'; 1/2 and/or http://a/b"
    )
