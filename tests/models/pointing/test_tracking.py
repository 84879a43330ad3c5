"""The filter that keeps an object in place while it is hidden, and its two passes over episodes."""

import numpy as np
import pytest
import torch

from nearer.core.arrays import Array
from nearer.models.pointing.tracking import behind_effector, smoothed_paths, track, two_peaks

ASPECT = 4 / 3
EFFECTOR = (0.5, 0.6)
BEHIND = (0.5, 0.55)  # just above the effector in the image, so covered by it
AWAY = (0.1, 0.1)
SURE, UNSURE = 0.98, 0.01


def frame(
    first: tuple[tuple[float, float], float],
    second: tuple[tuple[float, float], float],
    effector: tuple[float, float] = EFFECTOR,
) -> Array:
    """Return one robot's two peaks of the first object; the second object is at the corner."""
    slots = [
        [[*first[0], first[1]], [*second[0], second[1]]],
        [[0.9, 0.9, SURE], [0.1, 0.9, UNSURE]],
        [[*effector, SURE], [0.1, 0.9, UNSURE]],
    ]
    return np.array([slots], dtype=np.float32)


def place(belief: Array) -> list[float]:
    return belief[0, 0, 0, :2].tolist()


def test_track_first_frame_starts_at_the_peaks() -> None:
    belief = track(None, frame((BEHIND, SURE), (AWAY, UNSURE)), ASPECT)
    assert belief.shape == (1, 3, 3, 3)
    np.testing.assert_allclose(belief[0, 0, :2, :2], [BEHIND, AWAY], rtol=1e-6)
    expected = [SURE / (SURE + UNSURE), UNSURE / (SURE + UNSURE), 0]
    np.testing.assert_allclose(belief[0, 0, :, 2], expected, rtol=1e-4)


def test_track_beliefs_are_sorted_and_sum_to_one() -> None:
    belief = None
    rng = np.random.default_rng(0)
    for _ in range(20):
        belief = track(belief, rng.random((5, 3, 2, 3)).astype(np.float32), ASPECT)
        np.testing.assert_allclose(belief[..., 2].sum(axis=2), 1, rtol=1e-5)
        assert (np.diff(belief[..., 2]) <= 0).all()


def test_track_near_peak_beats_a_far_one_of_higher_probability() -> None:
    near = (0.72, 0.3)
    belief = track(None, frame(((0.7, 0.3), SURE), (AWAY, UNSURE)), ASPECT)
    belief = track(belief, frame((AWAY, 0.9), (near, 0.08)), ASPECT)
    assert place(belief) == pytest.approx(near)


def test_track_object_behind_the_effector_stays_while_another_is_pointed_at() -> None:
    belief = track(None, frame((BEHIND, SURE), (AWAY, UNSURE)), ASPECT)
    for _ in range(5):
        belief = track(belief, frame((AWAY, SURE), ((0.9, 0.1), UNSURE)), ASPECT)
        assert place(belief) == pytest.approx(BEHIND)


def test_track_hidden_object_that_moved_with_the_effector_is_found_again() -> None:
    belief = track(None, frame((BEHIND, SURE), (AWAY, UNSURE)), ASPECT)
    for step in range(1, 4):
        moved = (EFFECTOR[0], EFFECTOR[1] - 0.04 * step)
        belief = track(belief, frame((AWAY, SURE), ((0.9, 0.1), UNSURE), moved), ASPECT)
    pushed = (BEHIND[0], BEHIND[1] - 0.04 * 3)
    hypotheses = belief[0, 0, :, :2]
    assert np.abs(hypotheses - pushed).sum(axis=1).min() < 1e-5
    belief = track(belief, frame((AWAY, 0.5), (pushed, 0.4), (0.5, 0.8)), ASPECT)
    assert place(belief) == pytest.approx(pushed)


def test_track_wrong_start_is_corrected_after_some_frames() -> None:
    right, wrong = (0.2, 0.8), (0.8, 0.2)
    belief = track(None, frame((wrong, SURE), (AWAY, UNSURE)), ASPECT)
    frames = 0
    while place(belief) != pytest.approx(right):
        belief = track(belief, frame((right, SURE), (wrong, UNSURE)), ASPECT)
        frames += 1
        assert frames < 20
    assert frames > 1  # a single frame may be a mistake


def test_track_row_of_many_equals_the_row_alone() -> None:
    rng = np.random.default_rng(1)
    first, second = (rng.random((4, 3, 2, 3)).astype(np.float32) for _ in range(2))
    together = track(track(None, first, ASPECT), second, ASPECT)
    for row in range(4):
        part = slice(row, row + 1)
        alone = track(track(None, first[part], ASPECT), second[part], ASPECT)
        assert alone.tobytes() == together[part].tobytes()


def test_smoothed_paths_through_hidden_frames_is_believed_in_place() -> None:
    visible, hidden = frame((BEHIND, SURE), (AWAY, UNSURE)), frame((AWAY, SURE), (AWAY, UNSURE))
    positions, believed = smoothed_paths(
        np.concatenate([visible, hidden, hidden, visible]), np.array([4]), ASPECT
    )
    np.testing.assert_allclose(positions[:, 0], [BEHIND] * 4, rtol=1e-5)
    assert believed[:, 0].all()


def test_smoothed_paths_where_the_passes_disagree_is_not_believed() -> None:
    right, wrong = (0.2, 0.8), (0.8, 0.2)
    start, later = frame((wrong, 0.6), (right, 0.4)), frame((right, SURE), (wrong, UNSURE))
    positions, believed = smoothed_paths(
        np.concatenate([start, *[later] * 9]), np.array([10]), ASPECT
    )
    assert not believed[0, 0]
    assert believed[-3:, 0].all()
    np.testing.assert_allclose(positions[-3:, 0], [right] * 3, rtol=1e-5)
    assert believed[:, 1:].all()


def test_smoothed_paths_of_two_episodes_equal_each_alone() -> None:
    encodings = np.random.default_rng(2).random((7, 3, 2, 3)).astype(np.float32)
    together = smoothed_paths(encodings, np.array([3, 4]), ASPECT)
    first = smoothed_paths(encodings[:3], np.array([3]), ASPECT)
    second = smoothed_paths(encodings[3:], np.array([4]), ASPECT)
    for whole, *parts in zip(together, first, second, strict=True):
        assert np.array_equal(whole, np.concatenate(parts))


def test_behind_effector_is_one_above_it_and_zero_far_away() -> None:
    points = np.array([[[0.5, 0.555], [0.5, 0.9], [0.1, 0.555]]], dtype=np.float32)
    covered = behind_effector(points, np.array([EFFECTOR], dtype=np.float32), ASPECT)
    np.testing.assert_allclose(covered, [[1, 0, 0]], atol=1e-3)


def test_two_peaks_of_two_bumps_are_their_positions() -> None:
    logits = torch.zeros(1, 1, 48, 64)
    logits[0, 0, 10, 20] = 12.0
    logits[0, 0, 30, 50] = 11.0
    first, second = two_peaks(logits)[0, 0]
    assert first[:2].tolist() == pytest.approx([20.5 / 64, 10.5 / 48], abs=0.01)
    assert second[:2].tolist() == pytest.approx([50.5 / 64, 30.5 / 48], abs=0.01)
    assert 0.6 < first[2] < 0.75 < (first[2] + second[2]) <= 1
