"""Data sets are written as lerobot writes them, and read back bit by bit."""

import json
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.reader import open_dataset, read_progress
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
CAMERA = "observation.images.top"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
STATE_AND_ACTION = {
    "observation.state": Feature(dtype="float32", shape=(2,)),
    "action": Feature(dtype="float32", shape=(2,)),
}


def episodes_of(kind: str) -> list[EpisodeFrames]:
    """Return the episodes of a sample for our own writer."""
    sample = open_dataset(SAMPLES / kind)
    episodes = []
    for number, start in enumerate(sample.episode_starts.tolist()):
        rows = np.arange(start, start + sample.episode_lengths[number])
        columns = {key: sample.columns[key][rows] for key in STATE_AND_ACTION}
        columns[CAMERA] = sample.frames(CAMERA, rows)
        episodes.append(EpisodeFrames(task=sample.task_of_episode(number), columns=columns))
    return episodes


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory):
    """Return the folders of both samples, written anew by us."""
    roots = {}
    for kind in ("video", "image"):
        root = tmp_path_factory.mktemp("rewritten") / kind
        features = {
            "observation.state": Feature(dtype="float32", shape=(2,), names=["x", "y"]),
            "action": Feature(dtype="float32", shape=(2,), names=["dx", "dy"]),
            CAMERA: Feature(dtype=kind, shape=(96, 128, 3), names=["height", "width", "channels"]),
        }
        writer = DatasetWriter.create(root, features, fps=10, robot_type="tabletop")
        writer.append(episodes_of(kind))
        roots[kind] = root
    return roots


def some_episodes(lengths: list[int], seed: int = 0, task: str = "push") -> list[EpisodeFrames]:
    random = np.random.default_rng(seed)
    return [
        EpisodeFrames(
            task=f"{task} {number % 2}",
            columns={key: random.random((n, 2), np.float32) for key in STATE_AND_ACTION},
        )
        for number, n in enumerate(lengths)
    ]


@pytest.mark.parametrize("kind", ["video", "image"])
def test_written_info_equals_lerobots_to_the_byte(rewritten, kind):
    ours = (rewritten[kind] / "meta/info.json").read_text()
    assert ours == (SAMPLES / kind / "meta/info.json").read_text()


@pytest.mark.parametrize("kind", ["video", "image"])
def test_written_data_files_have_lerobots_schema(rewritten, kind):
    ours, theirs = (pq.read_schema(root / DATA) for root in (rewritten[kind], SAMPLES / kind))
    assert ours.equals(theirs)
    metadata = json.loads(theirs.metadata[b"huggingface"])
    del metadata["fingerprint"]
    assert json.loads(ours.metadata[b"huggingface"]) == metadata
    assert list(ours.metadata) == list(theirs.metadata)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_written_data_rows_equal_lerobots(rewritten, kind):
    ours, theirs = (pq.read_table(root / DATA) for root in (rewritten[kind], SAMPLES / kind))
    for name in set(theirs.column_names) - {CAMERA}:
        assert ours[name].to_pylist() == theirs[name].to_pylist()


def test_written_images_have_lerobots_names_and_pixels(rewritten):
    ours, theirs = (
        pq.read_table(root / DATA)[CAMERA].to_pylist()
        for root in (rewritten["image"], SAMPLES / "image")
    )
    assert [image["path"] for image in ours] == [image["path"] for image in theirs]
    everything = np.arange(48)
    np.testing.assert_array_equal(
        open_dataset(rewritten["image"]).frames(CAMERA, everything),
        open_dataset(SAMPLES / "image").frames(CAMERA, everything),
    )


@pytest.mark.parametrize("kind", ["video", "image"])
def test_written_tasks_equal_lerobots_with_task_as_index_in_pandas(rewritten, kind):
    ours, theirs = (
        pq.read_table(root / "meta/tasks.parquet") for root in (rewritten[kind], SAMPLES / kind)
    )
    assert ours.equals(theirs)
    our_pandas, their_pandas = (json.loads(t.schema.metadata[b"pandas"]) for t in (ours, theirs))
    assert our_pandas["index_columns"] == ["task"]
    for document in (our_pandas, their_pandas):
        del document["creator"]["version"]
    assert our_pandas == their_pandas


