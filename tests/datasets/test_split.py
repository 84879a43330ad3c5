"""The split of a data set's episodes is drawn once, stored in the run and read back."""

import json
from pathlib import Path

import numpy as np
import pytest

from nearer.algorithm.demonstrations import draw_fraction, split_by_episode, split_episodes
from nearer.core.errors import ConfigError
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.reader import Dataset, open_dataset
from nearer.datasets.lerobot.schema import Feature
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames
from nearer.datasets.split import SPLIT, TrainingSplit, draw_split, read_split, write_split

NUM_EPISODES = 20


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A data set of 20 short episodes; every fourth one is asked for the blue moon."""
    features = {
        name: Feature(dtype="float32", shape=(2,)) for name in ("action", "observation.state")
    }
    writer = DatasetWriter.create(tmp_path / "data", features, fps=5)
    writer.append(
        [
            EpisodeFrames(
                task="push the blue moon" if number % 4 == 0 else "push the red cube",
                columns={name: np.full((3, 2), number, np.float32) for name in features},
            )
            for number in range(NUM_EPISODES)
        ]
    )
    return open_dataset(tmp_path / "data")


def draw(dataset: Dataset, *, fraction: float = 0.5, phrases: tuple[str, ...] = ()):
    return draw_split(
        dataset, fraction=fraction, leave_out_phrases=phrases, val_fraction=0.25, seed=3
    )


def test_draw_split_takes_the_fraction_and_holds_out_its_part(dataset: Dataset):
    split = draw(dataset)
    assert (len(split.episodes), len(split.train), len(split.validation)) == (10, 8, 2)
    assert sorted([*split.train, *split.validation]) == sorted(split.episodes)
    assert sorted([*split.train, *split.not_trained_on]) == list(range(NUM_EPISODES))
    assert split.data_sha256 == contents_hash(dataset)


def test_draw_split_equals_draw_fraction_and_split_episodes(dataset: Dataset):
    split = draw(dataset)
    train, validation = split_episodes(10, 0.25, seed=3)
    assert split.episodes.tolist() == draw_fraction(NUM_EPISODES, 0.5, seed=3).tolist()
    assert split.train_positions.tolist() == train.tolist()
    assert split.validation_positions.tolist() == validation.tolist()


def test_split_positions_equal_the_parts_of_split_by_episode(dataset: Dataset):
    split = draw(dataset)
    data = load_demonstrations(dataset, episodes=split.episodes)
    for part, positions in zip(
        split_by_episode(data, 0.25, seed=3),
        (split.train_positions, split.validation_positions),
        strict=True,
    ):
        assert data.episodes(positions).actions.tolist() == part.actions.tolist()


def test_draw_split_with_a_phrase_left_out_never_uses_it(dataset: Dataset):
    split = draw(dataset, fraction=1.0, phrases=("blue moon",))
    assert split.episodes.tolist() == [row for row in range(NUM_EPISODES) if row % 4]


def test_draw_split_of_one_episode_is_refused(dataset: Dataset):
    with pytest.raises(ConfigError, match="at least 2 episodes, one to train on and one held out"):
        draw(dataset, fraction=0.05)


def test_read_split_returns_what_was_written(dataset: Dataset, tmp_path: Path):
    split = draw(dataset)
    write_split(tmp_path, split)
    assert read_split(tmp_path).to_json() == split.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": [0, 1, 2]}, "must name every used episode of the data set once"),
        ({"train": [0, "one"]}, "must name every used episode"),
        ({"train": [[0], [1, 2]]}, "must name every used episode"),
        ({"total_episodes": 5}, "must name every used episode"),
        ({"total_episodes": None}, "must name every used episode"),
        ({"more": 1}, r"must have the keys \[.*\], got .*'more'"),
    ],
)
def test_read_split_of_a_damaged_file_is_refused(
    dataset: Dataset, tmp_path: Path, change: dict[str, object], message: str
):
    document = draw(dataset).to_json() | change
    (tmp_path / SPLIT).write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=message):
        read_split(tmp_path)


def test_read_split_of_a_run_without_one_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"split\.json must be .*; name a run of nearer sft"):
        read_split(tmp_path)


def test_training_split_not_trained_on_is_unused_and_validation_episodes():
    split = TrainingSplit(
        data_sha256="",
        total_episodes=5,
        episodes=np.array([4, 1, 3]),
        train=np.array([3, 4]),
        validation=np.array([1]),
    )
    assert split.not_trained_on.tolist() == [0, 1, 2]
    assert split.train_positions.tolist() == [2, 0]
