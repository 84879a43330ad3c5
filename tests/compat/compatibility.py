"""Other people's packages, each in an environment of its own, tried with nearer as it stands.

    python tests/compat/compatibility.py [--only NAME ...] [--environments FOLDER]

Installs nearer and a package into a new environment (minutes), runs one script there, and writes
docs/compatibility.json and, from all that it holds, the table of docs/compatibility.md. Needs pip
to reach the packages; no test of the suite runs it.
"""

import argparse
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RESULTS = REPOSITORY / "docs/compatibility.json"
PAGE = REPOSITORY / "docs/compatibility.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
LONGEST_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A package and what is tried with it.

    Attributes:
        name: of the case, and of its environment.
        packages: for pip; the first one's version is shown.
        script: of this folder, and its arguments; FOLDER stands for an empty one.
        tried: in words, for the table.
    """

    name: str
    packages: tuple[str, ...]
    script: tuple[str, ...]
    tried: str


CASES = (
    Case(
        name="pusht",
        packages=("gym-pusht==0.1.8",),
        script=("read_env.py", "gym_pusht/PushT-v0", "obs_type=pixels_agent_pos"),
        tried="`--env gym_pusht/PushT-v0 --env-kwargs obs_type=pixels_agent_pos`, made, read, "
        "stepped",
    ),
    Case(
        name="aloha",
        packages=("gym-aloha==0.1.5",),
        script=("read_env.py", "gym_aloha/AlohaInsertion-v0", "obs_type=pixels_agent_pos"),
        tried="`--env gym_aloha/AlohaInsertion-v0 --env-kwargs obs_type=pixels_agent_pos`, made, "
        "read, stepped",
    ),
    Case(
        name="metaworld",
        packages=("metaworld==3.1.1",),
        script=("read_env.py", "Meta-World/MT1", "env_name=push-v3"),
        tried="`--env Meta-World/MT1 --env-kwargs env_name=push-v3`, made, read, stepped",
    ),
    Case(
        name="pusht-push",
        packages=("gym-pusht==0.1.8",),
        script=("pusht_push.py", "FOLDER"),
        tried="`easy_pusht/PushT-v0`, PushT with starts near the goal, done at 80 % coverage: from "
        "a scripted pusher through collect, sft, improve, eval, report",
    ),
    Case(
        name="metaworld-push",
        packages=("metaworld==3.1.1",),
        script=("metaworld_push.py", "FOLDER"),
        tried="push-v3 from its expert through collect, sft, improve, eval, report",
    ),
)


def main(only: list[str], environments: Path) -> None:
    """Try the cases, and write what came out."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for case in CASES:
        if only and case.name not in only:
            continue
        python = _environment(case, environments)
        results[case.name] = _outcome(case, python, environments / f"{case.name}-work")
        print(json.dumps({case.name: results[case.name]}), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _write_page(results)


def _environment(case: Case, environments: Path) -> Path:
    """Return the Python of a case's environment, which is made if it is not there."""
    root = environments / case.packages[0]
    python = root / "bin/python"
    if not python.exists():
        venv.create(root, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        constraints = ["--constraint", str(REPOSITORY / "constraints.txt")]
        subprocess.run([*install, *constraints, "--editable", str(REPOSITORY)], check=True)
        subprocess.run([*install, *case.packages], check=True)
    return python


def _outcome(case: Case, python: Path, folder: Path) -> dict[str, object]:
    """Return versions and what the script found, or why it failed."""
    arguments = [str(folder) if part == "FOLDER" else part for part in case.script]
    done = subprocess.run(
        [str(python), str(HERE / arguments[0]), *arguments[1:]],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    said = done.stdout if done.returncode == 0 else done.stderr
    last = said.strip().rpartition("\n")[2]
    found = json.loads(last) if done.returncode == 0 else {"failed": last[-500:]}
    packages = [package.partition("==")[0] for package in case.packages]
    return {"versions": {name: _version(python, name) for name in packages}, "found": found}


def _version(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def _write_page(results: dict[str, dict[str, dict[str, object]]]) -> None:
    """Put the table into the page."""
    rows = ["| package | tried | what came out |", "|---|---|---|"]
    for case in CASES:
        if case.name in results:
            result = results[case.name]
            versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
            found = "; ".join(f"{key} {value}" for key, value in result["found"].items())
            rows.append(f"| {versions} | {case.tried} | {found} |")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(rows) + "\n\n" + END + after)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], choices=[case.name for case in CASES])
    parser.add_argument("--environments", type=Path, default=Path("outputs/compat"))
    given = parser.parse_args()
    sys.exit(main(given.only, given.environments.absolute()))
