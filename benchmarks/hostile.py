"""Seeded hostile input of every kind against nearer: no traceback, no hang, bounded memory.

    python benchmarks/hostile.py [--cases 10000] [--seed 0] [--kinds flags runs weights ...]

    flags       impossible settings on every command line
    runs        damaged files of both stages' runs, read by every command that reads them
    weights     damaged weights and optimiser states, read in the same way
    datasets    damaged data sets of lerobot's writer, of images and of video
    messages    what faulty and malicious clients send to nearer serve

Prints what went wrong, one line a case, and then one JSON line: `cases`; `tracebacks`: cases that
ended in anything but success or one sentence; `hangs`: cases over 30 s (a message: 5 s);
`over_memory`: cases in which the process grew by more than 500 MB (a message: 100 MB); and
`KIND_cases` of each kind. A case depends on kind, seed and number alone.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hostile_attempts import Attempts
from hostile_datasets import damage_datasets
from hostile_flags import flags_by_command, hostile_flags
from hostile_messages import hostile_messages
from hostile_runs import FILES, WEIGHTS, damage_runs, make_runs

REPOSITORY = Path(__file__).resolve().parents[1]
SAMPLES = tuple(REPOSITORY / "tests/data/lerobot_v3" / kind for kind in ("image", "video"))
FLAGS = REPOSITORY / "tests/data/cli_flags.txt"
SHARES = {"flags": 0.3, "runs": 0.15, "weights": 0.05, "datasets": 0.2, "messages": 0.3}
"""Of the cases: a damaged run takes a second, the others milliseconds."""


def hostile(kinds: Sequence[str], cases: int, seed: int, scratch: Path) -> dict[str, int]:
    """Return the counts of these kinds; what went wrong is printed.

    Args:
        kinds: of `SHARES`.
        cases: of all kinds together, were they all asked for.
        seed: of every case.
        scratch: an empty folder.
    """
    of_runs = {"runs": FILES, "weights": WEIGHTS}
    made = make_runs(scratch / "made") if of_runs.keys() & set(kinds) else scratch
    totals = {"cases": 0, "tracebacks": 0, "hangs": 0, "over_memory": 0}
    of_kinds: dict[str, int] = {}
    for kind in kinds:
        count = round(SHARES[kind] * cases)
        match kind:
            case "flags":
                attempts = hostile_flags(flags_by_command(FLAGS), count, seed)
            case "runs" | "weights":
                attempts = damage_runs(made, of_runs[kind], count, seed, scratch / kind)
            case "datasets":
                attempts = damage_datasets(SAMPLES, count, seed, scratch / kind)
            case _:
                attempts = Attempts(**hostile_messages(count, seed))
        for fault in attempts.faults:
            print(f"{kind}: {fault}", file=sys.stderr, flush=True)
        counts = attempts.counts()
        totals = {key: totals[key] + counts[key] for key in totals}
        of_kinds[f"{kind}_cases"] = attempts.cases
    return totals | of_kinds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=list(SHARES), default=list(SHARES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = hostile(arguments.kinds, arguments.cases, arguments.seed, Path(folder))
    print(json.dumps(found))
