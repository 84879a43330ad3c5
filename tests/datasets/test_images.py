"""Images from an episode to a data set and back: exactness, keys and errors."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from nearer.core.episode import EncodedObservation, Ended, Episode, Observation, ScoredEpisode
from nearer.core.errors import DatasetError
from nearer.core.spaces import Camera, Spaces
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.episodes import (
    create_dataset,
    dataset_spaces,
    episode_frames,
)
from nearer.datasets.lerobot.cameras import camera_key, cameras_of
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.videos import (
    EXACT_COLOURS,
    LEROBOT_ENCODING,
    VideoEncoding,
    encode_video,
)
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from nearer.datasets.practice_store import PracticeStore

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
TOP = Camera("top", 64, 96)
SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(TOP,))


def moving_block(num_frames: int, seed: int = 0) -> np.ndarray:
    """Return images of a red 8-pixel block that moves over a grey board, a pixel a frame."""
    images = np.full((num_frames, TOP.height, TOP.width, 3), 150, np.uint8)
    images += np.arange(TOP.width, dtype=np.uint8)[:, None] // 4
    y, x = np.random.default_rng(seed).integers(0, 40, 2)
    for frame, image in enumerate(images):
        image[y : y + 8, x + frame : x + frame + 8] = (204, 40, 40)
    return images


def episode(num_frames: int, seed: int = 0) -> Episode:
    random = np.random.default_rng(seed)
    return Episode(
        robot=0,
        seed=seed,
        instruction=f"push the red block to spot {seed}",
        policy_version=0,
        observations=EncodedObservation.without_features(
            Observation(
                agent_pos=random.random((num_frames, 2), np.float32),
                environment_state=np.zeros((num_frames, 0), np.float32),
                images={"top": moving_block(num_frames, seed)},
            )
        ),
        actions=random.random((num_frames - 1, 2), np.float32),
        log_prob=np.zeros(num_frames - 1, np.float32),
        ended=Ended.SUCCESS_TRUE,
    )


def psnr_db(read: np.ndarray, written: np.ndarray) -> float:
    error = read.astype(np.float64) - written
    return float(10 * np.log10(255**2 / np.mean(error**2)))


@pytest.mark.parametrize(("storage", "least_db"), [("video", 42), ("image", np.inf)])
def test_episode_frames_with_images_are_read_back(tmp_path, storage, least_db):
    episodes = [episode(5, 1), episode(9, 2), episode(3, 3)]
    writer = create_dataset(tmp_path, SPACES, 5, "tabletop", images=storage)
    writer.append([episode_frames(recorded) for recorded in episodes[:2]])
    writer.append([episode_frames(episodes[2])])
    dataset = open_dataset(tmp_path)
    assert dataset_spaces(dataset) == replace(SPACES, control_hz=5)
    written = np.concatenate([e.observations.observation.images["top"] for e in episodes])
    read = dataset.frames("observation.images.top", np.arange(17))
    with np.errstate(divide="ignore"):
        assert psnr_db(read, written) >= least_db
        block = written[..., 0] > 200
        assert psnr_db(read[block], written[block]) >= least_db


def test_exact_colours_of_a_small_block_are_closer_than_with_lerobots_encoding(tmp_path):
    written = moving_block(20)
    block = written[..., 0] > 200
    psnr_db_of = {}
    for name, encoding in (("lerobot", LEROBOT_ENCODING), ("exact", EXACT_COLOURS)):
        feature = Feature(dtype="video", shape=written.shape[1:], info=encoding.info(64, 96, 5))
        writer = DatasetWriter.create(tmp_path / name, {"top": feature}, fps=5)
        writer.append([EpisodeFrames(task="push", columns={"top": written})])
        read = open_dataset(tmp_path / name).frames("top", np.arange(20))
        psnr_db_of[name] = psnr_db(read[block], written[block])
    assert psnr_db_of["exact"] > 42
    assert psnr_db_of["exact"] > psnr_db_of["lerobot"] + 10


def test_create_dataset_without_images_stores_numbers_only(tmp_path):
    writer = create_dataset(tmp_path, SPACES, 5, "tabletop", images="none")
    writer.append([episode_frames(episode(5), with_images=False)])
    dataset = open_dataset(tmp_path)
    assert cameras_of(dataset) == ()
    assert dataset.columns["observation.state"].shape == (5, 2)


def test_practice_store_append_leaves_images_out(tmp_path):
    written_episode = episode(4)
    scored = ScoredEpisode(
        episode=written_episode,
        steps_to_go=np.zeros(4, np.float32),
        steps_to_go_std=np.zeros(4, np.float32),
        quantiles=np.zeros((4, 3), np.float32),
        rewards=np.zeros(3, np.float32),
        returns=np.zeros(3, np.float32),
        solved=np.zeros(4, bool),
    )
    PracticeStore.open(tmp_path / "practice", SPACES, 5, "tabletop").append(0, [scored])
    (back,) = PracticeStore.open(tmp_path / "practice", SPACES, 5, "tabletop").read(0)
    assert back.episode.observations.observation.images == {}
    np.testing.assert_array_equal(back.episode.actions, written_episode.actions)
    assert not list(tmp_path.rglob("*.mp4"))


def test_dataset_writer_resumed_encodes_by_info_json(tmp_path):
    create_dataset(tmp_path, SPACES, 5, "tabletop").append([episode_frames(episode(5))])
    DatasetWriter.resume(tmp_path, 1).append([episode_frames(episode(5))])
    first, second = sorted(tmp_path.rglob("*.mp4"))
    assert first.read_bytes() == second.read_bytes()
    info = open_dataset(tmp_path).info.features["observation.images.top"].info
    assert VideoEncoding.of(info) == EXACT_COLOURS


def test_encode_video_starts_every_episode_with_a_keyframe(tmp_path):
    writer = create_dataset(tmp_path, SPACES, 5, "tabletop")
    writer.append([episode_frames(episode(length)) for length in (5, 9, 3)])
    (path,) = tmp_path.rglob("*.mp4")
    with av.open(path) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keyframes = [number for number, packet in enumerate(packets) if packet.is_keyframe]
    assert keyframes == [0, 4, 5, 9, 13, 14]


def test_video_encoding_of_its_own_info_is_equal():
    for encoding in (LEROBOT_ENCODING, EXACT_COLOURS):
        assert VideoEncoding.of(encoding.info(96, 128, 5)) == encoding
    assert VideoEncoding.of({"video.codec": "av1"}) == LEROBOT_ENCODING
    with pytest.raises(DatasetError, match=r"video\.codec must be one of .* got 'hevc'"):
        VideoEncoding.of({"video.codec": "hevc"})


@pytest.mark.parametrize("byte", [0.3, 0.5, 0.7])
def test_frames_of_a_damaged_video_are_refused(tmp_path, byte):
    create_dataset(tmp_path, SPACES, 5, "tabletop").append([episode_frames(episode(40))])
    dataset = open_dataset(tmp_path)
    (path,) = tmp_path.rglob("*.mp4")
    content = bytearray(path.read_bytes())
    place = int(len(content) * byte)
    content[place : place + 30] = bytes(reversed(content[place : place + 30]))
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="must be a whole video") as caught:
        dataset.frames("observation.images.top", np.arange(40))
    assert "\n" not in str(caught.value)


def test_cameras_of_lerobots_keys_are_named_by_camera(tmp_path):
    image = Feature(dtype="image", shape=(4, 6, 3))
    features = {"observation.images.wrist": image, "observation.image": image}
    DatasetWriter.create(tmp_path, {**features, "goal.image": image}, fps=5)
    dataset = open_dataset(tmp_path)
    assert cameras_of(dataset) == (Camera("pixels", 4, 6), Camera("wrist", 4, 6))
    assert camera_key(dataset, "pixels") == "observation.image"
    assert camera_key(dataset, "wrist") == "observation.images.wrist"


def test_camera_key_of_a_missing_camera_is_refused():
    dataset = open_dataset(SAMPLES / "video")
    with pytest.raises(DatasetError, match=r"camera 'wrist' .* got the cameras \['top'\]; record"):
        camera_key(dataset, "wrist")


def test_load_demonstrations_without_states_or_vision_encoder_is_refused(tmp_path):
    root = Path(shutil.copytree(SAMPLES / "image", tmp_path / "image"))
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    del info["features"]["observation.state"]
    path.write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="choose a model that reads images"):
        load_demonstrations(open_dataset(root))


def test_encode_video_without_its_encoder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("av.codecs_available", {"libsvtav1"})
    with (
        pytest.raises(DatasetError, match="av must have the encoder libx264"),
        (tmp_path / "a.mp4").open("wb") as handle,
    ):
        encode_video(handle, [moving_block(2)], 5, EXACT_COLOURS)


def test_dataset_writer_with_thousands_of_instructions_reads_them_back(tmp_path):
    random = np.random.default_rng(0)
    spaces = Spaces(agent_pos=2, environment_state=0, action=2)
    writer = create_dataset(tmp_path, spaces, 5, "tabletop")
    lengths = random.integers(2, 5, 3000)
    for numbers in np.split(np.arange(3000), 12):
        writer.append(
            [
                EpisodeFrames(
                    task=f"push block {number // 2} left",
                    columns={
                        "observation.state": np.full((lengths[number], 2), number, np.float32),
                        "action": np.zeros((lengths[number], 2), np.float32),
                        "next.done": np.zeros(lengths[number], bool),
                    },
                )
                for number in numbers
            ]
        )
    demonstrations = load_demonstrations(open_dataset(tmp_path))
    rows = demonstrations.state.new_tensor(random.integers(0, lengths.sum(), 256)).long()
    inputs = demonstrations.inputs(rows)
    numbers = inputs.state[:, 0].long().tolist()
    assert inputs.instructions == [f"push block {number // 2} left" for number in numbers]
    assert len(set(demonstrations.instructions)) == 1500


def test_encode_video_leaves_the_priority_of_this_process(tmp_path):
    before = os.sched_getscheduler(0)
    with (tmp_path / "video.mp4").open("wb") as handle:
        encode_video(handle, [moving_block(2)], 5)  # SVT-AV1: real time, where root runs it
    assert os.sched_getscheduler(0) == before