@pytest.mark.parametrize("kind", ["video", "image"])
def test_written_episodes_table_equals_lerobots(rewritten, kind):
    ours, theirs = (pq.read_table(root / EPISODES) for root in (rewritten[kind], SAMPLES / kind))
    assert ours.schema.equals(theirs.schema, check_metadata=True)
    for name in theirs.column_names:
        exact = CAMERA not in name and name.endswith(("/min", "/max", "/count"))
        if exact or not name.startswith("stats/"):
            np.testing.assert_array_equal(ours[name].to_pylist(), theirs[name].to_pylist())
        elif kind == "image" or CAMERA not in name:
            np.testing.assert_allclose(ours[name].to_pylist(), theirs[name].to_pylist(), atol=4e-3)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_written_stats_have_lerobots_form_and_numbers(rewritten, kind):
    ours, theirs = (
        json.loads((root / "meta/stats.json").read_text())
        for root in (rewritten[kind], SAMPLES / kind)
    )
    assert ours.keys() == theirs.keys()
    for key in theirs:
        assert list(ours[key]) == list(theirs[key])
        assert np.shape(ours[key]["mean"]) == np.shape(theirs[key]["mean"])
        assert ours[key]["count"] == theirs[key]["count"]
        if key != CAMERA or kind == "image":
            np.testing.assert_allclose(ours[key]["mean"], theirs[key]["mean"], atol=1e-6)
            np.testing.assert_allclose(ours[key]["min"], theirs[key]["min"], atol=1e-7)


def test_written_videos_are_encoded_as_lerobots(rewritten):
    streams = []
    for root in (rewritten["video"], SAMPLES / "video"):
        with av.open(root / VIDEO) as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            streams.append((context.name, context.pix_fmt, stream.average_rate, stream.frames))
    assert streams[0] == streams[1]


def test_written_video_starts_every_episode_with_a_keyframe(rewritten):
    with av.open(rewritten["video"] / VIDEO) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert all(packets[start].is_keyframe for start in (0, 12, 19, 39))


def test_written_video_frames_stay_close_to_the_images(rewritten):
    written = np.concatenate([episode.columns[CAMERA] for episode in episodes_of("video")])
    read = open_dataset(rewritten["video"]).frames(CAMERA, np.arange(48))
    assert np.abs(read.astype(int) - written).mean() < 2


@settings(deadline=None, max_examples=25)
@given(
    appends=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=4),
    seed=st.integers(0, 2**32 - 1),
)
def test_append_of_any_episodes_is_read_back_bit_for_bit(tmp_path_factory, appends, seed):
    root = tmp_path_factory.mktemp("round") / "trip"
    writer = DatasetWriter.create(root, STATE_AND_ACTION, fps=30)
    written = []
    for number, lengths in enumerate(appends):
        written.append(some_episodes(lengths, seed + number, task=f"task {number}"))
        writer.append(written[-1])
    episodes = [episode for append in written for episode in append]
    dataset = open_dataset(root)
    check_columns(dataset, episodes)
    assert dataset.info.total_episodes == len(episodes)
    assert dataset.columns["index"].tolist() == list(range(dataset.info.total_frames))
    for number, episode in enumerate(episodes):
        rows = slice(dataset.episode_starts[number], None)
        length = dataset.episode_lengths[number]
        assert dataset.task_of_episode(number) == episode.task
        frame_index = dataset.columns["frame_index"][rows][:length]
        assert frame_index.tolist() == list(range(length))
        seconds = dataset.columns["timestamp"][rows][:length]
        np.testing.assert_array_equal(seconds, (np.arange(length) / 30).astype(np.float32))


def check_columns(dataset, episodes):
    for key in episodes[0].columns:
        written = np.concatenate([episode.columns[key] for episode in episodes])
        assert dataset.columns[key].dtype == written.dtype
        assert dataset.columns[key].tobytes() == written.tobytes()


