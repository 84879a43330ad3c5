"""Sizes that keep the house readable; raising one is a change of its own, with its reason."""

import ast
from pathlib import Path

import pytest

import nearer

SOURCE = Path(nearer.__file__).parent
ROOT = SOURCE.parent.parent
FUNCTION_LINES, LOOP_LINES, FILE_LINES, CONFIG_FIELDS, ROOT_ENTRIES = 40, 80, 400, 15, 14
LOOPS = {"sft", "improve", "collect"}
"""Functions that are a training or collecting loop."""


def sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            limit = LOOP_LINES if node.name in LOOPS else FUNCTION_LINES
            assert length <= limit, f"{node.name} has {length} lines"
        if isinstance(node, ast.ClassDef):
            fields = sum(isinstance(one, ast.AnnAssign) for one in node.body)
            assert fields <= CONFIG_FIELDS, f"{node.name} has {fields} fields"


def test_examples_are_short() -> None:
    for path in sorted((ROOT / "examples").glob("*.py")):
        assert path.read_text().count("\n") < 80, path.name


def test_the_root_is_tidy() -> None:
    git = {".git", ".venv", ".pytest_cache", ".ruff_cache", ".hypothesis", "outputs", "__pycache__"}
    entries = {path.name for path in ROOT.iterdir()} - git
    assert len(entries) <= ROOT_ENTRIES, sorted(entries)
