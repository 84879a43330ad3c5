"""nearer sft: a data set and a model -> a run with policy, reward and calibrated detector."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from rich.console import Console

from nearer.algorithm.demonstrations import (
    Candidates,
    Demonstrations,
    chunked,
    draw_candidates,
    draw_share,
    leave_out,
    split_by_episode,
    split_episodes,
)
from nearer.algorithm.distributed import Processes, started
from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.score import frame_probabilities
from nearer.algorithm.sft import sft
from nearer.algorithm.sft_settings import SFTTraining
from nearer.algorithm.torchrun import started_as
from nearer.commands.progress_bars import live
from nearer.commands.runs import SHOWN_EPISODES, as_saved, open_run
from nearer.configs.sft import SFTConfig
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.episode import Ended
from nearer.core.errors import ConfigError
from nearer.core.seeds import Purpose, generator
from nearer.core.vision import ComparingVisionEncoder, TrainableVisionEncoder
from nearer.datasets.caching.arrays import contents_hash
from nearer.datasets.caching.features import open_candidate_features, train_vision_encoder
from nearer.datasets.episodes import dataset_spaces, load_demonstrations
from nearer.datasets.lerobot.reader import Dataset, open_dataset, resolve_dataset
from nearer.evaluation.reward_metrics import spearman
from nearer.evaluation.success import LabelledRollout, labelled_rollouts
from nearer.evaluation.threshold import (
    LabelledEpisode,
    calibration_document,
    detector_curve,
    reliability,
)
from nearer.fleets.for_model import fitting_fleet, robots_with_room
from nearer.models.factory import build_model, new_model
from nearer.runs.checkpoint import load_model
from nearer.runs.run import SEEING, Run, SilentRun, check_facts, is_finished, read_header, read_json
from nearer.runs.trackers import check_trackers

_ROBOTS = 100  # of a calibration
_EXAMPLE_STEPS = 20
_HELD_OUT, _ROLLOUTS = "held-out demonstrations", "labelled rollouts"
_SIGHT_EPISODES = 200
"""The sight learns from at most so many, as measured (docs/log.md): more cost time, not tried."""


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
        return _run_together(config, processes, on_progress if processes.first else ignore_progress)


def _run_together(config: SFTConfig, processes: Processes, on_progress: ProgressCallback) -> Path:
    """Do what each of the processes does; only the first one writes the run and calibrates."""
    with processes.in_turn():
        model, data, facts, seeing_s = _ready(config, processes.sharded, on_progress)
    training = config.training
    if not processes.first:
        sft(
            training,
            data,
            model,
            SilentRun(config.out, started_as(processes.kind)),
            on_progress,
            processes,
        )
        return config.out
    _, held_out = split_by_episode(data, training.val_fraction, training.seed)
    seen_by = _identity(model)
    with open_run(config, "sft", **facts) as run:
        if model.vision_encoder:
            _note_seeing(run, seeing_s)
        sft(training, data, model, run, on_progress, processes)
        run.write_json("demonstrations.json", {"episodes": _shown_demonstrations(held_out)})
        reward = load_model(config.out, build_model, "reward")
        if _identity(reward) != seen_by:
            held_out = _seen_anew(config, reward, on_progress)
        run.write_json("calibration.json", _calibrate(config, reward, held_out, on_progress))
        run.finish()
    return config.out


def _ready(
    config: SFTConfig, sharded: int, on_progress: ProgressCallback
) -> tuple[FoundationModel, Demonstrations, dict[str, str], float]:
    """Return model, demonstrations, the run's facts and the seconds that looking took."""
    if not config.data:
        raise ConfigError(
            "--data must name a data set, got none; make one with nearer collect --env ID"
        )
    training = config.training
    dataset = open_dataset(resolve_dataset(config.data, config.revision))
    facts = {"data_sha256": contents_hash(dataset)}
    if config.resume:
        check_facts(config.out, read_header(config.out), facts)  # before anything is looked at
    spaces = dataset_spaces(dataset).in_chunks(config.chunking)
    model = new_model(config.model, config.sizes, spaces, dataset.tasks, training.seed, sharded)
    if config.calibration.env is not None:
        # Known now, not after hours of training.
        fitting_fleet(config.calibration.env, 1, model).close()
    episodes = _drawn(config, dataset)
    data, seeing_s = _seen(config, dataset, model, episodes, on_progress)
    model.normalise_by(data.statistics(), data.actions[data.acted_frames()])
    return model, data, facts, seeing_s


