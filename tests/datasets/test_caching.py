"""Decoded images and encodings on disk: computed once, whole or not at all, never outdated."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nearer.algorithm.demonstrations import split_by_episode
from nearer.core.action_chunks import Chunking
from nearer.core.errors import DatasetError
from nearer.core.vision import Decisions
from nearer.datasets.caching import encodings, frames
from nearer.datasets.caching.arrays import default_cache
from nearer.datasets.caching.features import open_features as open_features_of_episodes
from nearer.datasets.caching.frames import open_frames
from nearer.datasets.caching.vision_encoder_training import (
    train_through_objectives,
    train_vision_encoder,
)
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.lerobot.identity import dataset_identity
from nearer.datasets.lerobot.reader import Dataset, open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames

KEY = "observation.images.top"
LENGTHS = (5, 9, 3, 7)
NUM_FRAMES = sum(LENGTHS)


def append(writer: DatasetWriter, lengths: tuple[int, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    writer.append(
        [
            EpisodeFrames(
                task="push " + "far " * number + "left",
                columns={
                    KEY: random.integers(0, 256, (length, 16, 24, 3), dtype=np.uint8),
                    "action": random.random((length, 2), np.float32),
                },
            )
            for number, length in enumerate(lengths)
        ]
    )


def record_dataset(root: Path, storage: str = "image") -> Dataset:
    """Return a data set of two appends."""
    image = Feature(dtype=storage, shape=(16, 24, 3))
    action = Feature(dtype="float32", shape=(2,))
    writer = DatasetWriter.create(root, {KEY: image, "action": action}, fps=5)
    append(writer, LENGTHS[:2], seed=1)
    append(writer, LENGTHS[2:], seed=2)
    return open_dataset(root)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return record_dataset(tmp_path / "set")


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch) -> list[int]:
    """Return the rows that are decoded after this, as they are decoded."""
    rows: list[int] = []
    read_frames = Dataset.frames

    def recording_frames(self, key, indices):
        rows.extend(indices.tolist())
        return read_frames(self, key, indices)

    monkeypatch.setattr(Dataset, "frames", recording_frames)
    return rows


class MeanColourEncoder:
    """Encodes the mean red, green and blue of an image and the number of words."""

    encoding_width = 4
    width = 4

    def __init__(self, identity: str = "mean colour") -> None:
        self.identity = identity
        self.num_encoded = 0

    def encode(self, images, instructions):
        self.num_encoded += len(instructions)
        means = images["top"].mean(axis=(1, 2))
        words = np.array([[len(instruction.split())] for instruction in instructions])
        return np.concatenate([means, words], axis=1).astype(np.float32)

    def track(self, before, encodings):
        return encodings


def open_features(dataset, vision_encoder, cache):
    """Return the features of all episodes."""
    return open_features_of_episodes(
        dataset, vision_encoder, np.arange(len(dataset.episode_lengths)), cache
    )


def small_blocks(monkeypatch) -> None:
    """Decode 4 frames at a time, encode 3, keep parts of 6."""
    monkeypatch.setattr(frames, "BLOCK_BYTES", 4 * 16 * 24 * 3)
    monkeypatch.setattr(encodings, "FRAMES_PER_CALL", 3)
    monkeypatch.setattr(encodings, "FRAMES_PER_PART", 6)


def arrays(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file() and path.stat().st_size)


@pytest.mark.parametrize("storage", ["image", "video"])
def test_open_frames_in_any_order_equal_the_frames_of_the_data_set(
    tmp_path, cache, monkeypatch, storage
):
    dataset = record_dataset(tmp_path / "set", storage)
    small_blocks(monkeypatch)
    opened = open_frames(dataset, "top", cache)
    index = np.array([23, 0, 5, 5, 13, 14, 4])
    np.testing.assert_array_equal(opened.rows(index), dataset.frames(KEY, index))
    assert opened.images.shape == (NUM_FRAMES, 16, 24, 3)
    everything = dataset.frames(KEY, np.arange(NUM_FRAMES))
    np.testing.assert_array_equal(opened.images, everything)


def test_open_frames_a_second_time_decodes_nothing(dataset, cache, decoded):
    open_frames(dataset, "top", cache)
    assert sorted(decoded) == list(range(NUM_FRAMES))
    decoded.clear()
    again = open_frames(open_dataset(dataset.root), "top", cache)
    assert decoded == []
    assert again.rows(np.array([3])).shape == (1, 16, 24, 3)


def test_open_frames_of_a_copied_data_set_decodes_nothing(dataset, cache, decoded, tmp_path):
    open_frames(dataset, "top", cache)
    decoded.clear()
    copy = open_dataset(shutil.copytree(dataset.root, tmp_path / "copy"))
    open_frames(copy, "top", cache)
    assert decoded == []


def test_open_frames_of_a_changed_data_set_decodes_anew_and_deletes_old_ones(dataset, cache):
    old = open_frames(dataset, "top", cache)
    first = dataset_identity(dataset)
    append(DatasetWriter.resume(dataset.root, 4), (6,), seed=3)
    grown = open_dataset(dataset.root)
    opened = open_frames(grown, "top", cache)
    np.testing.assert_array_equal(opened.rows(np.arange(30)), grown.frames(KEY, np.arange(30)))
    assert [path.name for path in cache.iterdir()] == [dataset_identity(grown)]
    assert first != dataset_identity(grown)
    assert old.rows(np.array([0])).any()  # it stays readable while it is open


def test_dataset_identity_with_a_file_written_again_differs(dataset):
    before = dataset_identity(dataset)
    path = dataset.root / "data/chunk-000/file-001.parquet"
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert dataset_identity(dataset) != before


def test_open_frames_of_a_damaged_cache_decodes_anew(dataset, cache):
    whole = open_frames(dataset, "top", cache).rows(np.arange(NUM_FRAMES))
    (path,) = cache.rglob("*.npy")
    for damage in (lambda: os.truncate(path, 5000), lambda: path.write_bytes(b""), path.unlink):
        damage()
        np.testing.assert_array_equal(open_frames(dataset, "top", cache).images, whole)


def test_open_frames_are_read_only_and_their_rows_are_copies(dataset, cache):
    opened = open_frames(dataset, "top", cache)
    assert not opened.images.flags.writeable
    assert opened.rows(np.array([1])).flags.writeable


def test_open_frames_of_unknown_rows_or_cameras_is_refused(dataset, cache):
    opened = open_frames(dataset, "top", cache)
    with pytest.raises(DatasetError, match=r"lie in \[0, 24\), got -1 to 24"):
        opened.rows(np.array([24, -1]))
    assert opened.rows(np.array([], dtype=np.int64)).shape == (0, 16, 24, 3)
    with pytest.raises(DatasetError, match=r"camera 'wrist' .* got the cameras \['top'\]"):
        open_frames(dataset, "wrist", cache)


def test_default_cache_is_that_of_the_users_environment(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    open_frames(dataset, "top")
    assert default_cache() == tmp_path / "xdg/nearer"
    assert list(default_cache().rglob("frames-observation.images.top.npy"))
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache/nearer"


def test_open_frames_progress_counts_every_frame(dataset, cache, monkeypatch):
    small_blocks(monkeypatch)
    reports = []
    open_frames(dataset, "top", cache, reports.append)
    assert [progress.done for progress in reports] == [0, 4, 8, 12, 16, 20, 24]
    assert {progress.total for progress in reports} == {24}


KILLED_PROGRAM = """
import os, signal, sys
import numpy as np
from pathlib import Path
from nearer.datasets.caching import encodings, features, frames
from nearer.datasets.lerobot.reader import open_dataset
sys.path.insert(0, {tests!r})
from test_caching import MeanColourEncoder
frames.BLOCK_BYTES = 4 * 16 * 24 * 3
encodings.FRAMES_PER_CALL, encodings.FRAMES_PER_PART = 3, 6
def kill(progress):
    if progress.done >= 15:
        os.kill(os.getpid(), signal.SIGKILL)
