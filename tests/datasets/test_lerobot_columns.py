"""Episodes as columns: which rows they take, what is added to them, and which are refused."""

from collections.abc import Mapping

import numpy as np
import pytest

from nearer.core.arrays import Array
from nearer.core.errors import DatasetError
from nearer.datasets.lerobot.columns import (
    EpisodeFrames,
    Rows,
    check_episodes,
    data_tables,
    episodes_table,
    feature_statistics,
    frame_columns,
    progress_table,
)
from nearer.datasets.lerobot.schema import Feature, new_info
from nearer.datasets.lerobot.statistics import NAMES

CAMERA = "observation.images.top"
INFO = new_info(
    {
        "action": Feature(dtype="float32", shape=(2,)),
        "next.reward": Feature(dtype="float32", shape=(1,)),
        CAMERA: Feature(dtype="video", shape=(4, 6, 3)),
    },
    fps=4,
    robot_type=None,
)
ROWS = Rows(first_episode=5, first_frame=40, lengths=np.array([3, 2]))


def episode(
    num_frames: int, first: float = 0.0, changed: Mapping[str, Array] | None = None
) -> EpisodeFrames:
    """Return an episode whose numbers count up from `first`."""
    columns = {
        "action": first + np.arange(2 * num_frames, dtype=np.float32).reshape(-1, 2),
        "next.reward": first + np.arange(num_frames, dtype=np.float32),
        CAMERA: np.full((num_frames, 4, 6, 3), int(first), np.uint8),
    }
    return EpisodeFrames(task="push", columns={**columns, **(changed or {})})


def test_rows_of_two_episodes_after_forty_frames_by_hand() -> None:
    assert ROWS.starts.tolist() == [0, 3]
    assert ROWS.episode_index.tolist() == [5, 6]
    assert ROWS.index_of_frame.tolist() == [40, 41, 42, 43, 44]
    assert ROWS.episode_of_frame.tolist() == [5, 5, 5, 6, 6]
    assert ROWS.frame_index.tolist() == [0, 1, 2, 0, 1]


def test_check_episodes_returns_the_frames_of_each() -> None:
    assert check_episodes(INFO.features, [episode(3), episode(1)]).tolist() == [3, 1]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"state": np.zeros(2)}, r"episode 1 of the append must have the columns \['action', 'n"),
        ({"action": np.zeros((2, 2))}, r"float32 of shape \(2, 2\), got float64 of shape \(2, 2\)"),
        ({"action": np.zeros((2, 3), np.float32)}, r"shape \(2, 2\), got float32 of shape \(2, 3"),
        (
            {"next.reward": np.zeros(3, np.float32)},
            r"next.reward of .* got float32 of shape \(3,\)",
        ),
        ({CAMERA: np.zeros((2, 4, 6, 3), np.float32)}, r"must be uint8 of shape \(2, 4, 6, 3\)"),
        ({CAMERA: np.zeros((2, 6, 4, 3), np.uint8)}, r"got uint8 of shape \(2, 6, 4, 3\)"),
    ],
)
def test_check_episodes_with_a_column_that_does_not_fit_is_refused(
    changed: dict[str, Array], sentence: str
) -> None:
    with pytest.raises(DatasetError, match=sentence):
        check_episodes(INFO.features, [episode(2), episode(2, changed=changed)])


def test_check_episodes_without_an_episode_or_a_frame_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least one episode, got none; append fewer times"):
        check_episodes(INFO.features, [])
    with pytest.raises(DatasetError, match="episode 1 of the append must have frames, got none; d"):
        check_episodes(INFO.features, [episode(2), episode(0)])


def test_frame_columns_add_the_standard_features() -> None:
    episodes = [episode(3), episode(2, first=10)]
    columns = frame_columns(INFO.features, episodes, ROWS, np.array([1, 0]), fps=4)
    assert columns["timestamp"].tolist() == [[0], [0.25], [0.5], [0], [0.25]]
    assert columns["frame_index"].tolist() == [[0], [1], [2], [0], [1]]
    assert columns["episode_index"].tolist() == [[5], [5], [5], [6], [6]]
    assert columns["index"].tolist() == [[40], [41], [42], [43], [44]]
    assert columns["task_index"].tolist() == [[1], [1], [1], [0], [0]]
    assert columns["next.reward"].tolist() == [[0], [1], [2], [10], [11]]
    assert columns["action"].tolist() == [[0, 1], [2, 3], [4, 5], [10, 11], [12, 13]]
    assert CAMERA not in columns


def test_feature_statistics_of_two_episodes_are_each_ones_own() -> None:
    episodes = [episode(3, first=51), episode(2, first=102)]
    columns = frame_columns(INFO.features, episodes, ROWS, np.zeros(2, np.int64), fps=4)
    statistics = feature_statistics(INFO.features, columns, episodes, ROWS.lengths)
    assert statistics.keys() == INFO.features.keys()
    assert statistics["next.reward"].mean.tolist() == [[52], [102.5]]
    assert statistics["action"].max.tolist() == [[55, 56], [104, 105]]
    assert statistics[CAMERA].mean[:, :, 0, 0] == pytest.approx(np.array([[0.2] * 3, [0.4] * 3]))
    assert statistics["index"].count.tolist() == [3, 2]


