"""Who may import whom, and who may see the truth."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nearer

SOURCE = Path(nearer.__file__).parent
LAYERS = (
    ("cores", "errors", "hub", "limits", "shapes"),
    ("episode", "intervals", "seeds", "steps_to_go", "losses", "progress", "actions", "processes"),
    ("chunking",),
    ("protocols", "plateau", "practice", "wrapper"),
    ("model", "calibrate", "trust", "detection"),
    ("collect", "score", "batch", "advantage", "demonstrations", "checkpoint", "objectives"),
    ("trackers",),
    ("run",),
    ("sft", "improve", "rivals"),
    ("audit",),
    ("evaluate", "envs", "models", "data", "fleet", "testing", "replay", "trust_table"),
    ("serving",),
    ("configs", "report", "pretrained", "published", "recording"),
    ("card",),
    ("commands", "recipes"),
    ("demo", "display", "reproduce"),
    ("ladder", "ladder_table"),
    ("outcomes",),
    ("cli", "__main__"),
)
TRUTH_READERS = {
    "audit.py", "evaluate.py", "commands/collect.py", "commands/improve.py", "testing.py",
    "envs/point_mass.py", "envs/tabletop/env.py", "envs/tabletop/station.py",
    "fleet/in_process.py", "protocols.py", "wrapper.py",
}  # fmt: skip
ROBOT_SIDE = ("episode", "protocols", "collect", "seeds", "fleet.in_process", "envs.point_mass")


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nearer."):
            rooms.add(node.module.split(".")[1])
    return rooms


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    if path == SOURCE / "__init__.py":
        return
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    mine = room(path)
    assert mine in level, f"{mine} has no layer; add it to LAYERS"
    for other in imported_rooms(path) - {mine}:
        assert level[other] <= level[mine], f"{mine} must not import {other}, which is above it"


def names_the_truth(path: Path) -> bool:
    words = {"ground_truth", "is_success", "TruthJudge"}
    for node in ast.walk(ast.parse(path.read_text())):
        named = (
            getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None)
        )
        if named in words or (isinstance(node, ast.Constant) and node.value in words):
            return True
    return False


def test_only_evaluation_and_audits_read_the_truth() -> None:
    readers = {str(path.relative_to(SOURCE)) for path in modules() if names_the_truth(path)}
    assert readers <= TRUTH_READERS


@pytest.mark.parametrize("loop", ["improve", "sft", "score", "batch", "collect", "plateau"])
def test_training_cannot_reach_the_truth(loop: str) -> None:
    assert not imported_rooms(SOURCE / f"{loop}.py") & {"audit", "evaluate", "envs", "commands"}


def test_a_robot_needs_no_torch() -> None:
    imports = "; ".join(f"import nearer.{name}" for name in ROBOT_SIDE)
    code = f"import sys; {imports}; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)
