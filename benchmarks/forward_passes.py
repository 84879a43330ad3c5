"""How often Stage 2 runs the frozen reward model; the last line printed is one JSON object.

    python benchmarks/forward_passes.py

One iteration or two of the tabletop's quick recipe with small-vla, and of the same with a small
SmolVLM of random weights. Every observation needs d(o, g) twice: to end its episode, and to reward
the action before it. The termination rule returns d and the episode keeps it (`once`); `twice` runs
the reward model again when episodes are scored, as nearer did before 0.2. An observation is one row
of a forward pass. Keys: MODEL_once_rows and MODEL_twice_rows, rows an iteration; MODEL_*_calls,
forward passes an iteration; MODEL_max_difference_steps, the largest difference between the two d of
one observation (sums of a batch of another size are rounded in another order).
"""

import argparse
import json
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import nearer.algorithm.improve as stage_two
from nearer.algorithm.model import FoundationModel
from nearer.commands.collect import collect_demonstrations
from nearer.commands.improve import run_improve
from nearer.commands.sft import run_sft
from nearer.configs.improve import ImproveConfig
from nearer.models.small_vla import SmallVLA
from nearer.models.vlm.vlm import VLM
from nearer.runs.metrics import read_metrics
from nearer.studies.recipe import Recipe
from nearer.studies.tabletop import tabletop
from vlm import write_model


@dataclass
class Count:
    """Forward passes of the steps-to-go output, and what scoring again finds."""

    calls: int = 0
    rows: int = 0
    differences: list[float] = field(default_factory=list[float])


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        recipe = tabletop(Path(folder), quick=True)
        collect_demonstrations(recipe.collect)
        small = measure("small_vla", SmallVLA, recipe)
        write_model(Path(folder) / "smolvlm")
        print(json.dumps(small | measure("vlm", VLM, with_vlm(recipe, Path(folder)))))


def with_vlm(recipe: Recipe, folder: Path) -> Recipe:
    """Return the recipe with a small vision-language model and short training."""
    out = folder / "vlm-sft"
    training = replace(recipe.sft.training, updates=4, batch_size=4, validate_every=4)
    sft = replace(
        recipe.sft, model=str(folder / "smolvlm"), out=out, training=training, fraction=0.2
    )
    sft = replace(sft, calibration=replace(sft.calibration, rollouts=2, rollout_steps=6))
    practice = replace(recipe.improve.practice, updates_per_iteration=2, batch_size=16, max_steps=6)
    improve = replace(recipe.improve, run=out, practice=practice, threshold=0.5, num_envs=4)
    return replace(recipe, sft=sft, improve=improve)


def measure(name: str, model: type[FoundationModel], recipe: Recipe) -> dict[str, float]:
    run_sft(recipe.sft)
    practice = recipe.improve.practice
    longest = practice.samples_per_iteration + recipe.improve.num_envs * practice.max_steps
    practice = replace(practice, max_env_steps=longest)
    values: dict[str, float] = {}
    for way in ("once", "twice"):
        out = recipe.improve.out.with_name(f"{name}-{way}")
        config = replace(recipe.improve, practice=practice, out=out)
        values |= iterations_counted(f"{name}_{way}", model, config, again=way == "twice")
    values[f"{name}_max_difference_steps"] = values.pop(f"{name}_twice_difference")
    values.pop(f"{name}_once_difference")
    return values


def iterations_counted(
    name: str, model: type[FoundationModel], config: ImproveConfig, *, again: bool
) -> dict[str, float]:
    with counted(model, again=again) as count:
        run_improve(config)
    iterations = len(read_metrics(config.out))
    return {
        f"{name}_rows": round(count.rows / iterations),
        f"{name}_calls": round(count.calls / iterations),
        f"{name}_difference": max(count.differences, default=0.0),
    }


@contextmanager
def counted(model: type[FoundationModel], *, again: bool) -> Generator[Count, None, None]:
    """Count the forward passes; with `again`, score episodes without their predictions."""
    count = Count()
    forward, score = model.steps_to_go_logits, stage_two.score

    def counting(self: FoundationModel, inputs: Any) -> torch.Tensor:
        count.calls += 1
        count.rows += len(inputs)
        return forward(self, inputs)

    def scoring(reward: FoundationModel, episodes: Any, **settings: Any) -> Any:
        bare = [replace(episode, prediction=None) for episode in episodes]
        scored = score(reward, bare, **settings)
        for before, after in zip(episodes, scored, strict=True):
            difference = np.abs(before.prediction.mean - after.steps_to_go).max()
            count.differences.append(float(difference))
        return scored

    model.steps_to_go_logits = counting  # type: ignore[method-assign]
    stage_two.score = scoring if again else score
    try:
        yield count
    finally:
        model.steps_to_go_logits = forward
        stage_two.score = score


if __name__ == "__main__":
    main()
