"""nearer eval-reward: a checkpoint and labelled episodes -> metrics of its reward model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

import numpy as np
from jaxtyping import Bool, Float32
from rich.console import Console
from torch import Tensor

from nearer.algorithm.model import FoundationModel
from nearer.algorithm.threads import threads_for
from nearer.commands.progress_bars import live
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.seeds import Purpose, generator
from nearer.datasets.caching.results import cached_columns, digest_of
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.evaluation.baselines import (
    BASELINES,
    STEPS_TO_GO,
    BaselineTrainingSet,
    InputEncoder,
    baseline_training_set,
    distances,
    train_baseline,
)
from nearer.evaluation.detector_metrics import PrecisionGap, detector_metrics, precision_gap
from nearer.evaluation.label_sources import (
    Labelling,
    Source,
    TrainingData,
    check_data_fits,
    things_of,
    training_data_of,
)
from nearer.evaluation.predictions import FRAMES_AT_ONCE, normalised_inputs_of
from nearer.evaluation.reward_metrics import (
    Evidence,
    SliceMetrics,
    labelled_episodes,
    reward_metrics,
    slice_metrics,
)
from nearer.evaluation.reward_model import calibrated_threshold
from nearer.evaluation.reward_report import (
    BaselineComparison,
    BaselineReport,
    RewardReport,
    SourceReport,
    write_reward_report,
)
from nearer.evaluation.threshold import ThresholdChoice, detector_curve, threshold_choice
from nearer.models.factory import build_model
from nearer.reporting.reward_table import reward_table
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.files import write_text
from nearer.runs.hub import local_run
from nearer.runs.lock import alone

_OWN = "the checkpoint's own"


def main(config: EvalRewardConfig, console: Console) -> None:
    """Measure with progress bars, and print the table and where the rest is."""
    with live(console) as on_progress:
        report = run_eval_reward(config, on_progress)
    console.print(reward_table(report), soft_wrap=True, highlight=False, markup=False)
    console.print(f"all of it: {config.folder}", soft_wrap=True)


def run_eval_reward(
    config: EvalRewardConfig, on_progress: ProgressCallback = ignore_progress
) -> RewardReport:
    """Measure, write reward_report.json and .md, and return the former."""
    reward = load_model(config.checkpoint, build_model, "reward").requires_grad_(False)
    with alone(config.folder), threads_for(reward):
        return _eval_reward(config, reward, on_progress)


def _eval_reward(
    config: EvalRewardConfig, reward: FoundationModel, on_progress: ProgressCallback
) -> RewardReport:
    training_data = training_data_of(local_run(config.checkpoint), config.demonstrations)
    labelling = Labelling(
        reward=reward,
        training_data=training_data,
        episodes=config.episodes,
        seed=config.seed,
        cache=config.cache,
        env_settings=config.env_settings,
        on_progress=on_progress,
    )
    sources = [labelling.data(named, config.env) for named in config.data]
    if config.env and config.rollouts:
        policy = config.policy or config.checkpoint
        size = config.rollouts, config.rollout_steps
        sources.append(labelling.rollouts(config.env, policy, *size))
    report = _report(config, reward, _named(sources), training_data, on_progress)
    write_reward_report(config.folder, report)
    write_text(config.folder / "reward_report.md", reward_table(report))
    return report


def _report(
    config: EvalRewardConfig,
    reward: FoundationModel,
    sources: Mapping[str, Source],
    training_data: TrainingData | str,
    on_progress: ProgressCallback,
) -> RewardReport:
    recommended = _recommended(sources, config.min_precision)
    threshold = recommended.threshold_steps if recommended else 0.0
    compared = _comparison(config, reward, sources, training_data, on_progress)
    is_known = isinstance(training_data, TrainingData)
    return RewardReport(
        checkpoint=str(config.checkpoint),
        weights_sha256=weights_hash(reward),
        seed=config.seed,
        unit=reward.spaces.chunking.unit,
        trained_on=f"{len(training_data.train)} demonstrations" if is_known else training_data,
        run_threshold_steps=calibrated_threshold(local_run(config.checkpoint)),
        recommended=recommended,
        sources={
            name: SourceReport(
                labels=source.evidence.labels,
                is_ground_truth=source.is_ground_truth,
                remarks=source.remarks,
                reward=reward_metrics(source.evidence, reward.bins.width_steps),
                detector=detector_metrics(
                    source.evidence.steps_to_go, source.evidence, config.min_precision
                ),
                slices=_slices(source.evidence, threshold, training_data),
            )
            for name, source in sources.items()
        },
        baselines=compared if isinstance(compared, BaselineComparison) else None,
        why_no_baselines=compared if isinstance(compared, str) else "",
    )


def _recommended(sources: Mapping[str, Source], min_precision: float) -> ThresholdChoice | None:
    """Return the threshold that labels by ground truth choose; None without such labels.

    Rollouts are what a detector meets. Demonstrations end at success, and practice where
    its own detector fired, so that lower thresholds cannot be measured on it.
    """
    by_ground_truth = [name for name, source in sources.items() if source.is_ground_truth]
    rollouts = [name for name in by_ground_truth if name.startswith("rollouts")]
    decisive = rollouts or by_ground_truth
    curves = {
        name: detector_curve(labelled_episodes(source.evidence.steps_to_go, source.evidence))
        for name, source in sources.items()
    }
    return threshold_choice(curves, min_precision, decisive) if decisive else None


def _named(sources: Sequence[Source]) -> dict[str, Source]:
    """Return sources by name; of two alike the second gets a number."""
    named: dict[str, Source] = {}
    for source in sources:
        name = source.evidence.name
        alike = sum(other.startswith(name) for other in named)
        named[f"{name} {alike + 1}" if alike else name] = source
    return named


def familiarity(
    instructions: Sequence[str], trained_on: Collection[str]
) -> dict[str, Bool[Array, "episodes"]]:
    """Return which episodes ask for something that training had, in several senses, and which not.

    Args:
        instructions: one an episode.
        trained_on: instructions that were trained on.
    """
    new = np.array([instruction not in trained_on for instruction in instructions])
    episodes = {"instructions seen": ~new, "instructions never seen": new}
    things = [things_of(instruction) for instruction in instructions]
    seen_together = {things_of(instruction) for instruction in trained_on}
    if None in seen_together or not any(things):
        return episodes
    new = np.array([together not in seen_together for together in things])
    episodes |= {"things seen together": ~new, "things never seen together": new}
    named = {thing for together in seen_together for thing in together or ()}
    new = np.array([not named.issuperset(together or ()) for together in things])
    return episodes | {"things named in training": ~new, "a thing never named": new}


def _slices(
    evidence: Evidence, threshold: float, training_data: TrainingData | str
) -> dict[str, SliceMetrics]:
    """Return the metrics of all episodes, and of those that training had nothing like."""
    failed = ~evidence.succeeded
    slices = {"all": np.ones(len(failed), dtype=bool), "successes": ~failed, "failures": failed}
    if isinstance(training_data, TrainingData):
        slices |= familiarity(evidence.instructions, training_data.instructions)
    return {
        name: slice_metrics(evidence.select(rows), threshold)
        for name, rows in slices.items()
        if rows.any() and (name == "all" or not rows.all())  # what is no part says nothing new
    }


def _comparison(
    config: EvalRewardConfig,
    reward: FoundationModel,
    sources: Mapping[str, Source],
    training_data: TrainingData | str,
    on_progress: ProgressCallback,
) -> BaselineComparison | str:
    """Return how baselines do, trained on the same demonstrations, or why there are none."""
    measured_on = {name: source for name, source in sources.items() if source.is_ground_truth}
    if not config.baseline_updates:
        return "not asked for"
    if not measured_on:
        return "no source with labels by ground truth"
    if isinstance(training_data, str):
        return training_data
    check_data_fits(training_data.dataset, reward)
    data = load_demonstrations(
        training_data.dataset,
        reward.vision_encoder,
        training_data.train,
        config.cache,
        on_progress,
        reward.spaces.chunking,
    )
    encoder = InputEncoder(data.instructions)
    normalised = normalised_inputs_of(reward, map(data.inputs, data.parts(FRAMES_AT_ONCE)))
    training_set = baseline_training_set(data, normalised, encoder, reward.bins)
    inputs = {
        name: encoder.encode(source.normalised_inputs, source.frame_instructions)
        for name, source in measured_on.items()
    }
    predicted: dict[str, dict[str, list[Array]]] = {name: {} for name in measured_on}
    total = len(BASELINES) * config.baseline_seeds
    for number in range(total):
        baseline, seed = BASELINES[number % len(BASELINES)], number // len(BASELINES)
        on_progress(Progress(stage="comparisons", done=number, total=total))
        columns = _predicted(config, baseline, seed, training_set, len(encoder.words), inputs)
        for name, distance in columns.items():
            predicted[name].setdefault(baseline, []).append(distance)
    on_progress(Progress(stage="comparisons", done=total, total=total))
    return BaselineComparison(
        num_demonstrations=len(training_data.train),
        updates=config.baseline_updates,
        num_seeds=config.baseline_seeds,
        settings=config.baselines,
        sources={
            name: _compared(predicted[name], source.evidence, config)
            for name, source in measured_on.items()
        },
    )


def _predicted(
    config: EvalRewardConfig,
    baseline: str,
    seed: int,
    training_set: BaselineTrainingSet,
    words: int,
    inputs: Mapping[str, Tensor],
) -> dict[str, Array]:
    """Return what a baseline predicts of every source's frames, trained unless it has been."""

    def train() -> dict[str, Array]:
        network = train_baseline(
            baseline, training_set, words, config.baseline_updates, seed, config.baselines
        )
        return {
            name: distances(baseline, network, training_set, rows) for name, rows in inputs.items()
        }

    tensors = [
        training_set.inputs,
        training_set.steps_to_go,
        training_set.ends,
        training_set.progress,
        *inputs.values(),
    ]
    made_of = {
        "baseline": [baseline, seed, config.baseline_updates, words, str(training_set.bins)],
        "settings": asdict(config.baselines),
        "frames": digest_of(tensor.numpy() for tensor in tensors),
        "sources": list(inputs),
    }
    return cached_columns("baselines", made_of, config.cache, train)


def _compared(
    predicted: Mapping[str, Sequence[Float32[Array, "frames"]]],
    evidence: Evidence,
    config: EvalRewardConfig,
) -> dict[str, BaselineReport]:
    """Return the metrics of the checkpoint's own reward, and of each baseline with its gap."""

    def report(distances: Sequence[Array], gap: PrecisionGap | None) -> BaselineReport:
        seeds = [detector_metrics(d, evidence, config.min_precision) for d in distances]
        return BaselineReport(seeds=tuple(seeds), gap=gap)

    reports = {_OWN: report([evidence.steps_to_go], None)}
    for baseline, per_seed in predicted.items():
        gap = None
        if baseline != STEPS_TO_GO:
            rng = generator(Purpose.BASELINE_INTERVALS, config.seed)
            gap = precision_gap(predicted[STEPS_TO_GO], per_seed, evidence, rng)
        reports[baseline] = report(per_seed, gap)
    return reports
