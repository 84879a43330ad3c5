"""The practised episodes of a run, stored as a LeRobotDataset and read back when it resumes."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation, ScoredEpisode
from nearer.core.errors import DatasetError
from nearer.core.spaces import Spaces
from nearer.datasets.episodes import (
    AGENT_POS,
    ENVIRONMENT_STATE,
    FEATURES,
    REWARD_FEATURES,
    create_dataset,
    episode_frames,
)
from nearer.datasets.lerobot.reader import Dataset, open_dataset, read_progress
from nearer.datasets.lerobot.schema import INFO_PATH
from nearer.datasets.lerobot.writer import DatasetWriter

_ENDED = tuple(Ended)


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
    return [episode for stored in iterations.values() for episode in stored]


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
            features: numbers a frame that the policy's vision encoder returns; these are stored in
                place of the images.
            reward_features: the same of the reward model's vision encoder, where it has its own.

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
            writer = create_dataset(
                root,
                replace(spaces, cameras=()),
                fps,
                robot_type,
                features,
                reward_features=reward_features,
            )
            return cls(writer)
        committed = open_dataset(root).info.total_episodes
        return cls(DatasetWriter.resume(root, committed))

    def read(self, iteration: int) -> list[ScoredEpisode]:
        """Return what an earlier process stored of this iteration; empty if nothing."""
        return self._stored.get(iteration, [])

    def append(self, iteration: int, scored: Sequence[ScoredEpisode]) -> None:
        """Store the episodes of an iteration; durable when this returns."""
        self._writer.append(
            [
                episode_frames(scored_episode.episode, with_images=False)
                for scored_episode in scored
            ],
            progress=[_progress_columns(iteration, scored_episode) for scored_episode in scored],
        )


def _progress_columns(iteration: int, scored: ScoredEpisode) -> Mapping[str, Array]:
    """Return the sidecar's columns; reward, return and log_prob of the final frame are zero."""
    episode = scored.episode
    frames = episode.num_steps + 1
    constants = {
        "policy_version": episode.policy_version,
        "robot": episode.robot,
        "seed": episode.seed,
        "iteration": iteration,
        "ended": _ENDED.index(episode.ended),
    }
    return {
        "steps_to_go": scored.steps_to_go,
        "steps_to_go_std": scored.steps_to_go_std,
        "quantiles": scored.quantiles,
        "reward": np.append(scored.rewards, np.float32(0)),
        "return": np.append(scored.returns, np.float32(0)),
        "success_detected": scored.solved,
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
        scored = _scored(dataset, progress, frames, dataset.task_of_episode(row))
        iterations.setdefault(int(progress["iteration"][start]), []).append(scored)
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
        observations=EncodedObservation(
            observation=Observation(
                agent_pos=state(AGENT_POS), environment_state=state(ENVIRONMENT_STATE)
            ),
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
