"""Data sets of strangers: what would eat time or memory, or lead out of the folder, is refused."""

import json
import os
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foreign_datasets import (
    CAMERA,
    DATA,
    EPISODES,
    INFO,
    SAMPLES,
    TASKS,
    VIDEO,
    as_version_2,
    copy_sample,
    edit_feature,
    edit_info,
    set_column,
)
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.feature import MAX_PIXELS, Feature
from nearer.datasets.lerobot.identity import dataset_identity
from nearer.datasets.lerobot.images import decode_image, encode_png
from nearer.datasets.lerobot.info_values import count, rate, size_mb, template
from nearer.datasets.lerobot.parquet import read_columns, read_encoded_images, read_lists
from nearer.datasets.lerobot.progress_sidecar import check_current, sidecar_place
from nearer.datasets.lerobot.reader import open_dataset, read_progress
from nearer.datasets.lerobot.stored_files import stored_file
from nearer.datasets.lerobot.videos import EXACT_COLOURS, encode_video

ROWS = np.arange(48)


def read(root: Path) -> None:
    """Read everything that training reads."""
    dataset = open_dataset(root)
    dataset_identity(dataset)
    dataset.frames(CAMERA, ROWS)


def said_quickly(root: Path, reader: Callable[[Path], object] = read) -> str:
    """Return the sentence with which a data set is refused, within a second and 64 MB."""
    tracemalloc.start()
    before = time.perf_counter()
    with pytest.raises(DatasetError) as refused:
        reader(root)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.perf_counter() - before < 1
    assert peak_bytes < 64 * 1024**2
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 2000
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_tasks": 10**8}, "must name 100000000 tasks"),
        ({"total_tasks": 10**30}, "total_tasks 1000000"),
        ({"total_episodes": 10**8}, "must list 100000000 episodes"),
        ({"total_frames": 10**8}, "must count the frames of the episodes table"),
        ({"total_frames": 10**15}, "the memory must hold"),
        ({"total_episodes": -1}, "total_episodes -1, not a whole number of 0 or more"),
        ({"total_frames": float("inf")}, "total_frames inf"),
        ({"total_tasks": float("nan")}, "total_tasks nan"),
        ({"total_tasks": True}, "total_tasks True"),
        ({"total_frames": "48"}, "total_frames '48'"),
        ({"chunks_size": 0}, "chunks_size 0, not a whole number of 1 or more"),
        ({"chunks_size": float("inf")}, "chunks_size inf"),
        ({"fps": -10}, "fps -10"),
        ({"fps": float("inf")}, "fps inf"),
        ({"fps": float("nan")}, "fps nan"),
        ({"fps": 1e300}, "fps 1e+300"),
        ({"fps": None}, "fps None"),
        ({"video_files_size_in_mb": float("inf")}, "a file size of inf MB"),
        ({"data_path": "data/{file_index:0999999999d}"}, "the path template"),
        ({"data_path": "data/{file_index:{chunk_index}}"}, "the path template"),
        ({"data_path": "data/{file_index.__class__}"}, "the path template"),
        ({"data_path": "data/{file_index!r}"}, "the path template"),
        ({"data_path": "data/{0}"}, "the path template"),
        ({"data_path": "data/{"}, "got: "),
        ({"data_path": 5}, "a path template 5"),
        ({"video_path": "videos/{video_key:0999999999}"}, "the path template"),
        ({"video_path": ["videos"]}, "a path template ['videos']"),
        ({"data_path": "../{chunk_index:03d}.parquet"}, "which leads out of it"),
        ({"data_path": "/etc/passwd"}, "which leads out of it"),
        ({"data_path": "data/../../other.parquet"}, "which leads out of it"),
        ({"data_path": "data/\0.parquet"}, "which leads out of it"),
        ({"video_path": "/dev/zero"}, "which leads out of it"),
        ({"data_path": "x" * 5000}, "must be readable, got 'File name too long'"),
        ({"data_path": "data"}, "must be a file, got something else"),
    ],
)
def test_open_dataset_of_hostile_info_is_refused_at_once(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    root = copy_sample("video", tmp_path)
    edit_info(root, **changes)
    assert message in said_quickly(root)


@pytest.mark.parametrize(
    ("key", "changes", "message"),
    [
        (CAMERA, {"shape": [10**6, 10**6, 3]}, "of more than 16,777,216 pixels"),
        (CAMERA, {"shape": [0, 128, 3]}, "an image of shape (0, 128, 3)"),
        (CAMERA, {"shape": [-96, 128, 3]}, "an axis of -96"),
        (CAMERA, {"shape": [96.5, 128, 3]}, "an axis of 96.5"),
        (CAMERA, {"shape": 3}, "got: "),
        (CAMERA, {"info": ["video"]}, "a feature's info ['video']"),
        ("action", {"shape": [float("inf")]}, "an axis of inf"),
        ("action", {"shape": [10**12]}, "the memory must hold"),
        ("action", {"dtype": "float32", "shape": [3, 3]}, "action must have the shape (3, 3)"),
    ],
)
def test_open_dataset_of_a_hostile_feature_is_refused_at_once(
    key: str, changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    root = copy_sample("video", tmp_path)
    edit_feature(root, key, **changes)
    assert message in said_quickly(root)


def test_open_dataset_of_a_camera_whose_name_leads_out_is_refused(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    key = "observation.images./../../../../out"
    features = json.loads((root / INFO).read_text())["features"]
    features[key] = features.pop(CAMERA)
    edit_info(root, features=features)
    table = pq.read_table(root / EPISODES)
    names = [name.replace(CAMERA, key) for name in table.column_names]
    pq.write_table(table.rename_columns(names), root / EPISODES)
    dataset = open_dataset(root)
    with pytest.raises(DatasetError, match="which leads out of it"):
        dataset.frames(key, np.array([0]))


@pytest.mark.parametrize("name", [INFO, TASKS, EPISODES, DATA, VIDEO])
def test_open_dataset_of_a_link_out_of_it_is_refused(name: str, tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    outside = tmp_path / "outside"
    (root / name).rename(outside)
    (root / name).symlink_to(outside)
    message = said_quickly(root)
    assert f"every file of {root} must lie in it, got {name!r}" in message


@pytest.mark.parametrize("folder", ["meta", "data", "videos"])
def test_open_dataset_of_a_folder_that_is_a_link_out_of_it_is_refused(
    folder: str, tmp_path: Path
) -> None:
    root = copy_sample("video", tmp_path)
    (root / folder).rename(tmp_path / "outside")
    (root / folder).symlink_to(tmp_path / "outside")
    assert f"every file of {root} must lie in it" in said_quickly(root)


def test_open_dataset_of_links_in_a_circle_is_refused(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    (root / DATA).unlink()
    (root / DATA).symlink_to(root / DATA)
    assert f"every file of {root} must lie in it" in said_quickly(root)


@pytest.mark.parametrize("name", [INFO, TASKS, EPISODES, DATA, VIDEO])
def test_open_dataset_of_a_pipe_is_refused(name: str, tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    (root / name).unlink()
    os.mkfifo(root / name)
    assert f"{root / name} must be a file, got something else" in said_quickly(root)


def test_sidecar_of_a_data_set_that_is_a_pipe_or_leads_out_is_refused(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    folder = root / "nearer_progress/chunk-000"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "file-000.parquet")
    for reader in (read_progress, check_current, sidecar_place):
        said = said_quickly(root, lambda root, reader=reader: reader(open_dataset(root)))
        assert "must be a file, got something else" in said
    (folder / "file-000.parquet").unlink()
    (folder / "file-000.parquet").symlink_to(SAMPLES / "image" / DATA)
    assert "must lie in it" in said_quickly(root, lambda root: read_progress(open_dataset(root)))


@pytest.mark.parametrize("name", ["meta/episodes.jsonl", "meta/tasks.jsonl"])
def test_open_dataset_of_version_2_with_a_device_is_refused(name: str, tmp_path: Path) -> None:
    root = as_version_2(copy_sample("image", tmp_path))
    (root / name).unlink()
    (root / name).symlink_to("/dev/zero")
    assert f"every file of {root} must lie in it" in said_quickly(root)


def test_open_dataset_of_a_huge_info_is_refused(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    os.truncate(root / INFO, 2**40)
    assert "must have at most 67,108,864 bytes, got 1,099,511,627,776" in said_quickly(root)


def test_open_dataset_of_the_hubs_download_reads_its_blobs(tmp_path: Path) -> None:
    blobs, root = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    for number, path in enumerate(sorted((SAMPLES / "video").rglob("*"))):
        if path.is_file():
            (blobs / str(number)).write_bytes(path.read_bytes())
            link = root / path.relative_to(SAMPLES / "video")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    read(root)
    assert stored_file(root, DATA) == root / DATA


def png_header(width: int, height: int) -> bytes:
    """Return a small image whose header announces another size, checksum included."""
    whole = encode_png(np.zeros((1, 4, 4, 3), np.uint8))[0]
    header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + whole[24:29]
    return whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]


def test_decode_image_of_gigabytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="must be a whole PNG or JPEG image"):
        decode_image(png_header(60_000, 60_000), "frame 0")
    root = copy_sample("image", tmp_path)
    set_column(root / DATA, CAMERA, pa.array([png_header(60_000, 60_000)] * 48, pa.binary()))
    assert "must be a whole PNG or JPEG image" in said_quickly(root)


def test_frames_of_images_larger_than_said_are_refused_at_the_first(tmp_path: Path) -> None:
    root = copy_sample("image", tmp_path)
    image = encode_png(np.zeros((1, 3000, 3000, 3), np.uint8))[0]
    set_column(root / DATA, CAMERA, pa.array([image] * 48, pa.binary()))
    assert "must be 96 x 128 pixels" in said_quickly(root)


def test_frames_of_a_video_larger_than_said_are_refused_at_the_first(tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    with (root / VIDEO).open("wb") as handle:
        encode_video(handle, [np.zeros((3, 1600, 1600, 3), np.uint8)], 10, EXACT_COLOURS)
    assert "must be 96 x 128 pixels" in said_quickly(root)


def test_frames_of_a_video_of_too_many_pixels_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearer.datasets.lerobot.videos.MAX_PIXELS", 96 * 128 - 1)
    message = said_quickly(copy_sample("video", tmp_path))
    assert "must be a whole video, got: 128 x 96 pixels, more than 12,287" in message


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n/etc/passwd\n", "ffconcat version 1.0\nfile a\n"]
)
def test_frames_of_a_list_of_other_files_are_refused(text: str, tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    (root / VIDEO).write_text(text)
    assert "must be a whole video" in said_quickly(root)


def test_open_dataset_of_lists_that_unpack_to_gigabytes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearer.datasets.lerobot.parquet._MAX_BYTES", 2**20)
    root = copy_sample("image", tmp_path)
    offsets = pa.array([0, *[2**18] * 48], pa.int32())
    set_column(root / DATA, "action", pa.ListArray.from_arrays(offsets, np.zeros(2**18)))
    assert (root / DATA).stat().st_size < 2**20
    assert "GB of memory, got more" in said_quickly(root)


def test_columns_too_large_by_their_own_footer_are_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count = tmp_path / "file.parquet", 3_000_000
    zeros = np.zeros(count, np.uint8)
    one_row = pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), zeros)
    image = pa.array([bytes(count)], pa.binary())
    pq.write_table(pa.table({"action": one_row, "image": image}), path, compression="zstd")
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("nearer.datasets.lerobot.parquet._MAX_BYTES", 2**20)

    def unpack(*_: object, **__: object) -> None:
        raise AssertionError("unpacked")

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", unpack)
    with pytest.raises(DatasetError, match="GB of memory, got more"):
        read_columns(path, ["action"])
    with pytest.raises(DatasetError, match="GB of memory, got more"):
        read_encoded_images(path, "image", np.array([0]))


def test_read_lists_of_a_text_that_is_repeated_keeps_it_once(tmp_path: Path) -> None:
    text = "push " * 2**13
    pq.write_table(pa.table({"task": [text] * 1000}), tmp_path / "tasks.parquet")
    tracemalloc.start()
    texts = read_lists(tmp_path / "tasks.parquet", ["task"])["task"]
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert texts == [text] * 1000
    assert peak_bytes < 1024**2


@pytest.mark.parametrize("large", [2**62, 2**31])
def test_open_dataset_of_huge_numbers_in_its_tables_is_refused(large: int, tmp_path: Path) -> None:
    root = copy_sample("video", tmp_path)
    set_column(root / EPISODES, "length", np.array([large, large, large, large]))
    assert "must count the frames of the episodes table" in said_quickly(root)
    root = copy_sample("image", tmp_path)
    set_column(root / DATA, "episode_index", np.full(48, large))
    assert "must have 12 rows in the data files" in said_quickly(root)


def test_values_of_info_are_checked_one_by_one() -> None:
    assert count({"a": 3.0}, "a") == 3
    assert rate(30.0) == 30
    assert isinstance(rate(30.0), int)
    assert size_mb(0.5) == 0.5
    name = "videos/{video_key}/{chunk_index:03d}/{episode_chunk}/{file_index:3d}{{x}}"
    assert template(name) == name
    square = int(MAX_PIXELS**0.5)
    assert Feature.from_json({"dtype": "image", "shape": [square, square, 3]}).image_size == (
        square,
        square,
    )
