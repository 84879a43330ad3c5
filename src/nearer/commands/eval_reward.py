"""nearer eval-reward: a checkpoint and labelled episodes -> metrics of its reward model."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool
from rich.console import Console
from torch import Tensor

from nearer.algorithm.demonstrations import chunked
from nearer.algorithm.model import FoundationModel
from nearer.commands.progress_bars import live
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.seeds import Purpose, generator
from nearer.datasets.caching.results import cached_columns, digest_of
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.evaluation.baselines import (
    RIVALS,
    STEPS_TO_GO,
    Lessons,
    Reader,
    distances,
    lessons_of,
    train_baseline,
)
from nearer.evaluation.detector_metrics import judged, precision_gap
from nearer.evaluation.label_sources import (
    Labelling,
    Source,
    Taught,
    check_data_fits,
    taught_of,
    things_of,
)
from nearer.evaluation.predictions import FRAMES_AT_ONCE, facts_of
from nearer.evaluation.reward_metrics import Evidence, labelled, measured, summary
from nearer.evaluation.reward_model import calibrated_threshold
from nearer.evaluation.threshold import calibration_document, detector_curve
from nearer.models.factory import build_model
from nearer.reporting.reward_table import trust_table
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.files import disk_errors_as_sentences, write_json, write_text
from nearer.runs.hub import CALIBRATION, local_run

_OWN = "the checkpoint's own"


def main(config: EvalRewardConfig, console: Console) -> None:
    """Measure with progress bars, and print the table and where the rest is."""
    with live(console) as on_progress:
        document = run_eval_reward(config, on_progress)
    console.print(trust_table(document), soft_wrap=True, highlight=False, markup=False)
    console.print(f"all of it: {config.folder}", soft_wrap=True)


def run_eval_reward(
    config: EvalRewardConfig, on_progress: ProgressCallback = ignore_progress
) -> dict[str, Any]:
    """Measure, write calibration.json and calibration.md, and return the former's document."""
    reward = load_model(config.checkpoint, build_model, "reward").requires_grad_(False)
    taught = taught_of(local_run(config.checkpoint), config.demonstrations)
    labelling = Labelling(
        reward=reward,
        taught=taught,
        episodes=config.episodes,
        seed=config.seed,
        cache=config.cache,
        on_progress=on_progress,
    )
    with disk_errors_as_sentences(config.folder):
        config.folder.mkdir(parents=True, exist_ok=True)
    sources = [labelling.data(one, config.env) for one in config.data]
    if config.env and config.rollouts:
        policy = config.policy or config.checkpoint
        size = config.rollouts, config.rollout_steps
        sources.append(labelling.rollouts(config.env, policy, *size))
    document = _document(config, reward, sources, taught)
    document["comparisons"] = _comparisons(config, reward, sources, taught, on_progress)
    write_json(config.folder / CALIBRATION, document)
    write_text(config.folder / "calibration.md", trust_table(document))
    return document


def _document(
    config: EvalRewardConfig,
    reward: FoundationModel,
    sources: Sequence[Source],
    taught: Taught | str,
) -> dict[str, Any]:
    """Return everything but the comparisons, as JSON values."""
    names = _names(sources)
    trusted = [names[i] for i, one in enumerate(sources) if one.is_truth]
    # Rollouts are what a detector meets. Demonstrations end when just fulfilled, and practice where
    # its own detector fired, so that lower thresholds cannot be judged on it.
    met = [name for name in trusted if name.startswith("rollouts")] or trusted
    curves = {
        name: detector_curve(labelled(one.evidence.steps_to_go, one.evidence))
        for name, one in zip(names, sources, strict=True)
    }
    width = reward.bins.width_steps
    found = {n: measured(one.evidence, width) for n, one in zip(names, sources, strict=True)}
    document: dict[str, Any] = {
        "checkpoint": str(config.checkpoint),
        "weights_sha256": weights_hash(reward),
        "seed": config.seed,
        "unit": reward.spaces.chunking.unit,
        "run_threshold_steps": calibrated_threshold(local_run(config.checkpoint)),
        "threshold_steps": None,
        "taught": taught if isinstance(taught, str) else f"{len(taught.train)} demonstrations",
    }
    if met:
        precision = config.min_precision
        document |= calibration_document(curves, precision, found[met[0]]["steps_to_go"], met)
    threshold = document["threshold_steps"]
    for name, one in zip(names, sources, strict=True):
        found[name] |= {
            "remarks": one.remarks,
            "is_truth": one.is_truth,
            "halves": judged(one.evidence.steps_to_go, one.evidence, config.min_precision),
            "slices": _slices(one.evidence, threshold or 0.0, taught),
        }
    return document | {"sources": found}


def _names(sources: Sequence[Source]) -> list[str]:
    """Return a name a source; of two alike the second gets a number."""
    names: list[str] = []
    for one in sources:
        alike = sum(name.startswith(one.evidence.name) for name in names)
        names.append(f"{one.evidence.name} {alike + 1}" if alike else one.evidence.name)
    return names


