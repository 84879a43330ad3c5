"""Episodes to data sets and back: demonstrations for Stage 1, practised episodes for resuming."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nearer.data.cameras import IMAGES, Kept, camera_features, cameras_of
from nearer.data.checks import check_trainable
from nearer.data.features import episode_rows, open_features, open_looks, rows_shown
from nearer.data.reader import Dataset, open_dataset, read_progress
from nearer.data.schema import INFO_PATH, Feature
from nearer.data.writer import DatasetWriter, EpisodeFrames
from nearer.demonstrations import Demonstrations
from nearer.episode import Ended, Episode, Observation, ScoredEpisode
from nearer.errors import DatasetError
from nearer.progress import Watch, unwatched
from nearer.protocols import Sight, Spaces, StackingSight
from nearer.shapes import Array

AGENT_POS = "observation.state"
ENVIRONMENT_STATE = "observation.environment_state"
FEATURES = "observation.features"
REWARD_FEATURES = "observation.reward_features"
_ENDED = tuple(Ended)


def create_dataset(
    root: Path,
    spaces: Spaces,
    fps: int,
    robot_type: str,
    features: int = 0,
    pictures: Kept = "video",
    reward_features: int = 0,
) -> DatasetWriter:
    """Start a data set for episodes of these sizes.

    Args:
        root: a new folder.
        spaces: sizes of observations and actions.
        fps: control rate, Hz.
        robot_type: what the data set says of the robot.
        features: numbers a frame that a model's sight makes of its pictures.
        pictures: how the cameras' pictures are kept; with "none" they are not.
        reward_features: numbers a frame that the reward model's sight makes of its pictures, where
            it has another one.
    """
    widths = {
        AGENT_POS: spaces.agent_pos,
        ENVIRONMENT_STATE: spaces.environment_state,
        FEATURES: features,
        REWARD_FEATURES: reward_features,
        "action": spaces.action,
    }
    numbers = {
        key: Feature(dtype="float32", shape=(width,)) for key, width in widths.items() if width
    }
    done = {"next.done": Feature(dtype="bool", shape=(1,))}
    cameras = camera_features(spaces.cameras, pictures, fps)
    return DatasetWriter.create(root, {**numbers, **done, **cameras}, fps, robot_type)


def episode_frames(episode: Episode, *, with_pictures: bool = True) -> EpisodeFrames:
    """Return an episode as frames: one a control step, and one for the final observation.

    The format wants an action in every frame; the final one repeats the last action and is never
    trained on. `next.done` is true where the action led to the final observation, and after it.
    """
    last_two = np.arange(episode.num_steps + 1) >= episode.num_steps - 1
    columns = {
        AGENT_POS: episode.observations.agent_pos,
        ENVIRONMENT_STATE: episode.observations.environment_state,
        FEATURES: episode.observations.features,
        REWARD_FEATURES: episode.observations.reward_features,
        "action": np.concatenate([episode.actions, episode.actions[-1:]]),
        "next.done": last_two[:, None],
    }
    pictures = {
        IMAGES + camera: picture
        for camera, picture in episode.observations.images.items()
        if with_pictures
    }
    numbers = {key: values for key, values in columns.items() if values.shape[1]}
    return EpisodeFrames(task=episode.instruction, columns={**numbers, **pictures})


def dataset_spaces(dataset: Dataset) -> Spaces:
    """Return the sizes of a data set's observations and actions.

    Raises:
        DatasetError: the data set cannot be trained on; says why.
    """
    check_trainable(dataset)
    return Spaces(
        agent_pos=_width(dataset, AGENT_POS),
        environment_state=_width(dataset, ENVIRONMENT_STATE),
        action=_width(dataset, "action"),
        cameras=cameras_of(dataset),
        control_hz=int(dataset.info.fps),
    )


def load_demonstrations(
    dataset: Dataset,
    sight: Sight | None = None,
    episodes: Int64[Array, "episodes"] | None = None,
    cache: Path | None = None,
    watch: Watch = unwatched,
) -> Demonstrations:
    """Return a data set as Stage 1 reads it, its pictures looked at by a model's sight.

    Args:
        dataset: what to learn from.
        sight: the model's; None for a model that sees no pictures.
        episodes: rows of the episodes to read, in this order; None: all of them.
        cache: folder of decoded frames and features; None: the user's cache folder.
        watch: sees the progress of decoding and looking.

    Raises:
        DatasetError: the data set cannot be trained on; says why.
    """
    chosen = np.arange(len(dataset.episode_lengths)) if episodes is None else episodes
    rows, lengths = episode_rows(dataset, chosen), dataset.episode_lengths[chosen]
    features, shown = np.zeros((len(rows), 0), dtype=np.float32), None
    if isinstance(sight, StackingSight):
        features = open_looks(dataset, sight, chosen, cache, watch)
        shown = torch.from_numpy(rows_shown(lengths, sight.shown_frames))
    elif sight is not None:
        features = open_features(dataset, sight, chosen, cache, watch)
    left = np.repeat(np.cumsum(lengths) - 1, lengths) - np.arange(len(rows))
    return Demonstrations(
        state=_states(dataset, rows, needed=sight is None),
        features=torch.from_numpy(features),
        shown=shown,
        actions=torch.from_numpy(np.array(dataset.columns["action"][rows], dtype=np.float32)),
        steps_to_go=torch.from_numpy(left),
        episode_lengths=lengths,
        instructions=tuple(dataset.task_of_episode(int(row)) for row in chosen),
        spaces=dataset_spaces(dataset),
    )


def _states(
    dataset: Dataset, rows: Int64[Array, "frames"], *, needed: bool
) -> Float[Tensor, "frames state"]:
    """Return proprioception and environment state side by side."""
    if needed and not {AGENT_POS, ENVIRONMENT_STATE} & dataset.columns.keys():
        raise DatasetError(
            f"{dataset.root} must have {AGENT_POS} or {ENVIRONMENT_STATE} for --model mlp, got "
            f"{sorted(dataset.info.features)}; choose a model that sees pictures"
        )
    none = np.zeros((dataset.info.total_frames, 0), dtype=np.float32)
    parts = [dataset.columns.get(key, none)[rows] for key in (AGENT_POS, ENVIRONMENT_STATE)]
    return torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32))


def read_practice(root: Path) -> list[ScoredEpisode]:
    """Return the practised episodes of a run's practice folder, in the order they were stored.

    Raises:
        DatasetError: it is no data set, or has no progress sidecar.
    """
    iterations = _read_iterations(root)
    if not iterations:
        raise DatasetError(
            f"{root} must hold practised episodes with their progress, got none; name the practice "
            "folder of a run of nearer improve"
        )
    return [one for stored in iterations.values() for one in stored]


class PracticeStore:
    """The practised episodes of a run: a LeRobotDataset with the progress sidecar.

    One append an iteration. An iteration that is on disk is read back on resume, so that nothing
    a robot has done is done twice.
    """

    def __init__(self, writer: DatasetWriter) -> None:
        self._writer = writer
        self._stored = _read_iterations(writer.root)

    @classmethod
    def open(
        cls,
        root: Path,
        spaces: Spaces,
        fps: int,
        robot_type: str,
        features: int = 0,
        reward_features: int = 0,
    ) -> "PracticeStore":
        """Continue the store of a run, or start one.

        Args:
            root: the store's folder.
            spaces: sizes of observations and actions.
            fps: control rate, Hz.
            robot_type: what the data set says of the robot.
            features: numbers a frame that the policy's sight makes of its pictures; these are
                kept in place of the pictures.
            reward_features: the same of the reward model's sight, where it has another one.

        Raises:
            DatasetError: it holds episodes, but not what says how many.
        """
        if not (root / INFO_PATH).exists():
            if any(root.glob("data/**/*.parquet")):
                raise DatasetError(
                    f"{root} must have the file {INFO_PATH} beside its episodes, got none; restore "
                    "it, or start a new run with another --out"
                )
            # A process that was killed while it started the store leaves meta files, no more.
            shutil.rmtree(root, ignore_errors=True)
            blind, seen = replace(spaces, cameras=()), reward_features
            writer = create_dataset(root, blind, fps, robot_type, features, reward_features=seen)
            return cls(writer)
        committed = open_dataset(root).info.total_episodes
        return cls(DatasetWriter.resume(root, committed))

    def read(self, iteration: int) -> list[ScoredEpisode]:
        """Return what an earlier process stored of this iteration; empty if nothing."""
        return self._stored.get(iteration, [])

    def append(self, iteration: int, scored: Sequence[ScoredEpisode]) -> None:
        """Store the episodes of an iteration; durable when this returns."""
        self._writer.append(
            [episode_frames(one.episode, with_pictures=False) for one in scored],
            progress=[_progress_columns(iteration, one) for one in scored],
        )


def _progress_columns(iteration: int, one: ScoredEpisode) -> Mapping[str, Array]:
    """Return the sidecar's columns; reward, return and log_prob of the final frame are zero."""
    episode = one.episode
    frames = episode.num_steps + 1
    constants = {
        "policy_version": episode.policy_version,
        "robot": episode.robot,
        "seed": episode.seed,
        "iteration": iteration,
        "ended": _ENDED.index(episode.ended),
    }
    return {
        "steps_to_go": one.steps_to_go,
        "steps_to_go_std": one.steps_to_go_std,
        "quantiles": one.quantiles,
        "reward": np.append(one.rewards, np.float32(0)),
        "return": np.append(one.returns, np.float32(0)),
        "success_detected": one.solved,
        "log_prob": np.append(episode.log_prob, np.float32(0)),
        **{name: np.full(frames, value, dtype=np.int64) for name, value in constants.items()},
    }


