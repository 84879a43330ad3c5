"""Which package may import which, and which modules may name a simulator's ground truth."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import nearer
from nearer.cli import COMMANDS

TESTS = Path(__file__).parent
SOURCE = Path(nearer.__file__).parent
LAYERS = (
    ("core",),
    ("algorithm",),
    ("runs",),
    ("models", "envs", "fleets", "datasets"),
    ("evaluation",),
    ("serving", "reporting", "console"),
    ("configs",),
    ("commands",),
    ("studies",),
    ("cli", "__main__"),
)
"""A package imports itself and packages of rows above its own; docs/architecture.md draws it."""
MAY_NAME_GROUND_TRUTH = (
    "core/interfaces.py",
    "envs",
    "evaluation",
    "fleets",
    "commands/collect.py",
    "commands/improve_robots.py",
    "testing",
)
NO_TORCH = ("core", "fleets.gym", "envs.point_mass", "envs.robots", "testing.env_contract")
"""What a robot's machine or a simulator imports."""
ALL_COMMANDS = tuple(command.name for command in COMMANDS)
RUN_BY_COMMANDS = ("nearer.__main__", "nearer.commands", "nearer.configs")
"""Modules that tests may reach through the command line alone."""


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def package_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_packages(path: Path) -> set[str]:
    packages: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nearer."):
            packages.add(node.module.split(".")[1])
    return packages


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_imports_only_packages_below_its_own(path: Path) -> None:
    if package_of(path) in ("__init__", "testing"):
        return
    level = {package: row for row, packages in enumerate(LAYERS) for package in packages}
    mine = package_of(path)
    name = str(path.relative_to(SOURCE))
    for other in imported_packages(path) - {mine}:
        assert level[other] < level[mine], f"{name} must not import {other}"


def names_ground_truth(path: Path) -> bool:
    words = {
        *("ground_truth", "is_success", "GroundTruthTermination"),
        *("true_positions", "TruePositions", "KnowsTruePositions"),
    }
    for node in ast.walk(ast.parse(path.read_text())):
        name = (
            getattr(node, "attr", None) or getattr(node, "id", None) or getattr(node, "name", None)
        )
        if name in words or (isinstance(node, ast.Constant) and node.value in words):
            return True
    return False


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_module_outside_evaluation_does_not_name_ground_truth(path: Path) -> None:
    name = str(path.relative_to(SOURCE))
    if not name.startswith(MAY_NAME_GROUND_TRUTH):
        assert not names_ground_truth(path)


@pytest.mark.parametrize("module", NO_TORCH)
def test_robot_side_import_does_not_load_torch(module: str) -> None:
    folder = SOURCE / module.replace(".", "/")
    names = (
        [f"{module}.{path.stem}" for path in sorted(folder.glob("[a-z]*.py"))]
        if folder.is_dir()
        else [module]
    )
    imports = "; ".join(f"import nearer.{name}" for name in names)
    code = f"import sys; {imports}; assert 'torch' not in sys.modules, 'torch was imported'"
    subprocess.run([sys.executable, "-c", code], check=True)


def names_that_tests_import() -> set[str]:
    """Return the modules of nearer that tests import, and the names that they import from them."""
    names: set[str] = set()
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def has_function(path: Path) -> bool:
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text())))


IMPORT_ALL_WITHOUT = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
for module in {modules}:
    importlib.import_module(module)
"""


@pytest.mark.parametrize(
    ("missing", "needed_by"),
    [
        (
            (
                *("transformers", "tokenizers", "peft", "wandb", "trackio", "rerun", "ray"),
                *("gym_aloha", "dm_control"),
            ),
            ("nearer.models.vlm",),
        ),
        (("websockets", "msgpack"), ("nearer.serving",)),
    ],
)
def test_an_extra_that_is_missing_stops_nothing_else(
    missing: tuple[str, ...], needed_by: tuple[str, ...]
) -> None:
    parts = [path.relative_to(SOURCE.parent).with_suffix("").parts for path in modules()]
    names = [".".join(words).removesuffix(".__init__") for words in parts]
    others = [name for name in names if not name.startswith(needed_by) and "__main__" not in name]
    code = IMPORT_ALL_WITHOUT.format(missing=missing, modules=others)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-500:]


def test_modules_with_a_function_are_imported_by_a_test() -> None:
    parts = {path: path.relative_to(SOURCE.parent).with_suffix("").parts for path in modules()}
    names = {
        ".".join(words).removesuffix(".__init__")
        for path, words in parts.items()
        if has_function(path)
    }
    untested = sorted(
        name for name in names - names_that_tests_import() if not name.startswith(RUN_BY_COMMANDS)
    )
    assert not untested, f"no file in tests/ imports {', '.join(untested)}; write a test for each"


def commands_run_by(path: Path) -> set[str]:
    """Return the commands of main(["NAME", ...]) and refused(..., "NAME", ...) in a test file."""
    names: set[str] = set()
    for call in ast.walk(ast.parse(path.read_text())):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            continue
        words = call.args
        if call.func.id == "main" and words and isinstance(words[0], ast.List):
            words = words[0].elts
        elif call.func.id != "refused":
            continue
        texts = (word.value for word in words if isinstance(word, ast.Constant))
        names |= {str(text) for text in texts if text in ALL_COMMANDS}
    return names


def test_commands_are_run_by_a_test() -> None:
    ran = {name for path in TESTS.rglob("test_*.py") for name in commands_run_by(path)}
    missing = [name for name in ALL_COMMANDS if name not in ran]
    assert not missing, f"no test runs nearer {', nearer '.join(missing)}; run main([NAME, ...])"
