"""Writing a LeRobotDataset v3.0, append by append.

Each append makes a new data file, a new file of the episodes table, an mp4 per video camera and, if
asked, a progress file. Then it replaces tasks.parquet, stats.json and, last, info.json, whose
`total_episodes` is the commit point: a process that is killed at any moment leaves a data set that
opens at the last append. Only stats.json can then be one append ahead; `resume` computes it anew.

Where the next episode would bring a data file or an mp4 to `data_files_size_in_mb` or
`video_files_size_in_mb` of info.json, the append goes on in another one. All of an append's files
appear together. They are numbered from the first number that is free in every folder, so a folder
that needs fewer files than another leaves some numbers out.

An append costs some 20 ms beside its episodes, and holds their images in memory: feed it 100 to
300 episodes at a time. 256 episodes of 36 images of 96 x 128 make an mp4 of 15 MB.
"""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot import parquet
from nearer.datasets.lerobot.columns import (
    EpisodeFrames,
    Rows,
    check_episodes,
    episodes_table,
    feature_statistics,
    frame_columns,
    progress_table,
)
from nearer.datasets.lerobot.episodes_table import read_episodes_table
from nearer.datasets.lerobot.feature import STANDARD_FEATURES, Feature, check_new_features
from nearer.datasets.lerobot.frame_files import stage_frames
from nearer.datasets.lerobot.resume import (
    check_boundary,
    check_no_gaps,
    kept_files,
    kept_statistics,
    kept_tasks,
    next_file,
    remove_leftovers,
    resume_columns,
)
from nearer.datasets.lerobot.schema import (
    CODEBASE_VERSION,
    EPISODES_PATH,
    INFO_PATH,
    PROGRESS_PATH,
    STATS_PATH,
    TASKS_PATH,
    DatasetInfo,
    new_info,
    numbered_file,
    read_info,
)
from nearer.datasets.lerobot.statistics import FeatureStatistics, aggregate, stack
from nearer.datasets.lerobot.videos import LEROBOT_ENCODING, VideoEncoding
from nearer.runs.documents import HEADER
from nearer.runs.files import StagedFiles, holds_something

