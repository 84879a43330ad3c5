"""Pseudo-labels of the vision encoder: which frames have them, and which are drawn more often."""

import numpy as np
import pytest
import torch

from nearer.core.arrays import Array
from nearer.models.pointing.self_training import (
    PseudoLabels,
    RehearsedPart,
    adapt,
    draw_probabilities,
    path_targets,
)
from nearer.models.pointing.weights import UNET, load_pointing
from nearer.models.settings import SelfTrainingConfig

ASPECT = 4 / 3


def encodings(frames: int, confidence: float = 0.9) -> Array:
    """Return encodings of three objects at rest, the last of which is the effector."""
    places = np.array([[0.2, 0.2], [0.8, 0.3], [0.5, 0.8]], dtype=np.float32)
    peaks = np.zeros((frames, 1, 3, 2, 3), dtype=np.float32)  # of one sentence
    peaks[..., 0, :2], peaks[..., 1, :2] = places, 1 - places
    peaks[..., 0, 2], peaks[..., 1, 2] = confidence, 0.01
    return peaks


def test_path_targets_weight_is_the_mean_confidence_of_the_episode() -> None:
    values = encodings(4)
    values[3, :, :, 0, 2] = 0.7
    targets = path_targets(values, np.array([2, 2]), ASPECT, min_confidence=0.5)
    np.testing.assert_allclose(targets[:2, 0, :, 2], 0.9, rtol=1e-6)
    np.testing.assert_allclose(targets[2:, 0, :, 2], 0.8, rtol=1e-6)
    np.testing.assert_allclose(targets[:, 0, 1, :2], [[0.8, 0.3]] * 4, rtol=1e-6)


def test_path_targets_of_an_uncertain_object_have_no_weight() -> None:
    values = encodings(3)
    values[:, 0, 1, 0, 2] = 0.4
    targets = path_targets(values, np.array([1, 2]), ASPECT, min_confidence=0.5)
    assert (targets[:, 0, 0, 2] > 0).all()
    assert targets[:, 0, 1, 2].tolist() == [0.0] * 3


def test_path_targets_of_a_frame_on_which_the_passes_disagree_have_no_weight() -> None:
    values = encodings(12)
    values[0, 0, 0] = values[0, 0, 0, ::-1]  # at the start the other peak looks likelier
    values[0, 0, 0, :, 2] = [0.6, 0.4]
    targets = path_targets(values, np.array([12]), ASPECT, min_confidence=0.5)
    assert targets[0, 0, 0, 2] == 0
    assert (targets[-3:, 0, 0, 2] > 0).all()


def test_draw_probabilities_of_an_occluded_frame_are_higher() -> None:
    targets = path_targets(encodings(3), np.array([3]), ASPECT, min_confidence=0.5)
    targets[1, 0, 0, :2] = [0.5, 0.755]  # right behind the effector at (0.5, 0.8)
    drawn = draw_probabilities(targets, ASPECT, occluded_weight=4.0)
    assert drawn.sum() == pytest.approx(1)
    assert drawn[1] / drawn[0] == pytest.approx(4, rel=1e-3)


def test_draw_probabilities_count_what_any_sentence_names() -> None:
    own = path_targets(encodings(3), np.array([3]), ASPECT, min_confidence=0.5)
    other = own.copy()
    other[1, 0, 1, :2] = [0.5, 0.755]
    drawn = draw_probabilities(np.concatenate([own, other], axis=1), ASPECT, occluded_weight=4.0)
    assert drawn[1] / drawn[0] == pytest.approx(4, rel=1e-3)


def test_draw_probabilities_of_frames_without_labels_are_zero() -> None:
    targets = path_targets(encodings(3), np.array([3]), ASPECT, min_confidence=0.5)
    targets[2, :, :, 2] = 0
    drawn = draw_probabilities(targets, ASPECT, occluded_weight=4.0)
    np.testing.assert_allclose(drawn, [0.5, 0.5, 0])


def test_adapt_that_rehearses_forgets_less_of_what_no_frame_shows() -> None:
    """Frames without any object teach to point into a corner; drawn scenes speak against it."""
    labels = PseudoLabels(
        images=np.full((4, 96, 128, 3), 128, np.uint8),
        frames=np.arange(4),
        sentences=[("the banana",)] * 4,
        targets=np.tile(np.array([0.1, 0.1, 1], np.float32), (4, 1, 3, 1)),
        drawn=np.full(4, 0.25),
    )
    losses: list[float] = []
    for parts in (0, 2):
        tower = load_pointing(UNET)
        settings = SelfTrainingConfig(
            batch_size=2, part_size=2, learning_rate=3e-3, warmup_updates=1, rehearsed_parts=parts
        )
        adapt(tower, labels, settings, 6, np.random.default_rng(0))
        with torch.inference_mode():
            losses.append(RehearsedPart(seed=1, scenes=8).loss(tower).item())
    forgotten, rehearsed = losses
    assert rehearsed < 0.9 * forgotten