def _drawn(config: SFTConfig, dataset: Dataset) -> Int64[Array, "episodes"]:
    """Return the episodes that the run may use."""
    training = config.training
    drawn = draw_share(len(dataset.episode_lengths), config.fraction, training.seed)
    asked = [dataset.task_of_episode(int(row)) for row in drawn]
    return leave_out(drawn, asked, training.leave_out)


def _seen(
    config: SFTConfig,
    dataset: Dataset,
    model: FoundationModel,
    episodes: Int64[Array, "episodes"],
    on_progress: ProgressCallback,
) -> tuple[Demonstrations, float]:
    """Return the demonstrations as the model's sight sees them, and the seconds that took."""
    candidates = _candidates(config.training, dataset, episodes)
    started = perf_counter()
    _train_vision_encoder(config, dataset, model, episodes, on_progress)
    data = load_demonstrations(dataset, model.vision_encoder, episodes, config.cache, on_progress)
    data = chunked(data, config.chunking)
    if candidates:
        seen = _seen_candidates(config, dataset, model, episodes, candidates, on_progress)
        data = replace(data, candidates=seen)
    return data, perf_counter() - started


def _note_seeing(run: Run, seconds: float) -> None:
    """Add to the time that looking and learning to see took, which ends before the run begins."""
    path = run.root / SEEING
    before = read_json(path, "delete it")["seconds"] if path.exists() else 0.0
    run.write_json(SEEING, {"seconds": before + seconds})


def _train_vision_encoder(
    config: SFTConfig,
    dataset: Dataset,
    model: FoundationModel,
    episodes: Int64[Array, "episodes"],
    on_progress: ProgressCallback,
) -> None:
    """Let a model's sight learn from episodes that are trained on, if it can."""
    vision_encoder, training = model.vision_encoder, config.training
    if not config.vision_encoder_updates or not isinstance(vision_encoder, TrainableVisionEncoder):
        return
    train, _ = split_episodes(len(episodes), training.val_fraction, training.seed)
    train_vision_encoder(
        dataset,
        vision_encoder,
        episodes[train[:_SIGHT_EPISODES]],
        config.vision_encoder_updates,
        training.seed,
        config.cache,
        on_progress,
    )


def _candidates(
    training: SFTTraining, dataset: Dataset, episodes: Int64[Array, "episodes"]
) -> tuple[tuple[str, ...], ...]:
    """Return what each episode may have been asked, for the third objective; none without it.

    Candidates come from the same side of the split: an instruction that training has only seen as
    a wrong one would betray the held-out episode that it belongs to.
    """
    if not training.other_instructions:
        return ()
    given = [dataset.task_of_episode(int(row)) for row in episodes]
    found: dict[int, tuple[str, ...]] = {}
    parts = split_episodes(len(episodes), training.val_fraction, training.seed)
    for number, part in enumerate(parts):
        draw = generator(Purpose.SFT_CANDIDATES, training.seed, number)
        ours = [given[int(row)] for row in part]
        drawn = draw_candidates(ours, training.other_instructions, draw)
        found.update(zip(part.tolist(), drawn, strict=True))
    return tuple(found[row] for row in range(len(episodes)))


def _seen_candidates(
    config: SFTConfig,
    dataset: Dataset,
    model: FoundationModel,
    episodes: Int64[Array, "episodes"],
    candidates: tuple[tuple[str, ...], ...],
    on_progress: ProgressCallback,
) -> Candidates:
    """Return the candidates with what the model's sight makes of them."""
    vision_encoder = model.vision_encoder
    assert isinstance(vision_encoder, ComparingVisionEncoder), (
        "the config has refused models without one"
    )
    seen = open_candidate_features(
        dataset, vision_encoder, episodes, candidates, config.cache, on_progress
    )
    return Candidates(features=torch.from_numpy(seen), instructions=candidates)


def _identity(model: FoundationModel) -> str | None:
    """Return what a model's sight sees; another, once a tower that trained is frozen."""
    return model.vision_encoder.identity if model.vision_encoder else None