FRAME_BYTES = 3 * 4 + 8 + 4 * 8
"""Of three float32, the timestamp in float64 and four int64."""


@pytest.mark.parametrize(("frames_in_a_quarter", "parts"), [(5, [5]), (4, [3, 2]), (1, [3, 2])])
def test_data_tables_of_numbers_fill_a_quarter_of_a_file_with_whole_episodes(
    frames_in_a_quarter: int, parts: list[int]
) -> None:
    max_bytes = 4 * frames_in_a_quarter * FRAME_BYTES
    episodes = [episode(3), episode(2, first=10)]
    columns = frame_columns(INFO.features, episodes, ROWS, np.zeros(2, np.int64), fps=4)
    tables = list(data_tables(INFO.features, columns, episodes, ROWS.lengths, max_bytes))
    assert [table.num_rows for table in tables] == parts
    rewards = [reward for table in tables for reward in table.column("next.reward").to_pylist()]
    assert rewards == [0, 1, 2, 10, 11]


def test_data_tables_of_images_hold_one_episode_each() -> None:
    features = new_info({CAMERA: Feature(dtype="image", shape=(4, 6, 3))}, 4, None).features
    episodes = [
        EpisodeFrames(task="push", columns={CAMERA: np.zeros((n, 4, 6, 3), np.uint8)})
        for n in (3, 2)
    ]
    columns = frame_columns(features, episodes, ROWS, np.zeros(2, np.int64), fps=4)
    tables = list(data_tables(features, columns, episodes, ROWS.lengths, 10**9))
    assert [table.num_rows for table in tables] == [3, 2]
    names = [image["path"] for image in tables[1].column(CAMERA).to_pylist()]
    assert names == ["frame-000000.png", "frame-000001.png"]


def test_episodes_table_counts_seconds_from_the_start_of_each_video() -> None:
    """Three episodes of 3, 2 and 4 frames; the video of the last one is a new file."""
    rows = Rows(first_episode=0, first_frame=100, lengths=np.array([3, 2, 4]))
    episodes = [episode(3), episode(2), episode(4)]
    columns = frame_columns(INFO.features, episodes, rows, np.zeros(3, np.int64), fps=4)
    statistics = feature_statistics(INFO.features, columns, episodes, rows.lengths)
    files = {
        "data": np.array([999, 999, 1000]),
        f"videos/{CAMERA}": np.array([7, 7, 8]),
        "meta/episodes": np.array([7, 7, 7]),
    }
    table = episodes_table(rows, ["push", "push", "pull"], statistics, files, INFO).to_pydict()
    assert table["episode_index"] == [0, 1, 2]
    assert table["tasks"] == [["push"], ["push"], ["pull"]]
    assert table["dataset_from_index"] == [100, 103, 105]
    assert table["dataset_to_index"] == [103, 105, 109]
    assert table["data/chunk_index"] == [0, 0, 1]
    assert table["data/file_index"] == [999, 999, 0]
    assert table[f"videos/{CAMERA}/from_timestamp"] == [0, 0.75, 0]
    assert table[f"videos/{CAMERA}/to_timestamp"] == [0.75, 1.25, 1]
    assert table["stats/next.reward/count"] == [[3], [2], [4]]
    assert {f"stats/action/{name}" for name in NAMES} <= table.keys()


def test_progress_table_has_the_numbers_of_its_frames() -> None:
    progress = [
        {"steps": np.float32([2, 1, 0]), "quantiles": np.float32([[1, 2], [3, 4], [5, 6]])},
        {"steps": np.float32([1, 0]), "quantiles": np.float32([[7, 8], [9, 0]])},
    ]
    assert progress_table(progress, ROWS).to_pydict() == {
        "index": [40, 41, 42, 43, 44],
        "episode_index": [5, 5, 5, 6, 6],
        "steps": [2, 1, 0, 1, 0],
        "quantiles": [[1, 2], [3, 4], [5, 6], [7, 8], [9, 0]],
    }


STEPS = {"steps": np.zeros(3, np.float32)}


@pytest.mark.parametrize(
    ("second", "sentence"),
    [
        ([], "must have one entry per episode, 2, got 1"),
        ([{"other": np.zeros(2)}], r"of episode 1 .* of the others, \['steps'\], .* \['other'\]"),
        ([{"steps": np.zeros(3, np.float32)}], r"float32 of shape \(2,\), .* of shape \(3,\)"),
        ([{"steps": np.zeros(2)}], r"progress 'steps' of episode 1 .* got float64 of shape \(2,\)"),
    ],
)
def test_progress_table_of_episodes_that_do_not_match_is_refused(
    second: list[dict[str, Array]], sentence: str
) -> None:
    with pytest.raises(DatasetError, match=sentence):
        progress_table([STEPS, *second], ROWS)


@pytest.mark.parametrize(
    "columns",
    [
        {"index": np.zeros(3)},
        {"cube": np.zeros((3, 2, 2))},
        {"text": np.array(["a", "b", "c"])},
    ],
)
def test_progress_table_of_a_column_that_cannot_be_kept_is_refused(
    columns: dict[str, Array],
) -> None:
    rows = Rows(first_episode=0, first_frame=0, lengths=np.array([3]))
    with pytest.raises(DatasetError, match="of episode 0 of the append must"):
        progress_table([columns], rows)
