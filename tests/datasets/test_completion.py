"""Still frames at the end of demonstrations are counted, told, and cut on demand."""

from pathlib import Path

import numpy as np
import pytest

from nearer.datasets.completion import cut_after_completion, still_steps, still_tails
from nearer.datasets.demonstration_loading import (
    load_demonstrations,
    open_demonstrations,
    remarks_on,
)
from nearer.datasets.lerobot.feature import Feature
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.reader import Dataset, open_dataset
from nearer.datasets.lerobot.writer import DatasetWriter, EpisodeFrames

MOVING, TAILS = (12, 20, 8, 15), (0, 9, 3, 30)


def record(root: Path, state: str = "observation.state") -> Dataset:
    """Return episodes that move for MOVING frames and then stand still for TAILS frames."""
    features = {key: Feature(dtype="float32", shape=(2,)) for key in {state, "action"}}
    episodes: list[EpisodeFrames] = []
    rng = np.random.default_rng(0)
    for moving, tail in zip(MOVING, TAILS, strict=True):
        path = np.linspace(0, 1, moving)[:, None] * np.array([1.0, -2.0])
        values = np.concatenate([path, np.repeat(path[-1:], tail, axis=0)])
        noise = rng.uniform(-0.002, 0.002, values.shape)
        columns = {key: (values + noise).astype(np.float32) for key in features}
        episodes.append(EpisodeFrames(task="push", columns=columns))
    DatasetWriter.create(root, features, fps=10).append(episodes)
    return open_dataset(root)


def test_still_steps_are_those_after_the_last_movement(tmp_path: Path) -> None:
    assert still_steps(record(tmp_path)).tolist() == list(TAILS)


def test_still_steps_without_a_state_are_those_of_the_action(tmp_path: Path) -> None:
    dataset = record(tmp_path, state="action")
    # The last frame's action is never carried out, so the one before it is the last.
    assert still_steps(dataset).tolist() == [max(tail, 1) for tail in TAILS]


def test_still_tails_names_demonstrations_frames_and_the_flag(tmp_path: Path) -> None:
    dataset = record(tmp_path)
    assert still_tails(dataset) == (
        "2 of 4 demonstrations go on for 39 frames in which nothing moves, each for more than "
        "0.5 s: they count as steps to go; --completion-cutoff STEPS keeps so many of them"
    )
    assert remarks_on(dataset) == [still_tails(dataset)]
    assert remarks_on(cut_after_completion(dataset, 5)) == []


@pytest.mark.parametrize("kept", [0, 2, 5, 100])
def test_cut_after_completion_keeps_so_many_still_steps(kept: int, tmp_path: Path) -> None:
    dataset = record(tmp_path)
    cut = cut_after_completion(dataset, kept)
    lengths = [moving + min(tail, kept) for moving, tail in zip(MOVING, TAILS, strict=True)]
    assert cut.episode_lengths.tolist() == lengths
    assert contents_hash(cut) == contents_hash(dataset)
    assert (cut.view == "") == (kept == 100)


def test_open_demonstrations_with_a_cutoff_counts_steps_to_the_end_of_movement(
    tmp_path: Path,
) -> None:
    record(tmp_path)
    data = load_demonstrations(open_demonstrations(str(tmp_path), completion_cutoff=0))
    assert data.episode_lengths.tolist() == list(MOVING)
    ends = np.cumsum(MOVING) - 1
    assert data.steps_to_go.numpy()[ends].tolist() == [0, 0, 0, 0]
    assert data.steps_to_go.numpy()[:3].tolist() == [11, 10, 9]
    np.testing.assert_allclose(data.state.numpy()[ends], [[1, -2]] * 4, atol=0.01)
    whole = load_demonstrations(open_demonstrations(str(tmp_path)))
    assert whole.steps_to_go.numpy()[ends[0]] == 0
    assert whole.steps_to_go.numpy()[12] == 28


def test_cut_after_completion_of_an_episode_that_never_moves_keeps_a_step(tmp_path: Path) -> None:
    number = Feature(dtype="float32", shape=(1,))
    features = {"observation.state": number, "action": number}
    still = {key: np.ones((9, 1), np.float32) for key in features}
    writer = DatasetWriter.create(tmp_path, features, fps=10)
    writer.append([EpisodeFrames(task="push", columns=still)] * 2)
    dataset = open_dataset(tmp_path)
    assert still_steps(dataset).tolist() == [8, 8]
    assert cut_after_completion(dataset, 0).episode_lengths.tolist() == [2, 2]
