"""nearer sft: a data set and a model -> a run with policy, reward and calibrated detector."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Int64
from rich.console import Console

from nearer.algorithm.demonstrations import (
    Candidates,
    Demonstrations,
    chunked,
    draw_candidates,
)
from nearer.algorithm.distributed import Processes, started
from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.score import frame_probabilities
from nearer.algorithm.sft import sft
from nearer.algorithm.sft_settings import SFTTraining
from nearer.algorithm.threads import threads_for
from nearer.algorithm.torchrun import started_as
from nearer.commands.progress_bars import live
from nearer.commands.runs import SHOWN_EPISODES, as_saved, open_run, rows_of
from nearer.configs.sft import SFTConfig, settings_of
from nearer.core.arrays import Array
from nearer.core.callbacks import (
    Progress,
    ProgressCallback,
    ignore_progress,
)
from nearer.core.episode import Ended
from nearer.core.errors import ConfigError
from nearer.core.seeds import Purpose, generator
from nearer.core.vision import ComparingVisionEncoder, TrainableVisionEncoder
from nearer.datasets.caching.features import open_candidate_features
from nearer.datasets.caching.vision_encoder_training import (
    train_through_objectives,
    train_vision_encoder,
)
from nearer.datasets.demonstration_loading import (
    load_demonstrations,
    load_without_images,
    open_demonstrations,
    remarks_on,
)
from nearer.datasets.episodes import dataset_spaces
from nearer.datasets.lerobot.cameras import check_has_camera
from nearer.datasets.lerobot.checks import check_trainable
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.reader import Dataset
from nearer.datasets.split import SPLIT, TrainingSplit, draw_split, read_split, write_split
from nearer.evaluation.calibration import Calibration, PredictionExample, write_calibration
from nearer.evaluation.ground_truth import check_reports_success
from nearer.evaluation.reliability import reliability
from nearer.evaluation.reward_metrics import spearman
from nearer.evaluation.success import LabelledRollout, labelled_rollouts
from nearer.evaluation.threshold import LabelledEpisode, detector_curve, threshold_choice
from nearer.fleets.for_model import fitting_fleet, robots_with_room
from nearer.models.factory import build_model, new_model
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import load_model
from nearer.runs.documents import Demonstrations as DrawnDemonstrations
from nearer.runs.documents import (
    DrawnEpisode,
    EncodingTime,
    RunInputs,
    collecting_policy,
    read_encoding_time,
    read_header,
    write_demonstrations,
    write_encoding_time,
)
from nearer.runs.lock import alone
from nearer.runs.run import Run, SilentRun, is_finished
from nearer.runs.trackers import check_trackers

_LOG = logging.getLogger(__name__)
_ROBOTS = 100  # of a calibration
_EXAMPLE_STEPS = 20
_HELD_OUT, _ROLLOUTS = "held-out demonstrations", "labelled rollouts"


def main(config: SFTConfig, console: Console) -> None:
    """Train with progress bars, and print what to do next."""
    with live(console) as on_progress:
        out = run_sft(config, on_progress)
    console.print(
        f"Stage 1 is done: {out}; next: nearer improve --run {out} --env ID", soft_wrap=True
    )


def run_sft(config: SFTConfig, on_progress: ProgressCallback = ignore_progress) -> Path:
    """Train Stage 1, calibrate its detector, and return the run's folder."""
    config = as_saved(config) if config.resume else config
    if config.resume and is_finished(config.out):
        return config.out
    check_trackers(config.track)
    with started(config.training.processes) as processes:
        if not processes.first:
            return _run_together(config, processes, ignore_progress)
        with alone(config.out):
            return _run_together(config, processes, on_progress)


