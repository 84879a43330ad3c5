"""nearer eval: a checkpoint and an env -> eval_info.json, perception.json and videos.

eval_info.json     success, length, every episode
rollouts.json      the first episodes, as the report draws or replays them
perception.json    where the vision encoder saw the objects, with frames in perception.png, if
                   the model says where and the env knows better
videos/            the first starts
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.threads import threads_for
from nearer.commands.progress_bars import live
from nearer.commands.runs import SHOWN_EPISODES, drawn
from nearer.configs.eval import EvalConfig
from nearer.configs.folders import beside
from nearer.core.action_chunks import Chunking
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.episode import Episode
from nearer.core.errors import ConfigError, EnvError
from nearer.evaluation.eval_info import eval_info, read_eval_info, write_eval_info
from nearer.evaluation.perception_document import remove_perception, write_perception
from nearer.evaluation.perception_recorder import perception_recorder
from nearer.evaluation.success import Evaluation, check_paired, compare, evaluate
from nearer.fleets.chunked import encoded_in_chunks, in_chunks
from nearer.fleets.encoded import encoders_of
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings, shown
from nearer.fleets.for_model import unencoded_fleet
from nearer.models.factory import build_model
from nearer.reporting.html import DRAWN_ENV
from nearer.reporting.videos import episode_videos, remove_videos, write_video
from nearer.runs.checkpoint import file_hash, load_model, pretrained_folder
from nearer.runs.documents import Rollouts, remove_rollouts, write_rollouts
from nearer.runs.hub import EVALUATION
from nearer.runs.lock import alone

_LOG = logging.getLogger(__name__)


def main(config: EvalConfig, console: Console) -> None:
    """Evaluate with progress bars, and print success, length and the paired comparison."""
    against = None
    if config.against is not None:
        against = read_evaluation(config.against, config.env, config.env_settings)
        check_paired(against, config.seed, config.episodes, config.max_steps)
    with live(console) as on_progress:
        evaluation = run_eval(config, on_progress)
    console.print(f"success {evaluation.success}, {evaluation.mean_length:.1f} steps")
    if evaluation.actions_outside:
        console.print(
            f"{evaluation.actions_outside:,} actions were beyond the limits of {config.env}, which "
            "clips or refuses such",
            soft_wrap=True,
        )
    if against is not None:
        paired = compare(against, evaluation)
        low, high = paired.steps_saved_ci95
        console.print(
            f"paired with {config.against}: {paired.wins} starts solved by this policy alone, "
            f"{paired.losses} by the other alone (p = {paired.p_value:.2g}); "
            f"{paired.steps_saved:.1f} [{low:.1f}, {high:.1f}] steps saved",
            soft_wrap=True,
        )


def run_eval(config: EvalConfig, on_progress: ProgressCallback = ignore_progress) -> Evaluation:
    """Evaluate a checkpoint, write what the module lists, and return the result."""
    policy = load_model(config.checkpoint, build_model, "policy")
    out = config.out or beside(config.checkpoint, "eval")
    with alone(out), threads_for(policy):
        return _eval(config, policy, out, on_progress)


def _eval(
    config: EvalConfig, policy: FoundationModel, out: Path, on_progress: ProgressCallback
) -> Evaluation:
    settings = config.env_settings
    robots = unencoded_fleet(
        config.env, config.num_envs, policy, settings=settings, max_steps=config.max_steps
    )
    chunking = policy.spaces.chunking
    recorder = None if chunking.decision_frames else perception_recorder(robots, policy)
    encoders = encoders_of(policy.vision_encoder, None, config.num_envs)
    fleet = (
        in_chunks(recorder, chunking) if recorder else encoded_in_chunks(robots, chunking, encoders)
    )
    evaluation, episodes = evaluate(
        fleet,
        ModelPolicy(policy),
        episodes=config.episodes,
        max_steps=config.max_steps,
        seed=config.seed,
        on_progress=on_progress,
    )
    fleet.close()
    # before any new numbers are written beside them
    remove_videos(out / "videos")
    remove_perception(out)
    weights = file_hash(pretrained_folder(config.checkpoint, "policy") / "model.safetensors")
    checkpoint = str(config.checkpoint)
    info = eval_info(
        evaluation,
        env=config.env,
        env_kwargs=settings.kwargs,
        checkpoint=checkpoint,
        policy_sha256=weights,
    )
    write_eval_info(out / EVALUATION, info)
    remove_rollouts(out)  # a disk that is full now must not leave older ones beside it
    shown = tuple(drawn(episode, chunking.chunk) for episode in episodes[:SHOWN_EPISODES])
    write_rollouts(out, Rollouts(env=config.env, episodes=shown))
    if recorder is not None:
        write_perception(out, *recorder.perception(config.env))
    if config.env != DRAWN_ENV:
        _write_videos(config, episodes[: config.videos], chunking, out / "videos", on_progress)
    return evaluation


def _write_videos(
    config: EvalConfig,
    episodes: Sequence[Episode],
    chunking: Chunking,
    folder: Path,
    on_progress: ProgressCallback,
) -> None:
    """Write videos of these episodes into a folder, where the env renders images.

    An env that does not repeat an episode gets none: what was measured stands.
    """
    videos = episode_videos(config.env, episodes, chunking, config.env_settings)
    try:
        for index, video in enumerate(videos):
            write_video(video, folder, index)
            on_progress(Progress(stage="videos", done=index + 1, total=len(episodes)))
    except EnvError as error:
        remove_videos(folder)
        _LOG.warning("there are no videos: %s", error)


def read_evaluation(path: Path, env: str, settings: EnvSettings = AS_IT_IS) -> Evaluation:
    """Return the evaluation of an eval_info.json, or of a run or folder that has one.

    Raises:
        ConfigError: there is none, or it is of another env, or of one with other settings.
    """
    candidates = [path, path / EVALUATION, path / "eval" / EVALUATION]
    file = next((candidate for candidate in candidates if candidate.is_file()), candidates[-1])
    info = read_eval_info(file, f"make it with nearer eval --checkpoint RUN --env {env}")
    if info.env != env:
        raise ConfigError(
            f"{file} must be an evaluation in {env}, got one in {info.env}; "
            f"evaluate both policies with --env {env}"
        )
    if dict(info.env_kwargs) != settings.kwargs:
        raise ConfigError(
            f"{file} must be an evaluation with --env-kwargs {shown(settings.kwargs) or 'none'}, "
            f"got one with {shown(info.env_kwargs) or 'none'}; evaluate both policies with the same"
        )
    return info.evaluation
