"""What a frozen sight makes of a data set's images: computed once a frame, kept on disk.

A sight does not learn, so its answer to a frame never changes. Answers are kept under the
identities of data set and sight: another data set, or other weights, are looked at anew.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64, Num, UInt8

from nearer.algorithm.demonstrations import frame_rows
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.errors import DatasetError
from nearer.core.seeds import Purpose, generator
from nearer.core.vision import (
    Clips,
    ComparingVisionEncoder,
    StackingVisionEncoder,
    TrainableVisionEncoder,
    VisionEncoder,
)
from nearer.datasets.caching.arrays import CachedArray, write_array, write_header
from nearer.datasets.caching.frames import drop_frames, open_frames
from nearer.datasets.lerobot.cameras import camera_key, cameras_of
from nearer.datasets.lerobot.reader import Dataset
from nearer.runs.files import StagedFiles

_ROWS_A_PART = 2048
"""Durable once computed: a kill loses less than these. Some 20 s of a small tower on one core."""

_ROWS_A_LOOK = 128

Images = Mapping[str, UInt8[Array, "frames h w c"]]
"""Images of the same frames, by camera."""


def open_encodings(
    dataset: Dataset,
    vision_encoder: VisionEncoder,
    episodes: Int64[Array, "episodes"],
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Num[Array, "frames looks"]:
    """Return what a sight's look at every frame gives, seen with its episode's instruction in mind.

    Computed now unless it has been before; continues where it was interrupted. Images are
    decoded on the way, which takes a small part of the time and no room on the disk.

    Args:
        dataset: Whose frames; all its colour cameras are shown to the sight.
        vision_encoder: Looks at images.
        episodes: Rows of the episodes that are looked at; their frames come in this order.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of looking.

    Raises:
        DatasetError: No camera, a damaged file, no room on the disk, or features that are not
            finite.
    """
    rows = episode_rows(dataset, episodes)
    owners: list[int] = dataset.columns["episode_index"][rows].tolist()
    task = {int(row): dataset.task_of_episode(int(row)) for row in episodes}
    asked = [task[owner] for owner in owners]

    def encode(images: Images, part: slice) -> Num[Array, "rows looks"]:
        return vision_encoder.encode(images, asked[part])

    name = "features-" + _hash(vision_encoder.identity, episodes)
    kind = (
        vision_encoder.encoding_dtype
        if isinstance(vision_encoder, StackingVisionEncoder)
        else "float32"
    )
    return _kept(
        dataset,
        name,
        _Looking(rows, vision_encoder.encoding_width, kind, encode),
        cache,
        on_progress,
    )


def open_features(
    dataset: Dataset,
    vision_encoder: VisionEncoder,
    episodes: Int64[Array, "episodes"],
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Float32[Array, "frames features"]:
    """Return the features of every frame: looks that are followed through each episode.

    Looks are kept on disk, see `open_looks`; following them takes no time worth keeping.
    """
    encodings = open_encodings(dataset, vision_encoder, episodes, cache, on_progress)
    features = np.zeros((len(encodings), vision_encoder.width), dtype=np.float32)
    lengths = dataset.episode_lengths[episodes]
    starts = np.cumsum(lengths) - lengths
    features[starts] = vision_encoder.track(None, encodings[starts])
    for step in range(1, int(lengths.max())):
        rows = starts[lengths > step] + step
        features[rows] = vision_encoder.track(features[rows - 1], encodings[rows])
    return features


def stacked_rows(
    lengths: Int64[Array, "episodes"], num_stacked_frames: int
) -> Int64[Array, "frames shown"]:
    """Return the rows of the looks that each frame's features are, its own last.

    The first frame of an episode stands for those before it.

    Args:
        lengths: frames an episode.
        num_stacked_frames: looks of a frame's features.
    """
    own = np.arange(int(lengths.sum()))
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    return np.stack(
        [np.maximum(own - back, first) for back in range(num_stacked_frames)][::-1], axis=1
    )


def open_candidate_features(
    dataset: Dataset,
    vision_encoder: ComparingVisionEncoder,
    episodes: Int64[Array, "episodes"],
    candidates: Sequence[Sequence[str]],
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> Float32[Array, "episodes 2 candidates features"]:
    """Return the features of first and last frames, seen with each candidate in mind.

    The last frame is seen as if it were a first one, whatever its candidate: only the episode's own
    instruction was followed through all frames, and that would give it away.

    Args:
        dataset: Whose frames.
        vision_encoder: Looks at images.
        episodes: Rows of the episodes that are looked at.
        candidates: Instructions, the same number an episode.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of looking.

    Raises:
        DatasetError: As `open_looks` raises it.
    """
    starts = dataset.episode_starts[episodes]
    rows = np.stack([starts, starts + dataset.episode_lengths[episodes] - 1], axis=1).reshape(-1)
    asked = [one for one in candidates for _ in range(2)]
    width = len(candidates[0])

    def encode(images: Images, part: slice) -> Float32[Array, "rows looks"]:
        return vision_encoder.encode_for_each(images, asked[part]).reshape(
            -1, width * vision_encoder.encoding_width
        )

    name = "candidates-" + _hash(f"{vision_encoder.identity} {candidates}", episodes)
    looking = _Looking(rows, width * vision_encoder.encoding_width, "float32", encode)
    encodings = _kept(dataset, name, looking, cache, on_progress)
    features = vision_encoder.track(None, encodings.reshape(-1, vision_encoder.encoding_width))
    return features.reshape(len(episodes), 2, width, vision_encoder.width)


def train_vision_encoder(
    dataset: Dataset,
    vision_encoder: TrainableVisionEncoder,
    episodes: Int64[Array, "episodes"],
    updates: int,
    seed: int,
    cache: Path | None = None,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Let a sight learn from these episodes' own frames, in place.

    What it learned is kept on disk like what it sees, so a run that goes on sees the same.

    Args:
        dataset: Whose frames.
        vision_encoder: Learns.
        episodes: Rows of the episodes.
        updates: Gradient updates.
        seed: Of their minibatches.
        cache: Folder of what was computed; None for ~/.cache/nearer.
        on_progress: Sees the progress of looking, decoding and learning.

    Raises:
        DatasetError: As `open_looks` and `open_frames` raise it.
    """

    def learn(path: Path) -> None:
        films = _films(dataset, vision_encoder, episodes, cache, on_progress)
        vision_encoder.learn(
            films, updates, generator(Purpose.SFT_VISION_ENCODER, seed), on_progress
        )
        write_array(path, vision_encoder.weights())
        for camera in films.images:  # 20 times the data set's size, and not needed again
            drop_frames(dataset, camera, cache, _decoded_rows(dataset, episodes))

    name = "sight-" + _hash(f"{vision_encoder.identity} {updates} {seed}", episodes)
    shape = vision_encoder.weights().shape
    learned = CachedArray(name=name, shape=shape, dtype="float32", mode="c")
    vision_encoder.take(learned.open(dataset, cache, learn))


