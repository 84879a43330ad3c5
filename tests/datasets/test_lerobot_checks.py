"""Data sets that open but cannot be trained on are refused by name."""

from pathlib import Path

import numpy as np
import pytest

from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.checks import check_trainable
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
STATE_AND_ACTION = {
    "observation.state": Feature(dtype="float32", shape=(2,)),
    "action": Feature(dtype="float32", shape=(2,)),
}


def some_episodes(lengths: list[int]) -> list[EpisodeFrames]:
    return [
        EpisodeFrames(
            task="push", columns={key: np.ones((n, 2), np.float32) for key in STATE_AND_ACTION}
        )
        for n in lengths
    ]


def test_check_trainable_of_an_empty_data_set_is_refused(tmp_path):
    DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10)
    dataset = open_dataset(tmp_path)
    assert dataset.columns["action"].shape == (0, 2)
    assert dataset.tasks == ()
    with pytest.raises(DatasetError, match="must hold episodes, got none"):
        check_trainable(dataset)


@pytest.mark.parametrize("kind", ["video", "image"])
def test_check_trainable_of_lerobots_samples_passes(kind):
    assert check_trainable(open_dataset(SAMPLES / kind)) is None


@pytest.mark.parametrize(
    ("key", "value"), [("action", np.nan), ("observation.state", np.inf), ("action", -np.inf)]
)
def test_check_trainable_of_a_number_not_finite_is_refused_by_its_place(tmp_path, key, value):
    episodes = some_episodes([4, 3, 5])
    episodes[1].columns[key][2, 1] = value
    episodes[2].columns[key][0, 0] = value
    DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10).append(episodes)
    message = f"{key} must be finite, got {value} as number 1 in frame 2 of episode 1"
    with pytest.raises(DatasetError, match=message):
        check_trainable(open_dataset(tmp_path))


def test_check_trainable_of_an_episode_of_one_frame_is_refused(tmp_path):
    DatasetWriter.create(tmp_path, STATE_AND_ACTION, fps=10).append(some_episodes([3, 1]))
    with pytest.raises(DatasetError, match=r"2 frames or more, .* got 1 in episode 1"):
        check_trainable(open_dataset(tmp_path))


def test_check_trainable_without_actions_is_refused(tmp_path):
    features = {"observation.state": Feature(dtype="float32", shape=(2,))}
    states = {"observation.state": np.zeros((3, 2), dtype=np.float32)}
    writer = DatasetWriter.create(tmp_path, features, fps=10)
    writer.append([EpisodeFrames(task="push", columns=states)])
    with pytest.raises(DatasetError, match="a numeric feature 'action'"):
        check_trainable(open_dataset(tmp_path))