def test_append_of_every_dtype_and_shape_is_read_back(tmp_path):
    shapes = {"scalar": (1,), "vector": (3,), "matrix": (2, 3), "cube": (2, 1, 2)}
    dtypes = ("bool", "int8", "uint8", "int16", "int64", "uint64", "float16", "float32", "float64")
    features = {
        f"{name}.{dtype}": Feature(dtype=dtype, shape=shape)
        for name, shape in shapes.items()
        for dtype in dtypes
    }
    random = np.random.default_rng(0)
    columns = {
        key: (random.random((5, *feature.shape)) * 2).astype(feature.dtype)
        for key, feature in features.items()
    }
    writer = DatasetWriter.create(tmp_path / "set", features, fps=10)
    writer.append([EpisodeFrames(task="push", columns=columns)])
    dataset = open_dataset(tmp_path / "set")
    for key, values in columns.items():
        np.testing.assert_array_equal(dataset.columns[key], values)
        assert dataset.columns[key].dtype == values.dtype
    metadata = json.loads(pq.read_schema(tmp_path / "set" / DATA).metadata[b"huggingface"])
    array_2d = {"shape": [2, 3], "dtype": "int8", "_type": "Array2D"}
    assert metadata["info"]["features"]["matrix.int8"] == array_2d


def test_append_of_one_number_a_frame_without_an_axis_is_read_back(tmp_path):
    features = {"next.reward": Feature(dtype="float32", shape=(1,))}
    writer = DatasetWriter.create(tmp_path, features, fps=10)
    rewards = np.array([0.0, 1.0], dtype=np.float32)
    writer.append([EpisodeFrames(task="push", columns={"next.reward": rewards})])
    assert open_dataset(tmp_path).columns["next.reward"].tolist() == [[0.0], [1.0]]


def test_append_beyond_a_chunk_starts_the_next(tmp_path):
    DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10)
    path = tmp_path / "meta/info.json"
    path.write_text(path.read_text().replace('"chunks_size": 1000', '"chunks_size": 2'))
    writer = DatasetWriter.resume(tmp_path, 0)
    episodes = some_episodes([3, 2, 4, 1, 5])
    for episode in episodes:
        writer.append([episode])
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("data/*/*"))
    folders = [0, 0, 1, 1, 2]
    assert names == [f"data/chunk-00{c}/file-00{n % 2}.parquet" for n, c in enumerate(folders)]
    check_columns(open_dataset(tmp_path), episodes)


def test_append_of_images_in_several_files_is_read_back(tmp_path):
    random = np.random.default_rng(0)
    features = {
        "observation.images.wrist": Feature(dtype="image", shape=(6, 5, 3)),
        CAMERA: Feature(dtype="video", shape=(64, 64, 3)),
    }
    writer = DatasetWriter.create(tmp_path, features, fps=5)
    greys = np.arange(0, 240, 20, dtype=np.uint8)
    images = random.integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
    videos = np.broadcast_to(greys[:, None, None, None], (12, 64, 64, 3))
    for rows in np.split(np.arange(12), [3, 4, 9]):
        columns = {"observation.images.wrist": images[rows], CAMERA: videos[rows]}
        writer.append([EpisodeFrames(task="push", columns=columns)])
    dataset = open_dataset(tmp_path)
    order = random.permutation(12)
    np.testing.assert_array_equal(dataset.frames("observation.images.wrist", order), images[order])
    brightness = dataset.frames(CAMERA, order).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, greys[order], atol=2)


