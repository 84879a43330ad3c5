"""Hashes of the weights that seeded quick runs of both domains end with; one JSON line.

    python benchmarks/final_weights.py [--out FOLDER] [--score-again]
    PYTHONPATH=OTHER_CHECKOUT/src python benchmarks/final_weights.py

Run it before and after a change that must not change results: every value must be the same.
Keys: domain/run/checkpoint; values: first 16 digits of a SHA-256 over all tensors. Tensors are
hashed by their numbers, not by their names, so that a renamed parameter counts as unchanged.
Runs that are in --out already are not run again. One thread: sums depend on how they are split.
--score-again lets Stage 2 run the reward model a second time to score episodes, as nearer did
before 0.2: d of a batch of all observations is rounded otherwise than d of the robots' batch.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file

DOMAINS = ("point-mass", "tabletop")


def weights_digest(path: Path) -> str:
    tensors = load_file(path).values()
    digests = sorted(hashlib.sha256(tensor.numpy().tobytes()).digest() for tensor in tensors)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


SCORE_AGAIN = """
from dataclasses import replace
from nearer.algorithm import improve
from nearer.cli import main
score = improve.score
improve.score = lambda model, episodes, **settings: score(
    model, [replace(episode, prediction=None) for episode in episodes], **settings
)
main()
"""


def run_demo(domain: str, out: Path, *, score_again: bool) -> None:
    python = [sys.executable, *(["-c", SCORE_AGAIN] if score_again else ["-m", "nearer"])]
    command = [*python, "demo", domain, "--quick", "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--score-again", action="store_true")
    options = parser.parse_args()
    out = options.out or Path(tempfile.mkdtemp())
    digests: dict[str, str] = {}
    for domain in DOMAINS:
        if not (out / domain / "report.html").exists():
            run_demo(domain, out / domain, score_again=options.score_again)
        for run in ("sft", "practice"):
            for name in ("policy", "last"):
                weights = out / domain / run / "checkpoints" / name / "pretrained_model"
                digests[f"{domain}/{run}/{name}"] = weights_digest(weights / "model.safetensors")
    print(json.dumps(digests))


if __name__ == "__main__":
    main()
