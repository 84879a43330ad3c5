"""What a frozen sight makes of a data set's pictures: computed once a frame, kept on disk.

A sight does not learn, so its answer to a frame never changes. Answers are kept under the
identities of data set and sight: another data set, or other weights, are looked at anew.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, Int64

from nearer.data.cache import CachedArray, write_array, write_header
from nearer.data.cameras import camera_key, cameras_of
from nearer.data.frames import open_frames
from nearer.data.reader import Dataset
from nearer.data.staging import StagedFiles
from nearer.demonstrations import frame_rows
from nearer.errors import DatasetError
from nearer.progress import Progress, Watch, unwatched
from nearer.protocols import AdaptableSight, Films, Sight
from nearer.seeds import Purpose, generator
from nearer.shapes import Array

_ROWS_A_PART = 2048
"""Durable once computed: a kill loses less than these. Some 20 s of a small tower on one core."""

_ROWS_A_LOOK = 128


def open_looks(
    dataset: Dataset,
    sight: Sight,
    episodes: Int64[Array, "episodes"],
    cache: Path | None = None,
    watch: Watch = unwatched,
) -> Float32[Array, "frames looks"]:
    """Return what a sight's look at every frame gives, seen with its episode's instruction in mind.

    Computed now unless it has been before; continues where it was interrupted. Pictures are
    decoded on the way, which takes a small part of the time and no room on the disk.

    Args:
        dataset: Whose frames; all its colour cameras are shown to the sight.
        sight: Looks at pictures.
        episodes: Rows of the episodes that are looked at; their frames come in this order.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        watch: Sees the progress of looking.

    Raises:
        DatasetError: No camera, a damaged file, no room on the disk, or features that are not
            finite.
    """
    if not cameras_of(dataset):
        raise DatasetError(
            f"{dataset.root} must have pictures of a camera for a model that sees, got "
            f"{sorted(dataset.info.features)}; use --model mlp, or record with a camera"
        )
    rows = episode_rows(dataset, episodes)
    shape = (len(rows), sight.look_width)
    name = "features-" + _hash(sight.identity, episodes)
    features = CachedArray(name=name, shape=shape, dtype="float32", mode="c")

    def look(path: Path) -> None:
        _write_parts(dataset, sight, rows, path, watch)
        _join_parts(path, shape)

    return features.open(dataset, cache, look)


def open_features(
    dataset: Dataset,
    sight: Sight,
    episodes: Int64[Array, "episodes"],
    cache: Path | None = None,
    watch: Watch = unwatched,
) -> Float32[Array, "frames features"]:
    """Return the features of every frame: looks that are followed through each episode.

    Looks are kept on disk, see `open_looks`; following them takes no time worth keeping.
    """
    looks = open_looks(dataset, sight, episodes, cache, watch)
    features = np.zeros((len(looks), sight.width), dtype=np.float32)
    lengths = dataset.episode_lengths[episodes]
    starts = np.cumsum(lengths) - lengths
    features[starts] = sight.follow(None, looks[starts])
    for step in range(1, int(lengths.max())):
        rows = starts[lengths > step] + step
        features[rows] = sight.follow(features[rows - 1], looks[rows])
    return features


def adapt_sight(
    dataset: Dataset,
    sight: AdaptableSight,
    episodes: Int64[Array, "episodes"],
    updates: int,
    seed: int,
    cache: Path | None = None,
    watch: Watch = unwatched,
) -> None:
    """Let a sight learn from these episodes' own frames, in place.

    What it learned is kept on disk like what it sees, so a run that goes on sees the same.

    Args:
        dataset: Whose frames.
        sight: Learns.
        episodes: Rows of the episodes.
        updates: Gradient updates.
        seed: Of their minibatches.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        watch: Sees the progress of looking, decoding and learning.

    Raises:
        DatasetError: As `open_looks` and `open_frames` raise it.
    """

    def learn(path: Path) -> None:
        films = _films(dataset, sight, episodes, cache, watch)
        sight.learn(films, updates, generator(Purpose.SFT_SIGHT, seed), watch)
        write_array(path, sight.weights())

    name = "sight-" + _hash(f"{sight.identity} {updates} {seed}", episodes)
    shape = sight.weights().shape
    learned = CachedArray(name=name, shape=shape, dtype="float32", mode="c")
    sight.take(learned.open(dataset, cache, learn))


def _films(
    dataset: Dataset,
    sight: Sight,
    episodes: Int64[Array, "episodes"],
    cache: Path | None,
    watch: Watch,
) -> Films:
    cameras = [camera.name for camera in cameras_of(dataset)]
    return Films(
        looks=open_looks(dataset, sight, episodes, cache, watch),
        pictures={one: open_frames(dataset, one, cache, watch).pictures for one in cameras},
        rows=episode_rows(dataset, episodes),
        episode_lengths=dataset.episode_lengths[episodes],
        instructions=[dataset.task_of_episode(int(row)) for row in episodes],
    )


def episode_rows(dataset: Dataset, episodes: Int64[Array, "episodes"]) -> Int64[Array, "frames"]:
    """Return the rows of all frames of these episodes, in their order."""
    return frame_rows(dataset.episode_starts[episodes], dataset.episode_lengths[episodes])


def _hash(identity: str, episodes: Int64[Array, "episodes"]) -> str:
    digest = hashlib.blake2b(identity.encode(), digest_size=16)
    digest.update(episodes.astype(np.int64).tobytes())
    return digest.hexdigest()


def _write_parts(
    dataset: Dataset, sight: Sight, chosen: Int64[Array, "frames"], path: Path, watch: Watch
) -> None:
    """Look at every chosen frame whose features are not on the disk yet."""
    total = len(chosen)
    instructions = [dataset.task_of_episode(row) for row in range(len(dataset.episode_lengths))]
    for number, start in enumerate(range(0, total, _ROWS_A_PART)):
        stop = min(start + _ROWS_A_PART, total)
        part = _part(path, number)
        if not part.exists():
            found: list[Float32[Array, "rows features"]] = []
            for first in range(start, stop, _ROWS_A_LOOK):
                watch(Progress(stage="looking at pictures", done=first, total=total))
                rows = chosen[first : min(first + _ROWS_A_LOOK, stop)]
                found.append(_look(dataset, sight, rows, instructions))
            write_array(part, np.concatenate(found))
        watch(Progress(stage="looking at pictures", done=stop, total=total))


def _look(
    dataset: Dataset, sight: Sight, rows: Int[Array, "rows"], instructions: Sequence[str]
) -> Float32[Array, "rows features"]:
    images = {
        camera.name: dataset.frames(camera_key(dataset, camera.name), rows)
        for camera in cameras_of(dataset)
    }
    episodes: list[int] = dataset.columns["episode_index"][rows].tolist()
    found = np.asarray(sight.look(images, [instructions[row] for row in episodes]), np.float32)
    assert found.shape == (len(rows), sight.look_width), f"{found.shape} is no look of {sight}"
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(wrong):
        raise DatasetError(
            f"the features of frame {rows[wrong[0]]} of {dataset.root} must be finite, got NaN or "
            "infinity; the model's weights are damaged, restore its checkpoint or pretrain again"
        )
    return found


def _join_parts(path: Path, shape: tuple[int, int]) -> None:
    """Make one array of all parts, then delete them."""
    parts = [_part(path, number) for number in range(-(-shape[0] // _ROWS_A_PART))]
    with StagedFiles() as staged:
        with staged.open(path, replace=True) as handle:
            write_header(handle, shape, "float32")
            for part in parts:
                handle.write(np.load(part).tobytes())
        staged.commit()
    for part in parts:
        part.unlink()


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.part-{number:05d}.npy")