def _seen_anew(
    config: SFTConfig, reward: FoundationModel, on_progress: ProgressCallback
) -> Demonstrations:
    """Return the held-out demonstrations as the reward's own sight sees them."""
    dataset = open_dataset(resolve_dataset(config.data, config.revision))
    training = config.training
    episodes = _drawn(config, dataset)
    _, rows = split_episodes(len(episodes), training.val_fraction, training.seed)
    data = load_demonstrations(
        dataset, reward.vision_encoder, episodes[rows], config.cache, on_progress
    )
    return chunked(data, config.chunking)


def _calibrate(
    config: SFTConfig,
    reward: FoundationModel,
    held_out: Demonstrations,
    on_progress: ProgressCallback,
) -> dict[str, Any]:
    """Choose s on held-out demonstrations, and on labelled rollouts where an env is given."""
    on_progress(Progress(stage="calibration", done=0, total=1))
    probabilities = frame_probabilities(reward, held_out).numpy()
    edges = reward.bins.edges().numpy()
    true_steps = held_out.steps_to_go.numpy()
    cuts = np.cumsum(held_out.episode_lengths)[:-1]
    sources: dict[str, Sequence[LabelledEpisode]] = {
        _HELD_OUT: [
            LabelledEpisode(steps_to_go=d, fulfilled=left == 0)
            for d, left in zip(
                np.split(probabilities @ edges, cuts), np.split(true_steps, cuts), strict=True
            )
        ]
    }
    examples: dict[str, Any] = {}
    if config.calibration.env is not None:
        rollouts = _rollouts(config, config.calibration.env, reward)
        sources[_ROLLOUTS] = [one.label for one in rollouts]
        examples = _examples(reward, rollouts)
    on_progress(Progress(stage="calibration", done=1, total=1))
    curves = {name: detector_curve(episodes) for name, episodes in sources.items()}
    measured = reliability(probabilities, edges, true_steps, reward.bins.width_steps)
    measured["rank_correlation"] = spearman(probabilities @ edges, true_steps)
    # Rollouts are what practice sees; demonstrations end where the instruction is just fulfilled.
    decisive = [_ROLLOUTS if _ROLLOUTS in curves else _HELD_OUT]
    precision = config.calibration.min_precision
    document = calibration_document(curves, precision, measured, decisive)
    return document | {"examples": examples}


def _rollouts(config: SFTConfig, env: str, reward: FoundationModel) -> list[LabelledRollout]:
    """Run the new policy in an env, its episodes labelled by the simulator's truth."""
    settings = config.calibration
    policy = load_model(config.out, build_model, "policy")
    robots = robots_with_room(policy, settings.rollout_steps, min(settings.rollouts, _ROBOTS))
    fleet = fitting_fleet(env, robots, policy)
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


def _examples(reward: FoundationModel, rollouts: Sequence[LabelledRollout]) -> dict[str, Any]:
    """Return p(k | o_t, g) along the first good and the first bad rollout, for the report.

    A good one must take some steps: an episode that is done at once shows nothing.
    """
    wanted: dict[str, int] = {}
    for index, one in enumerate(rollout.label for rollout in rollouts):
        if not one.fulfilled.any():
            wanted.setdefault("bad", index)
        elif one.fulfilled.argmax() * reward.spaces.chunking.chunk >= _EXAMPLE_STEPS:
            wanted.setdefault("good", index)
    examples: dict[str, Any] = {}
    for name, index in wanted.items():
        label = rollouts[index].label
        end = int(label.fulfilled.argmax()) + 1 if label.fulfilled.any() else len(label.fulfilled)
        examples[name] = {
            "edges": reward.bins.edges().tolist(),
            "probabilities": rollouts[index].probabilities[:end].round(4).tolist(),
            "steps_to_go": label.steps_to_go[:end].tolist(),
        }
    return examples


def _shown_demonstrations(held_out: Demonstrations) -> list[dict[str, Any]]:
    """Return the first held-out demonstrations in the form of `shown`."""
    split = held_out.spaces.agent_pos
    cuts = np.cumsum(held_out.episode_lengths)[:-1]
    states = np.split(held_out.state.numpy(), cuts)[:SHOWN_EPISODES]
    return [
        {
            "agent_pos": state[:, :split].tolist(),
            "environment_state": state[:, split:].tolist(),
            "ended": Ended.SUCCESS_TRUE.value,
        }
        for state in states
    ]
