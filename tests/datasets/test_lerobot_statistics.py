"""Statistics against the numbers that lerobot wrote, and against their definitions."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.lerobot.statistics import (
    NAMES,
    QUANTILES,
    FeatureStatistics,
    aggregate,
    episode_statistics,
    image_statistics,
    stack,
)

SAMPLES = Path(__file__).parents[1] / "data" / "lerobot_v3"
CAMERA = "observation.images.top"
NUMBERS = ("observation.state", "action", "frame_index", "episode_index", "index", "task_index")


def statistics_of_lerobot(kind: str, key: str) -> FeatureStatistics:
    """Return the sample's statistics of every episode, [episodes, *shape]."""
    table = pq.read_table(SAMPLES / kind / "meta/episodes/chunk-000/file-000.parquet")
    values = {name: np.array(table[f"stats/{key}/{name}"].to_pylist()) for name in NAMES}
    return FeatureStatistics(**{**values, "count": values["count"].reshape(-1)})


@pytest.mark.parametrize("key", [*NUMBERS, "timestamp", CAMERA])
@pytest.mark.parametrize("kind", ["video", "image"])
def test_aggregate_of_lerobots_episodes_equals_lerobots_statistics(kind, key):
    whole = json.loads((SAMPLES / kind / "meta/stats.json").read_text())[key]
    ours = aggregate(statistics_of_lerobot(kind, key)).columns()
    for name in NAMES:
        np.testing.assert_allclose(np.atleast_1d(ours[name]), whole[name], rtol=0, atol=1e-9)


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("kind", ["video", "image"])
def test_episode_statistics_of_lerobots_sample_equal_lerobots(kind, key):
    dataset = open_dataset(SAMPLES / kind)
    values = dataset.columns[key].reshape(48, -1)
    ours = episode_statistics(values, dataset.episode_lengths).columns()
    theirs = statistics_of_lerobot(kind, key).columns()
    for name in ("min", "max", "count"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    # lerobot sums in float32 and takes the variance as a difference of squares.
    np.testing.assert_allclose(ours["mean"], theirs["mean"], rtol=2e-7, atol=1e-9)
    np.testing.assert_allclose(ours["std"], theirs["std"], rtol=0, atol=4e-6)
    bin_width = (theirs["max"] - theirs["min"]) / 5000 + 1e-9
    for name in QUANTILES:
        assert (np.abs(ours[name] - theirs[name]) <= bin_width).all()


def test_image_statistics_of_lerobots_sample_equal_lerobots():
    dataset = open_dataset(SAMPLES / "image")
    theirs = statistics_of_lerobot("image", CAMERA).columns()
    for episode, (start, length) in enumerate(
        zip(dataset.episode_starts, dataset.episode_lengths, strict=True)
    ):
        frames = dataset.frames(CAMERA, np.arange(start, start + length))
        ours = image_statistics(frames).columns()
        assert ours["count"] == length
        for name in ("min", "max", "mean"):
            np.testing.assert_allclose(ours[name], theirs[name][episode], atol=1e-8)
        exact = (frames.reshape(-1, 3) / 255).std(axis=0)
        np.testing.assert_allclose(ours["std"].reshape(3), exact, atol=1e-12)
        # lerobot takes the variance as a difference of float32 means of 10^5 squares: 11 % off.
        np.testing.assert_allclose(ours["std"], theirs["std"][episode], atol=4e-3)
        for name in QUANTILES:
            np.testing.assert_allclose(ours[name], theirs[name][episode], atol=2e-4)


def test_episode_statistics_of_two_episodes_equal_numbers_by_hand():
    values = np.array([[1.0], [3.0], [4.0], [2.0], [10.0]], dtype=np.float32)
    result = episode_statistics(values, np.array([4, 1])).columns()
    expected = {
        "min": [1, 10],
        "max": [4, 10],
        "mean": [2.5, 10],
        "std": [np.sqrt(1.25), 0],
        "q01": [1, 10],
        "q10": [1, 10],
        "q50": [2, 10],
        "q90": [4, 10],
        "q99": [4, 10],
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(result[name], np.array(numbers)[:, np.newaxis])
    assert result["count"].tolist() == [4, 1]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 2**32 - 1))
def test_episode_statistics_of_ragged_episodes_are_independent(lengths, seed):
    values = np.random.default_rng(seed).normal(size=(sum(lengths), 2, 3))
    result = episode_statistics(values, np.array(lengths))
    parts = np.split(values, np.cumsum(lengths)[:-1])
    columns = result.columns()
    for name, quantile in QUANTILES.items():
        exact = [np.quantile(part, quantile, axis=0, method="inverted_cdf") for part in parts]
        np.testing.assert_array_equal(columns[name], exact)
    np.testing.assert_allclose(result.mean, [part.mean(axis=0) for part in parts], atol=1e-12)
    np.testing.assert_allclose(result.std, [part.std(axis=0) for part in parts], atol=1e-12)
    whole = aggregate(result)
    np.testing.assert_allclose(whole.mean, values.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(whole.std, values.std(axis=0), atol=1e-12)
    np.testing.assert_array_equal(whole.max, values.max(axis=0))
    assert whole.count == sum(lengths)


def test_aggregate_of_aggregates_equals_aggregate_of_all():
    values = np.random.default_rng(0).normal(size=(100, 3))
    episodes = episode_statistics(values, np.array([10, 20, 30, 40]))
    parts = [
        FeatureStatistics(**{name: numbers[part] for name, numbers in episodes.columns().items()})
        for part in (slice(0, 3), slice(3, 4))
    ]
    twice = aggregate(stack([aggregate(part) for part in parts])).columns()
    for name, numbers in aggregate(episodes).columns().items():
        np.testing.assert_allclose(twice[name], numbers, atol=1e-14)


def test_feature_statistics_in_json_are_read_back_as_written():
    statistics = aggregate(statistics_of_lerobot("video", "action"))
    document = json.loads(json.dumps(statistics.to_json()))
    assert FeatureStatistics.from_json(document).to_json() == document


def test_episode_statistics_of_nan_stay_nan_without_a_warning():
    values = np.array([[1.0], [np.nan], [2.0], [np.inf], [3.0], [4.0]])
    result = episode_statistics(values, np.array([2, 2, 2]))
    assert np.isnan(result.mean[0])
    assert np.isposinf(result.max[1])
    assert result.mean[2] == 3.5


def test_image_statistics_of_large_images_and_long_episodes_are_sampled():
    frames = np.zeros((200, 4, 302, 3), dtype=np.uint8)
    frames[:, :, 1::2] = 255  # 302 // 150 = 2: only every other column is sampled
    result = image_statistics(frames)
    assert result.count == 100
    assert result.max.shape == (3, 1, 1)
    assert result.max.max() == 0
