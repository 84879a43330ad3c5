"""The whole point-mass recipe from nothing; the last line printed is one JSON object.

    python benchmarks/point_mass.py [--seed 0]

Keys: demos_s, sft_s, practice_s, total_s (report included), practice_env_steps, sft_success,
success, success_ci95, mean_length (both over the same 1,000 starts), seed.
"""

import argparse
import json
import tempfile
from pathlib import Path

from nearer.core.callbacks import ignore_progress
from nearer.studies.demo import run_demo
from nearer.studies.point_mass import point_mass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of training and practice")
    seed = parser.parse_args().seed
    with tempfile.TemporaryDirectory() as folder:
        result = run_demo(point_mass(Path(folder) / "run", seed), ignore_progress)
    measured = {
        "seed": seed,
        "demos_s": round(result.seconds["demos"], 1),
        "sft_s": round(result.seconds["sft"], 1),
        "practice_s": round(result.seconds["practice"], 1),
        "total_s": round(result.seconds["total"], 1),
        "practice_env_steps": result.practice_env_steps,
        "practice_episodes": result.practice_episodes,
        "sft_success": result.before.success.value,
        "sft_success_ci95": list(result.before.success.interval),
        "sft_mean_length": result.before.mean_length,
        "success": result.after.success.value,
        "success_ci95": list(result.after.success.interval),
        "mean_length": result.after.mean_length,
        "episodes": result.after.success.total,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
