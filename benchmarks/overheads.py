"""What the framework costs over bare PyTorch; the last line printed is one JSON object.

    python benchmarks/overheads.py [--rounds 5]

sft_over_bare: Stage 1 samples/s (validation and checkpoints included) over those of a loop of
forward, backward and step on batches in memory. practice_over_bare: time of the bare forward,
env step and backward calls that Stage 2 made, over the time of Stage 2. Both are medians of
interleaved rounds; 1 is no overhead. *_share: parts of Stage 2, by timers around the calls.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

import nearer.algorithm.improve as stage_two
import nearer.algorithm.score as scoring
from nearer.algorithm.demonstrations import split_by_episode
from nearer.algorithm.model import Detector, FoundationModel, ModelPolicy
from nearer.algorithm.sft import sft
from nearer.algorithm.sft_objectives import bc_loss, time_loss
from nearer.commands.collect import collect_demonstrations
from nearer.commands.improve import run_improve
from nearer.commands.sft import run_sft
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.lerobot.reader import open_dataset
from nearer.fleets.gym import VectorFleet
from nearer.models.factory import new_model
from nearer.runs.metrics import read_metrics
from nearer.runs.run import Run
from nearer.studies.point_mass import Recipe, point_mass

UPDATES = 512
Call = tuple[str, Callable[[], Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved measurements")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        recipe = point_mass(Path(folder), episodes=2000)
        collect_demonstrations(recipe.collect)
        print(json.dumps(measure_sft(recipe, rounds) | measure_practice(recipe, rounds)))


def measure_sft(recipe: Recipe, rounds: int) -> dict[str, float]:
    data = load_demonstrations(open_dataset(recipe.collect.out))
    training = replace(recipe.sft.training, updates=UPDATES, validate_every=UPDATES)
    split = split_by_episode(data, training.val_fraction, training.seed)
    ratios = []
    for round_ in range(rounds):
        model = new_model(
            recipe.sft.model, recipe.sft.sizes, data.spaces, data.instructions, seed=0
        )
        model.normalise_by(data.inputs(slice(None)), data.actions)
        bare_s = timed(lambda model=model: bare_sft(model, data, training.batch_size))
        with Run.create(recipe.sft.out.with_name(f"sft-{round_}"), "sft", {}) as run:
            real_s = timed(lambda model=model, run=run: sft(training, *split, model, run))
        ratios.append(bare_s / real_s)
    return {"sft_over_bare": statistics.median(ratios), "sft_over_bare_lowest": min(ratios)}


def bare_sft(model: FoundationModel, data: Any, batch_size: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=True)
    # Many batches, not one: a network that overfits one batch slows down on denormal numbers.
    batches = data.acted_frames()[: 64 * batch_size].split(batch_size)
    for update in range(UPDATES):
        rows = batches[update % len(batches)]
        loss = bc_loss(model, data, rows).mean() + time_loss(model, data, rows).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()


def measure_practice(recipe: Recipe, rounds: int) -> dict[str, float]:
    training = replace(recipe.sft.training, updates=1024)
    run_sft(replace(recipe.sft, training=training))
    practice = replace(recipe.improve.practice, max_env_steps=20_000)
    config = replace(recipe.improve, practice=practice)
    calls: list[Call] = []
    with recorded(calls):
        run_improve(replace(config, out=recipe.improve.out.with_name("recorded")))
    ratios, shares = [], []
    for round_ in range(rounds):
        out = config.out.with_name(f"timed-{round_}")
        run_improve(replace(config, out=out))
        real_s = iterations_s(out)
        bare_s = timed(lambda: [call() for _, call in calls])
        ratios.append(bare_s / real_s)
        shares.append(profile(replace(config, out=config.out.with_name(f"profiled-{round_}"))))
    result = {"practice_over_bare": statistics.median(ratios)}
    for name in shares[0]:
        result[f"{name}_share"] = statistics.median(share[name] for share in shares)
    result["env_score_return_share"] = result["env_step_share"] + result["score_and_return_share"]
    return {name: round(value, 3) for name, value in result.items()}


@contextmanager
def recorded(calls: list[Call]) -> Iterator[None]:
    """Note every bare call that Stage 2 makes, with its arguments, so that it can be repeated."""

    def noting(owner: Any, name: str) -> Callable[[], None]:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            calls.append((name, lambda: original(*args, **kwargs)))
            return original(*args, **kwargs)

        setattr(owner, name, wrapper)
        return lambda: setattr(owner, name, original)

    owners = [(ModelPolicy, "act"), (Detector, "done"), (VectorFleet, "step")]
    owners += [(scoring, "steps_to_go_probabilities"), (stage_two, "update")]
    undo = [noting(owner, name) for owner, name in owners]
    yield
    for restore in undo:
        restore()


def profile(config: Any) -> dict[str, float]:
    """Return the shares of Stage 2's time that its parts take."""
    spent = dict.fromkeys(("act", "done", "step", "score", "update"), 0.0)

    def timing(owner: Any, name: str) -> Callable[[], None]:
        original = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            started = perf_counter()
            result = original(*args, **kwargs)
            spent[name] += perf_counter() - started
            return result

        setattr(owner, name, wrapper)
        return lambda: setattr(owner, name, original)

    owners = [(ModelPolicy, "act"), (Detector, "done"), (VectorFleet, "step")]
    owners += [(stage_two, "score"), (stage_two, "update")]
    undo = [timing(owner, name) for owner, name in owners]
    total_s = timed(lambda: run_improve(config))
    for restore in undo:
        restore()
    names = {"act": "policy", "done": "detector", "step": "env_step", "score": "score_and_return"}
    return {names.get(name, name): seconds / total_s for name, seconds in spent.items()}


def iterations_s(run: Path) -> float:
    """Return the seconds of all iterations, without the run's start and end."""
    elapsed = [record["time/elapsed_s"] for record in read_metrics(run)]
    return (elapsed[-1] - elapsed[0]) * len(elapsed) / (len(elapsed) - 1)


def timed(work: Callable[[], Any]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


if __name__ == "__main__":
    main()