def _run_together(config: SFTConfig, processes: Processes, on_progress: ProgressCallback) -> Path:
    """Do what each of the processes does; only the first one writes the run and calibrates."""
    with processes.in_turn():
        dataset = _open(config)
        for remark in remarks_on(dataset) if processes.first else ():
            _LOG.warning(remark)
        model, data, split, encoding_s = _ready(config, dataset, processes.sharded, on_progress)
    training = config.training
    train, val = data.episodes(split.train_positions), data.episodes(split.validation_positions)
    model.learn_in_hindsight(train, training.seed)
    if not processes.first:
        silent = SilentRun(config.out, started_as("sft", processes.kind))
        sft(training, train, val, model, silent, on_progress, processes)
        return config.out
    trained_with = _encoder_identity(model)
    inputs = RunInputs(data_sha256=split.data_sha256)
    with open_run(config, "sft", inputs) as run, threads_for(model):
        write_split(config.out, split)
        if model.vision_encoder:
            _add_encoding_time(run, encoding_s)
        sft(training, train, val, model, run, on_progress, processes)
        write_demonstrations(run.root, _drawn_demonstrations(val))
        reward = load_model(config.out, build_model, "reward")
        if _encoder_identity(reward) != trained_with:
            val = _encoded_by_reward(config, reward, split, on_progress)
        write_calibration(run.root, _calibrate(config, reward, val, on_progress))
        run.finish()
    return config.out


def _open(config: SFTConfig) -> Dataset:
    """Return the data set; raises an error unless it can be trained on."""
    if not config.data:
        raise ConfigError(
            "--data must name a data set, got none; make one with nearer collect --env ID"
        )
    dataset = open_demonstrations(
        config.data, config.revision, config.rename, config.completion_cutoff
    )
    check_trainable(dataset)
    _check_labelled(dataset)
    if settings_of(config.model) == "vla":
        check_has_camera(dataset)
    return dataset


def _check_labelled(dataset: Dataset) -> None:
    """Raise ConfigError if a policy collected these episodes: nobody knows which succeeded."""
    policy = collecting_policy(dataset.root)
    if policy is not None:
        raise ConfigError(
            f"--data must hold demonstrations, got {dataset.root}, all episodes of the policy "
            f"{policy}, whether they succeeded or not; adapt a model to them with nearer adapt, or "
            "collect demonstrations without --policy"
        )


def _ready(
    config: SFTConfig, dataset: Dataset, sharded: int, on_progress: ProgressCallback
) -> tuple[FoundationModel, Demonstrations, TrainingSplit, float]:
    """Return model, demonstrations, their split and the seconds that encoding images took."""
    training = config.training
    if config.resume:  # checked before anything is encoded
        inputs = RunInputs(data_sha256=contents_hash(dataset))
        read_header(config.out).inputs.check_same(config.out, inputs)
    spaces = dataset_spaces(dataset).in_chunks(config.chunking)
    model = new_model(config.model, config.sizes, spaces, dataset.tasks, training.seed, sharded)
    model.only_instruction = dataset.tasks[0] if len(dataset.tasks) == 1 else None
    calibration = config.calibration
    if calibration.env is not None:  # known now, not after hours of training
        check_reports_success(calibration.env, model, calibration.env_settings)
    split = _split(config, dataset)
    data, encoding_s = _encoded(config, dataset, model, split, on_progress)
    model.normalise_by(data.statistics(), data.actions[data.acted_frames()])
    return model, data, split, encoding_s


def _split(config: SFTConfig, dataset: Dataset) -> TrainingSplit:
    """Return the split of a run: a new one, or the one that a resumed run keeps."""
    if config.resume and (config.out / SPLIT).exists():
        return read_split(config.out)
    training = config.training
    return draw_split(
        dataset,
        fraction=config.fraction,
        leave_out_phrases=training.leave_out,
        val_fraction=training.val_fraction,
        seed=training.seed,
    )


def _encoded(
    config: SFTConfig,
    dataset: Dataset,
    model: FoundationModel,
    split: TrainingSplit,
    on_progress: ProgressCallback,
) -> tuple[Demonstrations, float]:
    """Return the demonstrations, encoded by the model's vision encoder, and the seconds taken."""
    candidates = _candidates(config.training, dataset, split)
    started = perf_counter()
    _train_vision_encoder(config, dataset, model, split, on_progress)
    data = load_demonstrations(
        dataset,
        model.vision_encoder,
        split.episodes,
        config.cache,
        on_progress,
        config.chunking,
    )
    if candidates:
        encoded = _encoded_candidates(
            config, dataset, model, split.episodes, candidates, on_progress
        )
        data = replace(data, candidates=encoded)
    return data, perf_counter() - started


