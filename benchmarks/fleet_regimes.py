"""Stage 2 in lockstep, in processes, with overlap and over Ray: success, episodes and seconds.

    python benchmarks/fleet_regimes.py [--task point-mass] [--seeds 0 1 2] [--out FOLDER]
        [--regimes lockstep processes overlap ray] [--sft FOLDER_WITH_{seed}]

Every regime of a seed starts from the same Stage 1 and practises as the recipe of the task does.
What is in the folder is not run again. One JSON line a seed and regime: `success` (ground truth,
`n` test starts, `ci95`) of the policy kept, `curve` (practised episodes and success of every
checkpoint of practice, `n_curve` starts), `practice_s`, `episodes`, `env_steps`.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from nearer.commands.collect import collect_demonstrations
from nearer.configs.fleet import FleetSettings
from nearer.configs.improve import ImproveConfig
from nearer.core.callbacks import ignore_progress
from nearer.core.memory import keep_freed_memory
from nearer.runs.metrics import number, read_metrics
from nearer.studies.point_mass import point_mass
from nearer.studies.recipe import Recipe
from nearer.studies.running import ensure_practice, ensure_sft, load_or_run_eval
from nearer.studies.tabletop import STUDY, tabletop

N_CURVE = {"point-mass": 1000, "tabletop": 100}


def with_regime(improve: ImproveConfig, regime: str, out: Path) -> ImproveConfig:
    """Return the settings of practice with its robots in another place."""
    improve = replace(improve, out=out, plateau=replace(improve.plateau, keep_all=True))
    if regime == "lockstep":
        return improve
    if regime == "ray":
        # Two actors, as there are two processes: sixteen would share two cores.
        settings = FleetSettings(robots=2)
        return replace(improve, fleet="ray", num_envs=2, fleet_settings=settings)
    settings = FleetSettings(processes=2, max_staleness=1 if regime == "overlap" else 0)
    return replace(improve, fleet="processes", fleet_settings=settings)


def recipe_of(task: str, out: Path, seed: int) -> Recipe:
    """Return the recipe of a task with 199 demonstrations, or those of the point mass."""
    if task == "point-mass":
        return point_mass(out, seed)
    return tabletop(out, seed, sizes=replace(STUDY, demonstrations=200))


def measure(recipe: Recipe, task: str, seed: int, regime: str) -> None:
    """Practise in a regime, evaluate, and print the JSON line."""
    out = recipe.improve.out.with_name(f"practice-{regime}")
    recipe = replace(
        recipe,
        improve=with_regime(recipe.improve, regime, out),
        eval_improve=replace(recipe.eval_improve, checkpoint=out, videos=0),
    )
    episodes = ensure_practice(recipe, ignore_progress)
    records = read_metrics(out)
    kept = load_or_run_eval(recipe.eval_improve, ignore_progress).success
    curve: list[tuple[int, float]] = []
    for checkpoint in sorted(out.glob("checkpoints/[0-9]*")):
        config = replace(
            recipe.eval_improve,
            checkpoint=checkpoint,
            out=out / f"eval-{checkpoint.name}",
            episodes=N_CURVE[task],
        )
        success = load_or_run_eval(config, ignore_progress).success
        step = int(checkpoint.name)
        practised = int(number(records[step - 1]["practice/episodes"])) if step else 0
        curve.append((practised, round(success.value, 3)))
    result = {
        "task": task,
        "seed": seed,
        "regime": regime,
        "success": round(kept.value, 3),
        "n": kept.total,
        "ci95": [round(end, 3) for end in kept.interval],
        "n_curve": N_CURVE[task],
        "curve": curve,
        "practice_s": round(number(records[-1]["time/elapsed_s"]), 1),
        "episodes": episodes,
        "env_steps": int(number(records[-1]["practice/env_steps"])),
        "iterations": len(records),
    }
    print(json.dumps(result), flush=True)


def main(task: str, seeds: list[int], regimes: list[str], out: Path, sft: str | None) -> None:
    """Run what is missing."""
    keep_freed_memory()
    for seed in seeds:
        recipe = recipe_of(task, out / f"seed{seed}", seed)
        if sft is not None:
            run = Path(sft.format(seed=seed))
            recipe = replace(recipe, improve=replace(recipe.improve, run=run))
        else:
            if not (recipe.collect.out / "meta").exists():
                collect_demonstrations(recipe.collect, ignore_progress)
            ensure_sft(recipe, ignore_progress)
        for regime in regimes:
            measure(recipe, task, seed, regime)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Stage 2 with robots in other places.")
    parser.add_argument("--task", choices=("point-mass", "tabletop"), default="point-mass")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--regimes", nargs="+", default=["lockstep", "processes", "overlap", "ray"])
    parser.add_argument("--out", type=Path, default=Path("outputs/fleet-regimes"))
    parser.add_argument("--sft", help="Stage-1 run of each seed, with {seed} in its name")
    given = parser.parse_args()
    main(given.task, given.seeds, given.regimes, given.out, given.sft)
