"""Other people's packages, each in an environment of its own, tried with nearer as it stands.

    python tests/compat/compatibility.py [--only NAME ...] [--environments FOLDER]

Installs nearer and a package into a new environment (minutes), runs one script there, and writes
docs/compatibility.json and, from all that it holds, the table of docs/compatibility.md. A package
that talks to nearer over a wire or by files gets an environment without nearer, and its own
versions of everything. Needs pip to reach the packages; no test of the suite runs it.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
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
        script: of this folder, and its arguments; FOLDER stands for an empty one, PYTHON for that
            of the packages.
        tried: in words, for the table.
        apart: the packages are not installed beside nearer; the script runs where nearer is.
        python: the packages' interpreter, if it is not this one; without it nothing is tried.
    """

    name: str
    packages: tuple[str, ...]
    script: tuple[str, ...]
    tried: str
    apart: bool = False
    python: str = sys.executable


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
    Case(
        name="openpi-client",
        packages=("openpi-client==0.1.2", "typing_extensions"),  # which it forgets to ask for
        script=("openpi_serving.py", "FOLDER", "PYTHON"),
        tried="`nearer serve` asked by openpi's client in an environment of its own, with images",
        apart=True,
    ),
    Case(
        name="lerobot",
        packages=("lerobot[dataset]==0.6.1",),
        script=("lerobot_data.py", "FOLDER", "PYTHON"),
        tried="lerobot in its own Python writes a data set that nearer reads, and reads one of "
        "`nearer collect`",
        apart=True,
        python="python3.12",
    ),
    Case(
        name="lerobot-robots",
        packages=("lerobot[feetech]==0.6.1",),
        script=("lerobot_robots.py", "FOLDER"),
        tried="`--env lerobot`: lerobot's own SO-101 and OpenCV camera, with a simulated bus of "
        "motors and capture; an episode, then a stop",
        python="python3.12",
    ),
)


def main(only: list[str], environments: Path) -> None:
    """Try the cases, and write what came out."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for case in CASES:
        if only and case.name not in only:
            continue
        if shutil.which(case.python) is None:
            print(f"{case.name}: there is no {case.python} here", file=sys.stderr)
            continue
        results[case.name] = _outcome(case, environments)
        print(json.dumps({case.name: results[case.name]}), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    _write_page(results)


def _environment(
    root: Path, packages: tuple[str, ...], python: str = sys.executable, *, with_nearer: bool
) -> str:
    """Return the Python of an environment, which is made if it is not there."""
    own = root / "bin/python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", str(root)], check=True)
        install = [str(own), "-m", "pip", "install", "--quiet"]
        constraints = ["--constraint", str(REPOSITORY / "constraints.txt")]
        if with_nearer:
            nearer = [*constraints, "--editable", f"{REPOSITORY}[serve]"]
            subprocess.run([*install, *nearer], check=True)
        if packages:
            subprocess.run([*install, *packages], check=True)
    return str(own)


def _outcome(case: Case, environments: Path) -> dict[str, object]:
    """Return versions and what the script found, or why it failed."""
    with_nearer = not case.apart
    root = environments / case.packages[0]
    theirs = _environment(root, case.packages, case.python, with_nearer=with_nearer)
    ours = _environment(environments / "nearer", (), with_nearer=True) if case.apart else theirs
    places = {"FOLDER": str(environments / f"{case.name}-work"), "PYTHON": theirs}
    arguments = [places.get(part, part) for part in case.script]
    done = subprocess.run(
        [ours, str(HERE / arguments[0]), *arguments[1:]],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    said = done.stdout if done.returncode == 0 else done.stderr
    last = said.strip().rpartition("\n")[2]
    found = json.loads(last) if done.returncode == 0 else {"failed": last[-500:]}
    packages = [package.partition("==")[0].partition("[")[0] for package in case.packages]
    return {"versions": {name: _version(theirs, name) for name in packages}, "found": found}


def _version(python: str, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def _write_page(results: dict[str, dict[str, dict[str, object]]]) -> None:
    """Put the table into the page."""
    rows = ["| package | tried | what came out |", "|---|---|---|"]
    for case in CASES:
        if case.name in results:
            result = results[case.name]
            versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
            found = "; ".join(_in_words(key, value) for key, value in result["found"].items())
            rows.append(f"| {versions} | {case.tried} | {found} |")
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(rows) + "\n\n" + END + after)


def _in_words(key: str, value: object) -> str:
    if isinstance(value, bool):
        value = "yes" if value else "no"
    return f"{key.replace('_', ' ')}: {value}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=[], choices=[case.name for case in CASES])
    parser.add_argument("--environments", type=Path, default=Path("outputs/compat"))
    given = parser.parse_args()
    sys.exit(main(given.only, given.environments.absolute()))