dataset, cache = open_dataset({root!r}), Path({cache!r})
{call}, cache, kill)
"""


def kill_in_the_middle(dataset: Dataset, cache: Path, call: str) -> None:
    tests, root = str(Path(__file__).parent), str(dataset.root)
    code = KILLED_PROGRAM.format(tests=tests, root=root, cache=str(cache), call=call)
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL


def test_open_frames_killed_midway_leaves_no_partial_array(dataset, cache):
    kill_in_the_middle(dataset, cache, "frames.open_frames(dataset, 'top'")
    assert not list(cache.rglob("*.npy"))
    opened = open_frames(dataset, "top", cache)
    np.testing.assert_array_equal(opened.images, dataset.frames(KEY, np.arange(NUM_FRAMES)))
    assert arrays(cache) == ["dataset.json", "frames-observation.images.top.npy"]


def test_open_features_killed_midway_keeps_finished_parts(dataset, cache, monkeypatch):
    whole = open_features(dataset, MeanColourEncoder(), cache.with_name("other")).copy()
    kill_in_the_middle(
        dataset, cache, "features.open_features(dataset, MeanColourEncoder(), np.arange(4)"
    )
    small_blocks(monkeypatch)
    vision_encoder = MeanColourEncoder()
    np.testing.assert_array_equal(open_features(dataset, vision_encoder, cache), whole)
    assert vision_encoder.num_encoded == 12  # of 24: two parts of 6 were whole
    assert len(arrays(cache)) == 2


def test_open_frames_of_a_damaged_video_is_refused_in_one_sentence(tmp_path, cache):
    dataset = record_dataset(tmp_path / "set", "video")
    (path, _) = sorted(dataset.root.rglob("*.mp4"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"file-000\.mp4 must") as caught:
        open_frames(dataset, "top", cache)
    assert "\n" not in str(caught.value)
    assert arrays(cache) == ["dataset.json"]


def test_open_frames_without_room_is_refused_before_decoding(dataset, cache, monkeypatch, decoded):
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 20_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DatasetError, match=r"0\.0 GB free for .*, got 0\.0 GB; free some space"):
        open_frames(dataset, "top", cache)
    assert decoded == []


def test_open_frames_on_a_full_disk_is_refused_and_loses_nothing(dataset, cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(DatasetError, match="got No space left on device; nothing is lost"):
            open_frames(dataset, "top", cache)
        assert arrays(cache) == ["dataset.json"]
    assert open_frames(dataset, "top", cache).rows(np.array([0])).any()


def test_open_frames_in_a_cache_that_is_a_file_is_refused(dataset, tmp_path):
    blocked = tmp_path / "cache"
    blocked.write_text("a file")
    with pytest.raises(DatasetError, match=r"on a disk that can be written .* --cache"):
        open_frames(dataset, "top", blocked)


@pytest.mark.parametrize("storage", ["image", "video"])
def test_open_features_are_the_encodings_of_every_frame(tmp_path, cache, monkeypatch, storage):
    dataset = record_dataset(tmp_path / "set", storage)
    small_blocks(monkeypatch)
    features = open_features(dataset, MeanColourEncoder(), cache)
    images = dataset.frames(KEY, np.arange(NUM_FRAMES))
    np.testing.assert_allclose(features[:, :3], images.mean(axis=(1, 2)), rtol=1e-6)
    words = [2] * 5 + [3] * 9 + [2] * 3 + [3] * 7
    assert features[:, 3].tolist() == words
    assert features.dtype == np.float32


def test_open_features_encodes_once_for_each_vision_encoder(dataset, cache, decoded):
    vision_encoder = MeanColourEncoder()
    first = open_features(dataset, vision_encoder, cache)
    decoded.clear()
    np.testing.assert_array_equal(open_features(dataset, vision_encoder, cache), first)
    assert vision_encoder.num_encoded == NUM_FRAMES
    assert decoded == []
    other = MeanColourEncoder("other weights")
    open_features(dataset, other, cache)
    assert other.num_encoded == NUM_FRAMES


class TrainableColourEncoder(MeanColourEncoder):
    """A trainable vision encoder: how bright the frames of its clips are on average."""

    def __init__(self) -> None:
        super().__init__()
        self.brightness = np.zeros(1, np.float32)
        self.num_trainings = 0
        self.other_instructions = 1
        self.instructions = [("push far left", "push left"), ("push left", "push far left")]

    def encode_for_each(self, images, candidates):
        each = [self.encode(images, of_all) for of_all in zip(*candidates, strict=True)]
        return np.stack(each, axis=1)

    @property
    def learning_identity(self) -> str:
        return self.identity

    def teacher(self) -> "TrainableColourEncoder":
        return self

    def weights(self):
        return self.brightness

    def take(self, weights):
        self.brightness = np.array(weights)
        self.identity = f"brightness {weights}"

    def learn(self, clips, encodings, updates, rng, on_progress=None):
        self.num_trainings += 1
        assert clips.instructions == self.instructions
        assert encodings.shape[1] == len(self.instructions[0])
        assert encodings[0, :, 3].tolist() == [len(x.split()) for x in self.instructions[0]]
        assert len(encodings) == len(clips.rows) == sum(clips.episode_lengths)
        assert len(clips.images["top"]) == len(clips.rows)  # what is not trained on is not decoded
        self.trained_on = clips.images["top"][clips.rows]
        mean = self.trained_on.mean(dtype=np.float64)
        self.take(np.array([mean], np.float32))

    def learn_through_objectives(self, clips, decisions, updates, rng, on_progress=None):
        self.num_trainings += 1
        assert clips.instructions == [("push far left",), ("push left",)]
        self.decisions = decisions
        self.take(np.array([7.0], np.float32))


def test_train_through_objectives_once_and_apart_from_self_training(dataset, cache):
    episodes, vision_encoder = np.array([3, 0]), TrainableColourEncoder()
    decisions = Decisions(
        state=np.zeros((12, 1), np.float32),
        actions=np.zeros((12, 1), np.int64),
        steps_to_go=np.arange(12),
        num_action_tokens=1,
        num_bins=12,
    )
    train_through_objectives(dataset, vision_encoder, episodes, decisions, 5, seed=0, cache=cache)
    assert vision_encoder.decisions is decisions
    assert vision_encoder.brightness.tolist() == [7.0]
    again = TrainableColourEncoder()
    train_through_objectives(dataset, again, episodes, decisions, 5, seed=0, cache=cache)
    assert (again.num_trainings, again.brightness.tolist()) == (0, [7.0])
    other, wider = TrainableColourEncoder(), replace(decisions, num_bins=13)
    train_through_objectives(dataset, other, episodes, wider, 5, seed=0, cache=cache)
    assert other.num_trainings == 1, "other decisions, other weights"
    train_vision_encoder(dataset, again, episodes, 5, seed=0, cache=cache)
    assert again.num_trainings == 1
    assert again.brightness.tolist() != [7.0]


def test_train_vision_encoder_trains_once_on_the_given_episodes(dataset, cache):
    episodes, whole = np.array([3, 0]), dataset.frames(KEY, np.arange(NUM_FRAMES))
    vision_encoder = TrainableColourEncoder()
    train_vision_encoder(dataset, vision_encoder, episodes, 5, seed=0, cache=cache)
    expected = np.concatenate([whole[17:24], whole[:5]])
    np.testing.assert_array_equal(vision_encoder.trained_on, expected)
    assert vision_encoder.brightness[0] == pytest.approx(expected.mean(dtype=np.float64))
    assert not list(cache.rglob("frames-*.npy"))
    again = TrainableColourEncoder()
    train_vision_encoder(dataset, again, episodes, 5, seed=0, cache=cache)
    assert (again.num_trainings, again.num_encoded) == (0, 0)
    assert again.brightness.tolist() == vision_encoder.brightness.tolist()
    train_vision_encoder(dataset, again, episodes, 5, seed=1, cache=cache)
    assert again.num_trainings == 1


def test_train_vision_encoder_on_one_instruction_has_no_others(dataset, cache):
    vision_encoder = TrainableColourEncoder()
    vision_encoder.instructions = [("push far left",)]
    train_vision_encoder(dataset, vision_encoder, np.array([3]), 5, seed=0, cache=cache)
    assert vision_encoder.num_trainings == 1


def test_load_demonstrations_of_some_episodes_keeps_their_order(dataset, cache):
    some = load_demonstrations(dataset, MeanColourEncoder(), np.array([3, 0]), cache)
    every = load_demonstrations(dataset, MeanColourEncoder(), cache=cache)
    rows = [*range(17, 24), *range(5)]
    assert some.features.tolist() == every.features[rows].tolist()
    assert some.actions.tolist() == every.actions[rows].tolist()
    assert some.steps_to_go.tolist() == every.steps_to_go[rows].tolist()
    assert some.instructions == (every.instructions[3], every.instructions[0])
    assert some.episode_lengths.tolist() == [7, 5]


def test_load_demonstrations_of_decisions_encodes_their_frames_alone(dataset, cache):
    chunking, vision_encoder = Chunking(chunk=3), MeanColourEncoder()
    every = load_demonstrations(dataset, MeanColourEncoder(), None, cache, chunking=chunking)
    chunking = Chunking(chunk=3, decision_frames=True)
    decided = load_demonstrations(dataset, vision_encoder, None, cache, chunking=chunking)
    rows = [0, 3, 4, 5, 8, 11, 13, 14, 16, 17, 20, 23]  # of 5, 9, 3 and 7 frames
    assert vision_encoder.num_encoded == len(rows)
    assert decided.episode_lengths.tolist() == [3, 4, 2, 3]
    for name in ("features", "state", "actions", "steps_to_go"):
        assert getattr(decided, name).tolist() == getattr(every, name)[rows].tolist()


def test_load_demonstrations_of_decisions_stacks_the_frames_of_decisions(dataset, cache):
    vision_encoder = StackedColourEncoder()
    chunking = Chunking(chunk=3, decision_frames=True)
    data = load_demonstrations(dataset, vision_encoder, None, cache, chunking=chunking)
    own = data.features.float()
    first_of_second = data.inputs(torch.tensor([3, 5])).features.reshape(2, 3, 4)
    assert first_of_second.tolist() == own[torch.tensor([[3, 3, 3], [3, 4, 5]])].tolist()


def test_load_demonstrations_features_do_not_share_memory_with_the_cache(tmp_path, cache):
    root = record_dataset(tmp_path / "set").root
    dataset = open_dataset(root)
    demonstrations = load_demonstrations(dataset, MeanColourEncoder(), cache=cache)
    features = demonstrations.inputs(torch.tensor([23, 0])).features
    expected = open_features(dataset, MeanColourEncoder(), cache)[[23, 0]]
    assert features.tolist() == expected.tolist()
    # What is done to the tensor stays in this process.
    demonstrations.features[0] = -1
    assert open_features(dataset, MeanColourEncoder(), cache)[0].min() >= 0


class StackedColourEncoder(MeanColourEncoder):
    """A vision encoder whose features are the encodings of three frames."""

    width, num_stacked_frames, encoding_dtype = 12, 3, "uint8"

    def track(self, before, encodings):
        encodings = encodings.astype(np.float32)
        before = np.tile(encodings, 3) if before is None else before
        return np.concatenate([before[:, 4:], encodings], axis=1)


def test_load_demonstrations_of_a_stacking_encoder_stacks_on_demand(dataset, cache):
    vision_encoder = StackedColourEncoder()
    data = load_demonstrations(dataset, vision_encoder, np.array([3, 0]), cache)
    assert data.features.shape == (12, 4)
    assert data.features.dtype == torch.uint8
    expected = open_features_of_episodes(
        dataset, vision_encoder, np.array([3, 0]), cache
    )  # as in practice
    gathered = data.inputs(torch.arange(12)).features
    assert gathered.dtype == torch.float32
    assert gathered.tolist() == expected.tolist()
    assert vision_encoder.num_encoded == 12
    parts = split_by_episode(data, 0.5, seed=0)
    assert sum(len(part.state) for part in parts) == 12
    for part in parts:
        assert part.features.data_ptr() == data.features.data_ptr(), "wide encodings are not copied"
        rows = slice(0, 7) if len(part.state) == 7 else slice(7, 12)
        assert part.inputs(slice(None)).features.tolist() == expected[rows].tolist()
    assert data.statistics().features.shape == (12, 0)
    assert data.statistics().instructions == data.inputs(slice(None)).instructions


def test_open_features_not_finite_are_refused(dataset, cache):
    class Broken(MeanColourEncoder):
        def encode(self, images, instructions):
            values = super().encode(images, instructions)
            values[7] = np.nan
            return values

    with pytest.raises(DatasetError, match=r"features of frame 7 of .* must be finite"):
        open_features(dataset, Broken(), cache)
    assert arrays(cache) == ["dataset.json"]


def test_open_features_without_a_camera_are_refused(tmp_path, cache):
    feature = Feature(dtype="float32", shape=(2,))
    DatasetWriter.create(tmp_path / "set", {"action": feature}, fps=5)
    with pytest.raises(DatasetError, match=r"must have images of a camera .* --model mlp"):
        open_features(open_dataset(tmp_path / "set"), MeanColourEncoder(), cache)