def test_append_with_progress_is_read_back_beside_its_frames(tmp_path):
    writer = DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10)
    writer.append(some_episodes([2]))
    progress = [
        {
            "steps_to_go": np.array([2.0, 1.0, 0.5], dtype=np.float32),
            "quantiles": np.arange(6, dtype=np.float32).reshape(3, 2),
            "success_detected": np.array([False, False, True]),
            "policy_version": np.array([7, 7, 7]),
        },
        {
            "steps_to_go": np.array([0.25], dtype=np.float32),
            "quantiles": np.array([[8.0, 9.0]], dtype=np.float32),
            "success_detected": np.array([True]),
            "policy_version": np.array([8]),
        },
    ]
    writer.append(some_episodes([3, 1]), progress)
    read = read_progress(open_dataset(tmp_path))
    assert read["index"].tolist() == [2, 3, 4, 5]
    assert read["episode_index"].tolist() == [1, 1, 1, 2]
    for name in progress[0]:
        written = np.concatenate([entry[name] for entry in progress])
        assert read[name].dtype == written.dtype
        np.testing.assert_array_equal(read[name], written)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ({"index": Feature(dtype="int64", shape=(1,))}, "leave 'index' to the writer"),
        ({"a": Feature(dtype="string", shape=(1,))}, "dtype must be one of"),
        ({"a": Feature(dtype="float32", shape=())}, "1 to 5 axes"),
        ({"a": Feature(dtype="float32", shape=(2, 0))}, "1 to 5 axes"),
        ({"a": Feature(dtype="image", shape=(3, 8, 8))}, r"\(height, width, 3\)"),
        ({"a": Feature(dtype="video", shape=(63, 64, 3))}, "must be even, got 63 x 64"),
    ],
)
def test_create_with_features_that_cannot_be_written_is_refused(tmp_path, feature, message):
    with pytest.raises(DatasetError, match=message):
        DatasetWriter.create(tmp_path, feature, fps=10)
    assert list(tmp_path.iterdir()) == []


def test_create_in_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match="must be an empty or new folder"):
        DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"action": np.zeros((3, 2), np.float32)}, "must have the columns"),
        ({"action": np.zeros((3, 3), np.float32)}, r"float32 of shape \(3, 2\), got .*\(3, 3\)"),
        ({"action": np.zeros((2, 2), np.float32)}, r"got float32 of shape \(2, 2\)"),
        ({"action": np.zeros((3, 2))}, "got float64"),
    ],
)
def test_append_of_an_episode_that_does_not_fit_is_refused(tmp_path, columns, message):
    writer = DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10)
    states = {"observation.state": np.zeros((3, 2), np.float32)}
    if "columns" in message:
        states = {}
    with pytest.raises(DatasetError, match=message):
        writer.append([EpisodeFrames(task="push", columns={**states, **columns})])
    assert open_dataset(tmp_path).info.total_episodes == 0


def test_append_without_frames_is_refused(tmp_path):
    writer = DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10)
    with pytest.raises(DatasetError, match="at least one episode"):
        writer.append([])
    with pytest.raises(DatasetError, match="episode 1 of the append must have frames"):
        writer.append(some_episodes([2, 0]))


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        ([{"reward": np.zeros(2)}], "one entry per episode, 2, got 1"),
        ([{"reward": np.zeros(2)}, {"return": np.zeros(3)}], "the columns of the others"),
        ([{"index": np.zeros(2)}, {"index": np.zeros(3)}], "without index and episode_index"),
        ([{"reward": np.zeros(2)}, {"reward": np.zeros(2)}], r"shape \(3,\), .* got .* \(2,\)"),
        ([{"reward": np.zeros(2)}, {"reward": np.zeros(3, np.float32)}], "must be float64"),
        ([{"note": np.array(["a", "b"])}, {"note": np.array(["a"] * 3)}], "numbers or rows"),
    ],
)
def test_append_with_progress_that_does_not_fit_writes_nothing(tmp_path, progress, message):
    writer = DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10)
    with pytest.raises(DatasetError, match=message):
        writer.append(some_episodes([2, 3]), progress)
    assert list(tmp_path.rglob("file-*")) == []


def test_append_of_videos_without_an_encoder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(av, "codecs_available", set())
    writer = DatasetWriter.create(tmp_path, {"a": Feature(dtype="video", shape=(8, 8, 3))}, fps=10)
    frames = {"a": np.zeros((2, 8, 8, 3), dtype=np.uint8)}
    with pytest.raises(DatasetError, match="av must have the encoder libsvtav1"):
        writer.append([EpisodeFrames(task="push", columns=frames)])
    assert list(tmp_path.rglob("file-*")) == []
