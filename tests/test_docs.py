"""What the documents say works: commands, Python, examples; links, files and flags exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import nearer
from nearer.cli import main

SOURCE = Path(nearer.__file__).parent
ROOT = SOURCE.parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
NAMES_FILES = [
    *("README.md", "CONTRIBUTING.md"),
    *("docs/architecture.md", "docs/method.md", "docs/serving.md"),
]
FLAGS_OF_OTHERS = {  # torchrun's, pytest's, ruff's, a benchmark's
    "--nproc-per-node",
    "--numprocesses",
    "--check",
    "--source",
    "--help",
    "--version",
}
SMALL = {
    "collect": {"--episodes": "40"},
    "sft": {"--updates": "40", "--validate-every": "20", "--mlp.hidden": "16"},
    "improve": {"--max-env-steps": "4000", "--updates-per-iteration": "2"},
    "eval": {"--episodes": "20"},
    "report": {},
}


def test_readme_commands_and_python_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^nearer (.*)$", README, flags=re.M)
    assert [command.split()[0] for command in commands] == list(SMALL)
    for command in commands:
        name, *words = shlex.split(command)
        for flag, value in SMALL[name].items():
            if flag in words:
                words[words.index(flag) + 1] = value
            else:
                words += [flag, value]
        main([name, *words])
    assert (tmp_path / "runs/report.html").stat().st_size > 10_000
    assert (tmp_path / "runs/practice/eval/eval_info.json").exists()
    (python,) = re.findall(r"^```python\n(.*?)^```", README, flags=re.M | re.S)
    ran = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True)
    assert "steps to go, success detected: " in ran.stdout, ran.stderr


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)$", README, flags=re.M)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(path: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", path], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


def test_code_of_the_python_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs/python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    ran = subprocess.run(
        [sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "control steps to go" in ran.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page} links to {target}"


def test_readme_and_layer_drawing_show_every_package() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", README, flags=re.M)) == packages
    drawn = set(re.findall(r">(\w+)</text>", (ROOT / "docs/layers.svg").read_text()))
    assert packages | {"cli"} <= drawn


@pytest.mark.parametrize("page", NAMES_FILES)
def test_source_files_that_documents_name_exist(page: str) -> None:
    for name in re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py|[a-z_]+/)`", (ROOT / page).read_text()):
        assert any((folder / name).exists() for folder in (ROOT, SOURCE)), f"{page} names {name}"


@pytest.mark.parametrize("page", NAMES_FILES)
def test_flags_that_documents_name_exist(page: str) -> None:
    flags = set(re.findall(r" (--[a-z.-]+)", (ROOT / "tests/data/cli_flags.txt").read_text()))
    named = set(re.findall(r"(?<![\w.-])--[a-z][a-z.-]*[a-z]\b(?!\.\*)", (ROOT / page).read_text()))
    assert named - FLAGS_OF_OTHERS <= flags


def test_tree_names_no_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    wrong = re.compile(r"(^|[^A-Za-z0-9_.~])/(work|farm|root)/[A-Za-z.]")
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".txt", ""} and path.is_file():
            assert not wrong.search(path.read_text()), name