def _films(
    dataset: Dataset,
    vision_encoder: VisionEncoder,
    episodes: Int64[Array, "episodes"],
    cache: Path | None,
    on_progress: ProgressCallback,
) -> Clips:
    decoded = _decoded_rows(dataset, episodes)
    return Clips(
        encodings=open_encodings(dataset, vision_encoder, episodes, cache, on_progress),
        images={
            camera.name: open_frames(dataset, camera.name, cache, on_progress, decoded).images
            for camera in cameras_of(dataset)
        },
        rows=np.searchsorted(decoded, episode_rows(dataset, episodes)),
        episode_lengths=dataset.episode_lengths[episodes],
        instructions=[dataset.task_of_episode(int(row)) for row in episodes],
    )


def _decoded_rows(dataset: Dataset, episodes: Int64[Array, "episodes"]) -> Int64[Array, "frames"]:
    """Return the rows of these episodes from first to last, as they are decoded fastest."""
    return np.sort(episode_rows(dataset, episodes))


def episode_rows(dataset: Dataset, episodes: Int64[Array, "episodes"]) -> Int64[Array, "frames"]:
    """Return the rows of all frames of these episodes, in their order."""
    return frame_rows(dataset.episode_starts[episodes], dataset.episode_lengths[episodes])


def _hash(identity: str, episodes: Int64[Array, "episodes"]) -> str:
    digest = hashlib.blake2b(identity.encode(), digest_size=16)
    digest.update(episodes.astype(np.int64).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Looking:
    """How frames are looked at: rows of the data set, numbers a row, the look at a part."""

    rows: Int64[Array, "frames"]
    width: int
    dtype: str
    encode: Callable[[Images, slice], Num[Array, "rows looks"]]


def _kept(
    dataset: Dataset,
    name: str,
    looking: _Looking,
    cache: Path | None,
    on_progress: ProgressCallback,
) -> Num[Array, "frames looks"]:
    """Return the looks at frames under the name they are kept by; look now unless they are."""
    if not cameras_of(dataset):
        raise DatasetError(
            f"{dataset.root} must have images of a camera for a model that sees, got "
            f"{sorted(dataset.info.features)}; use --model mlp, or record with a camera"
        )
    shape = (len(looking.rows), looking.width)

    def encode(path: Path) -> None:
        _write_parts(dataset, looking, path, on_progress)
        _join_parts(path, shape, looking.dtype)

    kept = CachedArray(name=name, shape=shape, dtype=looking.dtype, mode="c")
    return kept.open(dataset, cache, encode)


def _write_parts(
    dataset: Dataset, looking: _Looking, path: Path, on_progress: ProgressCallback
) -> None:
    """Look at every frame whose features are not on the disk yet."""
    total = len(looking.rows)
    for number, start in enumerate(range(0, total, _ROWS_A_PART)):
        stop = min(start + _ROWS_A_PART, total)
        part = _part(path, number)
        if not part.exists():
            found: list[Num[Array, "rows features"]] = []
            for first in range(start, stop, _ROWS_A_LOOK):
                on_progress(Progress(stage="looking at images", done=first, total=total))
                encodings = slice(first, min(first + _ROWS_A_LOOK, stop))
                found.append(_look(dataset, looking, encodings))
            write_array(part, np.concatenate(found))
        on_progress(Progress(stage="looking at images", done=stop, total=total))


def _look(dataset: Dataset, looking: _Looking, part: slice) -> Num[Array, "rows features"]:
    rows = looking.rows[part]
    images = {
        camera.name: dataset.frames(camera_key(dataset, camera.name), rows)
        for camera in cameras_of(dataset)
    }
    found = np.asarray(looking.encode(images, part), looking.dtype)
    assert found.shape == (len(rows), looking.width), f"{found.shape} is no look at {len(rows)}"
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(wrong):
        raise DatasetError(
            f"the features of frame {rows[wrong[0]]} of {dataset.root} must be finite, got NaN or "
            "infinity; the model's weights are damaged, restore its checkpoint or pretrain again"
        )
    return found


def _join_parts(path: Path, shape: tuple[int, int], dtype: str) -> None:
    """Make one array of all parts, then delete them."""
    parts = [_part(path, number) for number in range(-(-shape[0] // _ROWS_A_PART))]
    with StagedFiles() as staged:
        with staged.open(path, replace=True) as handle:
            write_header(handle, shape, dtype)
            for part in parts:
                handle.write(np.load(part).tobytes())
        staged.commit()
    for part in parts:
        part.unlink()


def _part(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}.part-{number:05d}.npy")