def _add_encoding_time(run: Run, seconds: float) -> None:
    """Add to the time that encoding and self-training took, which ends before the run begins."""
    before = read_encoding_time(run.root)
    total = seconds + (before.seconds if before else 0.0)
    write_encoding_time(run.root, EncodingTime(seconds=total))


def _train_vision_encoder(
    config: SFTConfig,
    dataset: Dataset,
    model: FoundationModel,
    split: TrainingSplit,
    on_progress: ProgressCallback,
) -> None:
    """Train the vision encoder on the training episodes, if it can be trained."""
    vision_encoder = model.vision_encoder
    if not isinstance(vision_encoder, TrainableVisionEncoder):
        return
    episodes = split.train[: config.vision_encoder_episodes]
    seed, cache = config.training.seed, config.cache
    if updates := config.vision_encoder_objective_updates:
        assert isinstance(model, SmallVLA), "the settings refuse others"
        decisions = model.decisions(
            chunked(load_without_images(dataset, episodes), config.chunking)
        )
        train_through_objectives(
            dataset, vision_encoder, episodes, decisions, updates, seed, cache, on_progress
        )
    if updates := config.vision_encoder_updates:
        train_vision_encoder(dataset, vision_encoder, episodes, updates, seed, cache, on_progress)


def _candidates(
    training: SFTTraining, dataset: Dataset, split: TrainingSplit
) -> tuple[tuple[str, ...], ...]:
    """Return the candidate instructions of each episode; none without the third objective.

    Candidates come from the same side of the split: an instruction that training has only seen as
    a wrong one would betray the held-out episode that it belongs to.
    """
    if not training.other_instructions:
        return ()
    instructions = [dataset.task_of_episode(int(row)) for row in split.episodes]
    candidates: dict[int, tuple[str, ...]] = {}
    for number, part in enumerate((split.train_positions, split.validation_positions)):
        rng = generator(Purpose.SFT_CANDIDATES, training.seed, number)
        of_part = [instructions[int(position)] for position in part]
        drawn = draw_candidates(of_part, training.other_instructions, rng)
        candidates.update(zip(part.tolist(), drawn, strict=True))
    return tuple(candidates[position] for position in range(len(instructions)))


def _encoded_candidates(
    config: SFTConfig,
    dataset: Dataset,
    model: FoundationModel,
    episodes: Int64[Array, "episodes"],
    candidates: tuple[tuple[str, ...], ...],
    on_progress: ProgressCallback,
) -> Candidates:
    """Return the candidates, with the first and last frames encoded for each of them."""
    vision_encoder = model.vision_encoder
    assert isinstance(vision_encoder, ComparingVisionEncoder), (
        "the config has refused models without one"
    )
    features = open_candidate_features(
        dataset, vision_encoder, episodes, candidates, config.cache, on_progress
    )
    return Candidates(features=torch.from_numpy(features), instructions=candidates)


def _encoder_identity(model: FoundationModel) -> str | None:
    """Return the identity of a model's vision encoder; a tower that has trained has another."""
    return model.vision_encoder.identity if model.vision_encoder else None


def _encoded_by_reward(
    config: SFTConfig, reward: FoundationModel, split: TrainingSplit, on_progress: ProgressCallback
) -> Demonstrations:
    """Return the held-out demonstrations, encoded by the reward model's own vision encoder."""
    dataset = _open(config)
    return load_demonstrations(
        dataset,
        reward.vision_encoder,
        split.validation,
        config.cache,
        on_progress,
        config.chunking,
    )