def familiarity(
    asked: Sequence[str], taught: Collection[str]
) -> dict[str, Bool[Array, "episodes"]]:
    """Return which episodes ask for something that training had, in several senses, and which not.

    Args:
        asked: instructions, one an episode.
        taught: instructions that were trained on.
    """
    new = np.array([one not in taught for one in asked])
    found = {"instructions seen": ~new, "instructions never seen": new}
    things, known = [things_of(one) for one in asked], {things_of(one) for one in taught}
    if None in known or not any(things):
        return found
    new = np.array([one not in known for one in things])
    found |= {"things seen together": ~new, "things never seen together": new}
    named = {thing for together in known for thing in together or ()}
    new = np.array([not named.issuperset(one or ()) for one in things])
    return found | {"things named in training": ~new, "a thing never named": new}


def _slices(evidence: Evidence, threshold: float, taught: Taught | str) -> dict[str, Any]:
    """Return the summary of all episodes, and of those that training had nothing like."""
    failed = ~evidence.succeeded
    chosen = {"all": np.ones(len(failed), dtype=bool), "successes": ~failed, "failures": failed}
    if isinstance(taught, Taught):
        chosen |= familiarity(evidence.instructions, taught.instructions)
    return {
        name: summary(evidence.chosen(rows), threshold)
        for name, rows in chosen.items()
        if rows.any() and (name == "all" or not rows.all())  # what is no part says nothing new
    }


def _comparisons(
    config: EvalRewardConfig,
    reward: FoundationModel,
    sources: Sequence[Source],
    taught: Taught | str,
    on_progress: ProgressCallback,
) -> dict[str, Any]:
    """Return how other rewards do on the same episodes, trained on what the checkpoint was."""
    names = _names(sources)
    judged_on = {n: one for n, one in zip(names, sources, strict=True) if one.is_truth}
    if not config.baseline_updates or not judged_on:
        return {
            "none": "no source with true labels" if config.baseline_updates else "not asked for"
        }
    if isinstance(taught, str):
        return {"none": taught}
    check_data_fits(taught.dataset, reward)
    data = load_demonstrations(
        taught.dataset, reward.vision_encoder, taught.train, config.cache, on_progress
    )
    data = chunked(data, reward.spaces.chunking)
    reader = Reader(data.instructions)
    facts = facts_of(reward, map(data.inputs, data.parts(FRAMES_AT_ONCE)))
    lessons = lessons_of(data, facts, reader, reward.bins)
    asked = {name: reader.read(one.facts, one.asked) for name, one in judged_on.items()}
    said: dict[str, dict[str, list[Any]]] = {name: {} for name in judged_on}
    total = len(RIVALS) * config.baseline_seeds
    for number in range(total):
        baseline, seed = RIVALS[number % len(RIVALS)], number // len(RIVALS)
        on_progress(Progress(stage="comparisons", done=number, total=total))
        for name, found in _said(config, baseline, seed, lessons, len(reader.words), asked).items():
            said[name].setdefault(baseline, []).append(found)
    on_progress(Progress(stage="comparisons", done=total, total=total))
    return {
        "demonstrations": len(taught.train),
        "updates": config.baseline_updates,
        "seeds": config.baseline_seeds,
        "sources": {
            name: _compared(said[name], one.evidence, config) for name, one in judged_on.items()
        },
    }


def _said(
    config: EvalRewardConfig,
    baseline: str,
    seed: int,
    lessons: Lessons,
    words: int,
    asked: Mapping[str, Tensor],
) -> dict[str, Array]:
    """Return what a rival says of every source's frames, trained unless it has been before."""

    def train() -> dict[str, Array]:
        network = train_baseline(baseline, lessons, words, config.baseline_updates, seed)
        return {name: distances(baseline, network, lessons, one) for name, one in asked.items()}

    learned = [lessons.questions, lessons.left, lessons.ends, lessons.progress]
    made_of = {
        "rival": [baseline, seed, config.baseline_updates, words, str(lessons.bins)],
        "frames": digest_of(one.numpy() for one in (*learned, *asked.values())),
        "sources": list(asked),
    }
    return cached_columns("rivals", made_of, config.cache, train)


def _compared(
    said: dict[str, list[Any]], evidence: Evidence, config: EvalRewardConfig
) -> dict[str, Any]:
    """Return each rival's numbers, a list of one a seed, and its gap to steps-to-go."""
    rows: dict[str, Any] = {
        _OWN: {"seeds": [judged(evidence.steps_to_go, evidence, config.min_precision)]}
    }
    for baseline, per_seed in said.items():
        rows[baseline] = {
            "seeds": [judged(one, evidence, config.min_precision) for one in per_seed]
        }
        if baseline != STEPS_TO_GO:
            draw = generator(Purpose.BASELINES, config.seed)
            gap = precision_gap(said[STEPS_TO_GO], per_seed, evidence, draw)
            rows[baseline] |= {"gap": gap} if gap else {}
    return rows