def _read_iterations(root: Path) -> dict[int, list[ScoredEpisode]]:
    dataset = open_dataset(root)
    progress = read_progress(dataset)
    iterations: dict[int, list[ScoredEpisode]] = {}
    if progress is None:
        return iterations
    for row, (start, length) in enumerate(
        zip(dataset.episode_starts, dataset.episode_lengths, strict=True)
    ):
        frames = slice(start, start + length)
        one = _scored(dataset, progress, frames, dataset.task_of_episode(row))
        iterations.setdefault(int(progress["iteration"][start]), []).append(one)
    return iterations


def _scored(
    dataset: Dataset, progress: Mapping[str, Array], frames: slice, instruction: str
) -> ScoredEpisode:
    def column(name: str) -> Array:
        return progress[name][frames]

    def state(key: str) -> Array:
        none = np.zeros((dataset.info.total_frames, 0), dtype=np.float32)
        return np.array(dataset.columns.get(key, none)[frames])

    episode = Episode(
        robot=int(column("robot")[0]),
        seed=int(column("seed")[0]),
        instruction=instruction,
        policy_version=int(column("policy_version")[0]),
        observations=Observation(
            agent_pos=state(AGENT_POS),
            environment_state=state(ENVIRONMENT_STATE),
            features=state(FEATURES),
            reward_features=state(REWARD_FEATURES),
        ),
        actions=np.array(dataset.columns["action"][frames][:-1]),
        log_prob=column("log_prob")[:-1].copy(),
        ended=_ENDED[int(column("ended")[0])],
    )
    return ScoredEpisode(
        episode=episode,
        steps_to_go=column("steps_to_go").copy(),
        steps_to_go_std=column("steps_to_go_std").copy(),
        quantiles=column("quantiles").copy(),
        rewards=column("reward")[:-1].copy(),
        returns=column("return")[:-1].copy(),
        solved=column("success_detected").copy(),
    )


def _width(dataset: Dataset, key: str) -> int:
    return dataset.columns[key].shape[1] if key in dataset.columns else 0