__all__ = ["DatasetWriter", "EpisodeFrames"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    """What stands on disk after an append.

    Args:
        info: What meta/info.json says.
        tasks: Instructions by task_index.
        statistics: Of all episodes together, by feature; empty without episodes.
        next_file: Number of the next file in every folder, counted through all chunks.
    """

    info: DatasetInfo
    tasks: tuple[str, ...] = ()
    statistics: Mapping[str, FeatureStatistics] = field(
        default_factory=dict[str, FeatureStatistics]
    )
    next_file: int = 0

    def after(
        self,
        *,
        num_episodes: int,
        num_frames: int,
        tasks: tuple[str, ...],
        statistics: Mapping[str, FeatureStatistics],
        next_file: int,
    ) -> "_Committed":
        """Return the same data set with other totals."""
        info = replace(
            self.info,
            total_episodes=num_episodes,
            total_frames=num_frames,
            total_tasks=len(tasks),
        )
        return _Committed(
            info=info,
            tasks=tasks,
            statistics=statistics,
            next_file=next_file,
        )


class DatasetWriter:
    """Appends episodes to a data set; one writer at a time."""

    def __init__(self, root: Path, committed: _Committed) -> None:
        """Continue from what stands on disk; use `create` or `resume`."""
        self.root = root
        self._committed = committed

    @property
    def info(self) -> DatasetInfo:
        """What meta/info.json says after the last append."""
        return self._committed.info

    @classmethod
    def create(
        cls,
        root: Path | str,
        features: Mapping[str, Feature],
        fps: int,
        robot_type: str | None = None,
    ) -> "DatasetWriter":
        """Start a data set without episodes.

        Args:
            root: A folder that does not exist yet or is empty, but for a run.json.
            features: All but the standard ones, in the order of the columns.
            fps: Frames per second, in Hz.
            robot_type: The robot's name, or None.

        Raises:
            DatasetError: The folder holds something, features cannot be written, or the disk is
                full.
        """
        root = Path(root)
        check_new_features(features)
        if fps < 1:
            raise DatasetError(f"fps must be a whole number of frames per second, got {fps}")
        with _explained(root, 0):
            occupied = root.is_file() or holds_something(root, besides=HEADER)
        if occupied:
            raise DatasetError(
                f"{root} must be an empty or new folder, got one that holds something; "
                "choose another, or continue it with DatasetWriter.resume"
            )
        described = {key: _with_video_info(feature, fps) for key, feature in features.items()}
        committed = _Committed(info=new_info(described, fps, robot_type))
        with _explained(root, 0), StagedFiles() as staged:
            _stage_meta(staged, root, committed)
            staged.commit()
        return cls(root, committed)

    @classmethod
    def resume(cls, root: Path | str, num_episodes: int) -> "DatasetWriter":
        """Continue a data set after its first episodes, as a checkpoint counted them.

        Later episodes, and whatever a killed process left behind, are deleted.

        Args:
            root: The folder that holds meta/info.json.
            num_episodes: How many to keep: all of them, or as many as there were after some
                append.

        Raises:
            DatasetError: No data set, fewer episodes than that, or a cut inside an append.
        """
        root = Path(root)
        info = read_info(root)
        if info.version != CODEBASE_VERSION:
            raise DatasetError(
                f"{root} must be a LeRobotDataset {CODEBASE_VERSION} to append to, got "
                f"{info.version}; record into a new data set"
            )
        own = info.features.keys() - STANDARD_FEATURES.keys()
        check_new_features({key: info.features[key] for key in own})
        if not 0 <= num_episodes <= info.total_episodes:
            raise DatasetError(
                f"num_episodes must lie in [0, {info.total_episodes}], the episodes of {root}, "
                f"got {num_episodes}; resume from a checkpoint that belongs to this data set"
            )
        table = read_episodes_table(root, info, resume_columns(info))
        check_no_gaps(root, table)
        check_boundary(root, info, table, num_episodes)
        kept = {name: values[:num_episodes] for name, values in table.items()}
        committed = _Committed(info=info).after(
            num_episodes=num_episodes,
            num_frames=int(kept["length"].sum()),
            tasks=kept_tasks(root, info, num_episodes),
            statistics=kept_statistics(info, kept),
            next_file=next_file(info, kept),
        )
        with _explained(root, num_episodes):
            # info.json first: until it forgets the later episodes, their tasks must stay.
            for stage in (_stage_info, _stage_meta):
                with StagedFiles() as staged:
                    stage(staged, root, committed)
                    staged.commit()
            remove_leftovers(root, kept_files(root, info, kept))
        return cls(root, committed)

    def append(
        self,
        episodes: Sequence[EpisodeFrames],
        progress: Sequence[Mapping[str, Array]] | None = None,
    ) -> None:
        """Write episodes; all of them exist when this returns, and none if it raises.

        Args:
            episodes: One or thousands; the cost per append is a few files and disk flushes.
            progress: What to keep beside the frames of each episode, [frames] or [frames, n] by
                name, the same names and dtypes in every append; None writes no progress file.

        Raises:
            DatasetError: An episode does not fit the features, another writer is at work, or the
                disk is full; earlier appends are unharmed.
        """
        before = self._committed
        if not (self.root / INFO_PATH).exists():
            raise DatasetError(
                f"{self.root} must stay where it is while episodes are written, got no {INFO_PATH} "
                "there any more: somebody has deleted or moved it; restore it and continue with "
                "--resume, or start again"
            )
        rows = Rows(
            first_episode=before.info.total_episodes,
            first_frame=before.info.total_frames,
            lengths=check_episodes(before.info.features, episodes),
        )
        with _explained(self.root, before.info.total_episodes), StagedFiles() as staged:
            after = _stage_episodes(staged, self.root, before, episodes, rows)
            if progress is not None:
                place = divmod(before.next_file, before.info.chunks_size)
                with staged.open(self.root / numbered_file(PROGRESS_PATH, *place)) as handle:
                    parquet.write_tables(handle, [progress_table(progress, rows)])
            _stage_meta(staged, self.root, after)
            staged.commit()
            self._committed = after


def _stage_episodes(
    staged: StagedFiles,
    root: Path,
    before: _Committed,
    episodes: Sequence[EpisodeFrames],
    rows: Rows,
) -> _Committed:
    """Write the append's data, video and episodes files; return what stands when they count."""
    info, lengths = before.info, rows.lengths
    number_of_task = {task: number for number, task in enumerate(before.tasks)}
    for episode in episodes:
        number_of_task.setdefault(episode.task, len(number_of_task))
    names = [episode.task for episode in episodes]
    task_indices = np.array([number_of_task[name] for name in names], dtype=np.int64)
    columns = frame_columns(info.features, episodes, rows, task_indices, info.fps)
    statistics = feature_statistics(info.features, columns, episodes, lengths)
    first_file = before.next_file
    files = stage_frames(staged, root, info, first_file, episodes, columns, lengths)
    files["meta/episodes"] = np.full(len(episodes), first_file)
    place = divmod(first_file, info.chunks_size)
    with staged.open(root / numbered_file(EPISODES_PATH, *place)) as handle:
        table = episodes_table(rows, names, statistics, files, info)
        parquet.write_tables(handle, [table])
    return before.after(
        num_episodes=info.total_episodes + len(episodes),
        num_frames=info.total_frames + int(lengths.sum()),
        tasks=tuple(number_of_task),
        statistics=_merged(before.statistics, statistics),
        next_file=1 + max(int(numbers[-1]) for numbers in files.values()),
    )


def _stage_meta(staged: StagedFiles, root: Path, committed: _Committed) -> None:
    """Write tasks, statistics and info.json; the last is the commit point."""
    with staged.open(root / TASKS_PATH, replace=True) as handle:
        parquet.write_tables(handle, [parquet.tasks_table(committed.tasks)])
    _stage_json(
        staged,
        root / STATS_PATH,
        {key: values.to_json() for key, values in committed.statistics.items()},
    )
    _stage_info(staged, root, committed)


def _stage_info(staged: StagedFiles, root: Path, committed: _Committed) -> None:
    _stage_json(staged, root / INFO_PATH, committed.info.to_json())


def _stage_json(staged: StagedFiles, path: Path, document: Mapping[str, object]) -> None:
    with staged.open(path, replace=True) as handle:
        handle.write(json.dumps(document, indent=4, ensure_ascii=False).encode())


@contextmanager
def _explained(root: Path, num_episodes: int) -> Generator[None, None, None]:
    """Turn a failure of the disk into a sentence that says what is kept."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{root} must be on a disk that can be written, got {error.strerror or error}; the "
            f"first {num_episodes} episodes are kept and unharmed, what came after is not "
            "written; free some space, then append again or continue with --resume"
        ) from error


def _with_video_info(feature: Feature, fps: int) -> Feature:
    if feature.dtype != "video":
        return feature
    encoding = VideoEncoding.of(feature.info) if feature.info else LEROBOT_ENCODING
    return replace(feature, info=encoding.info(*feature.image_size, fps))


def _merged(
    before: Mapping[str, FeatureStatistics], episodes: Mapping[str, FeatureStatistics]
) -> Mapping[str, FeatureStatistics]:
    """Return the statistics of a data set with an append's episodes added."""
    added = {key: aggregate(values) for key, values in episodes.items()}
    if not before:
        return added
    return {key: aggregate(stack([before[key], values])) for key, values in added.items()}
