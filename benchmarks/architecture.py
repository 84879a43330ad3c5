"""How easy the package is to find one's way in, in numbers; the last line printed is JSON.

    python benchmarks/architecture.py [--source src/nearer]
    PYTHONPATH=OTHER/src python benchmarks/architecture.py --source OTHER/src/nearer

root_entries: modules and packages directly in the package, py.typed included.
levels, cycles, arrows: of the import graph whose boxes are these entries (imports inside
functions count too). levels is the longest chain of imports, with a cycle as one box.
untyped: annotations that hold dict[str, Any] or Mapping[str, Any]; untyped_outside_json leaves
out functions whose name says that they read or write JSON, and the files in JSON_FILES.
files_stage_2: source files that run between raw observations and updated weights, while
`nearer improve` practises on the point mass; their names are printed first.
help_cpu_s: CPU seconds of `nearer --help`, the median of five.
"""

import argparse
import ast
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

JSON_FILES = ("documents.py", "json_files.py")
"""Modules whose whole purpose is JSON on disk."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, default=Path(__file__).parents[1] / "src/nearer")
    source = parser.parse_args().source
    arrows = import_arrows(source)
    components = strongly_connected(arrows)
    files = stage_two_files(source)
    print("\n".join(files))
    print(
        json.dumps(
            {
                "root_entries": len(root_entries(source)),
                "arrows": sum(map(len, arrows.values())),
                "levels": levels(arrows, components),
                "cycles": sum(len(component) > 1 for component in components),
                **untyped_annotations(source),
                "files_stage_2": len(files),
                "help_cpu_s": round(help_cpu_s(), 2),
            }
        )
    )


def root_entries(source: Path) -> list[str]:
    return sorted(path.name for path in source.iterdir() if path.name != "__pycache__")


def import_arrows(source: Path) -> dict[str, set[str]]:
    """Return box -> boxes it imports; a box is a module or a package at the root."""
    arrows: dict[str, set[str]] = {}
    for path in sorted(source.rglob("*.py")):
        box = path.relative_to(source).parts[0].removesuffix(".py")
        if box == "__init__":
            continue
        imported = set(imported_boxes(path, source)) - {box}
        arrows.setdefault(box, set()).update(imported)
    return arrows


def imported_boxes(path: Path, source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "nearer":
            names = (alias.name for alias in node.names)
            yield from (name for name in names if (source / f"{name}.py").exists())
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nearer."):
            yield (node.module or "").split(".")[1]


def strongly_connected(arrows: dict[str, set[str]]) -> list[set[str]]:
    reachable = {box: reached_from(box, arrows) for box in arrows}
    components: list[set[str]] = []
    for box in arrows:
        component = {
            other
            for other in arrows
            if other == box or (other in reachable[box] and box in reachable[other])
        }
        if component not in components:
            components.append(component)
    return components


def reached_from(box: str, arrows: dict[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    waiting = [box]
    while waiting:
        for other in arrows.get(waiting.pop(), set()) - reached:
            reached.add(other)
            waiting.append(other)
    return reached


def levels(arrows: dict[str, set[str]], components: list[set[str]]) -> int:
    def depth(component: set[str]) -> int:
        below = [
            other
            for other in components
            if other is not component and any(arrows[box] & other for box in component)
        ]
        return 1 + max(map(depth, below), default=0)

    return max(map(depth, components))


def untyped_annotations(source: Path) -> dict[str, int]:
    inside = outside = 0
    for path in sorted(source.rglob("*.py")):
        for name, annotation in annotations(ast.parse(path.read_text()), ""):
            text = ast.unparse(annotation)
            count = text.count("dict[str, Any]") + text.count("Mapping[str, Any]")
            if path.name in JSON_FILES or "json" in name.lower():
                inside += count
            else:
                outside += count
    return {"untyped": inside + outside, "untyped_outside_json": outside}


def annotations(node: ast.AST, name: str) -> Iterator[tuple[str, ast.expr]]:
    """Yield every annotation with the name of the function that it belongs to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        name = node.name
        if node.returns is not None:
            yield name, node.returns
    if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
        yield name, node.annotation
    for child in ast.iter_child_nodes(node):
        yield from annotations(child, name)


TRACED = """
import json, sys
from nearer.__main__ import main
from nearer import cli
depth, files = 0, set()
def profile(frame, event, argument):
    global depth
    code = frame.f_code
    loop = code.co_name == "improve" and code.co_filename.endswith("improve.py")
    if event == "call":
        depth += loop
        if depth and code.co_filename.startswith({source!r}):
            files.add(code.co_filename[len({source!r}) + 1 :])
    elif event == "return":
        depth -= loop
sys.setprofile(profile)
try:
    cli.main({arguments!r})
finally:
    sys.setprofile(None)
    print(json.dumps(sorted(files)))
"""


def stage_two_files(source: Path) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        data, sft = f"{folder}/data", f"{folder}/sft"
        env = ("--env", "nearer/PointMass-v0")
        nearer("collect", *env, "--episodes", "50", "--out", data)
        tiny = ("--mlp.hidden", "16", "--updates", "40", "--validate-every", "20")
        nearer("sft", "--data", data, "--model", "mlp", *tiny, "--out", sft)
        arguments = ["improve", "--run", sft, *env, "--max-env-steps", "4000"]
        arguments += [
            "--on-alarm",
            "continue",
            "--updates-per-iteration",
            "2",
            "--out",
            f"{folder}/practice",
        ]
        code = TRACED.format(source=str(source.resolve()), arguments=arguments)
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    return json.loads(ran.stdout.strip().splitlines()[-1])


def nearer(*arguments: str) -> None:
    command = [sys.executable, "-m", "nearer", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def help_cpu_s() -> float:
    return statistics.median(cpu_s("--help") for _ in range(5))


def cpu_s(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    nearer(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