def _calibrate(
    config: SFTConfig,
    reward: FoundationModel,
    held_out: Demonstrations,
    on_progress: ProgressCallback,
) -> Calibration:
    """Choose s on held-out demonstrations, and on labelled rollouts where an env is given."""
    on_progress(Progress(stage="calibration", done=0, total=1))
    probabilities = frame_probabilities(reward, held_out).numpy()
    edges = reward.bins.edges().numpy()
    true_steps = held_out.steps_to_go.numpy()
    cuts = np.cumsum(held_out.episode_lengths)[:-1]
    sources: dict[str, Sequence[LabelledEpisode]] = {
        _HELD_OUT: [
            LabelledEpisode(steps_to_go=d, success=left == 0)
            for d, left in zip(
                np.split(probabilities @ edges, cuts), np.split(true_steps, cuts), strict=True
            )
        ]
    }
    examples: dict[str, PredictionExample] = {}
    if config.calibration.env is not None:
        rollouts = _rollouts(config, config.calibration.env, reward)
        sources[_ROLLOUTS] = [rollout.label for rollout in rollouts]
        examples = _examples(reward, rollouts)
    on_progress(Progress(stage="calibration", done=1, total=1))
    curves = {name: detector_curve(episodes) for name, episodes in sources.items()}
    # Rollouts are what practice meets; demonstrations end where the instruction is just done.
    decisive = [_ROLLOUTS if _ROLLOUTS in curves else _HELD_OUT]
    choice = threshold_choice(curves, config.calibration.min_precision, decisive)
    return Calibration(
        threshold_steps=choice.threshold_steps,
        rule=choice.rule,
        at_threshold=choice.at_threshold,
        curves=choice.curves,
        reliability=reliability(probabilities, edges, true_steps, reward.bins.width_steps),
        rank_correlation=spearman(probabilities @ edges, true_steps),
        examples=examples,
    )


def _rollouts(config: SFTConfig, env: str, reward: FoundationModel) -> list[LabelledRollout]:
    """Run the new policy in an env, its episodes labelled by the simulator's ground truth."""
    settings = config.calibration
    policy = load_model(config.out, build_model, "policy")
    robots = robots_with_room(policy, settings.rollout_steps, min(settings.rollouts, _ROBOTS))
    fleet = fitting_fleet(env, robots, policy, settings=settings.env_settings)
    rollouts = labelled_rollouts(
        fleet,
        ModelPolicy(policy),
        reward,
        episodes=settings.rollouts,
        max_steps=settings.rollout_steps,
        seed=config.training.seed,
    )
    fleet.close()
    return rollouts


def _examples(
    reward: FoundationModel, rollouts: Sequence[LabelledRollout]
) -> dict[str, PredictionExample]:
    """Return p(k | o_t, g) along the first good and the first bad rollout, for the report.

    A good one must take some steps: an episode that is done at once shows nothing.
    """
    rows: dict[str, int] = {}
    for index, label in enumerate(rollout.label for rollout in rollouts):
        if not label.success.any():
            rows.setdefault("bad", index)
        elif label.success.argmax() * reward.spaces.chunking.chunk >= _EXAMPLE_STEPS:
            rows.setdefault("good", index)
    return {name: _example(reward, rollouts[index]) for name, index in rows.items()}


def _example(reward: FoundationModel, rollout: LabelledRollout) -> PredictionExample:
    """Return what the model predicts along a rollout, up to its success."""
    success = rollout.label.success
    end = int(success.argmax()) + 1 if success.any() else len(success)
    return PredictionExample(
        edges=tuple(reward.bins.edges().numpy().tolist()),
        probabilities=rows_of(rollout.probabilities[:end].round(4)),
        steps_to_go=tuple(rollout.label.steps_to_go[:end].tolist()),
    )


def _drawn_demonstrations(held_out: Demonstrations) -> DrawnDemonstrations:
    """Return the first held-out demonstrations as the report draws them."""
    split = held_out.spaces.agent_pos
    cuts = np.cumsum(held_out.episode_lengths)[:-1]
    states = np.split(held_out.state.numpy(), cuts)[:SHOWN_EPISODES]
    return DrawnDemonstrations(
        episodes=tuple(
            DrawnEpisode(
                agent_pos=rows_of(state[:, :split]),
                environment_state=rows_of(state[:, split:]),
                ended=Ended.SUCCESS_TRUE.value,
                instruction=instruction,
            )
            for state, instruction in zip(states, held_out.instructions, strict=False)
        )
    )
