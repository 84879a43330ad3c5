"""Positions in the robot's plane, by exact points without noise."""

import math

import pytest
import torch

from nearer.models.planar_features import PlanarFeatures, fit_plane, lengths, to_plane

TILTED = torch.tensor([[2.0, 0.5, -1.0], [0.1, 3.0, 0.5], [0.2, 0.4, 1.0]])
"""A homography: a camera that looks at the plane from aside."""
POINTS = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))


def test_to_plane_of_a_point_by_hand() -> None:
    point = torch.tensor([0.5, 0.25])
    x, y, scale = 2 * 0.5 + 0.5 * 0.25 - 1, 0.1 * 0.5 + 3 * 0.25 + 0.5, 0.2 * 0.5 + 0.4 * 0.25 + 1
    assert to_plane(TILTED, point).tolist() == pytest.approx([x / scale, y / scale])


def test_to_plane_of_a_point_beyond_the_horizon_is_finite() -> None:
    plane = torch.eye(3)
    plane[2] = torch.tensor([-1.0, 0.0, 0.5])
    mapped = to_plane(plane, torch.tensor([[0.5, 1.0], [0.9, 1.0]]))
    assert mapped.isfinite().all()
    assert mapped.abs().max() >= 50


def test_lengths_are_euclidean() -> None:
    assert lengths(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == [5, 0]


def test_fit_plane_of_exact_pairs_maps_other_points_too() -> None:
    plane = fit_plane(POINTS, to_plane(TILTED, POINTS))
    assert plane is not None
    others = torch.rand(50, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(to_plane(plane, others), to_plane(TILTED, others), atol=1e-3)


@pytest.mark.parametrize(
    ("points", "positions"),
    [(POINTS[:7], to_plane(TILTED, POINTS[:7])), (POINTS, torch.ones(200, 2))],
)
def test_fit_plane_of_few_pairs_or_an_effector_at_rest_is_none(
    points: torch.Tensor, positions: torch.Tensor
) -> None:
    assert fit_plane(points, positions) is None


def scene(rows: int = 200) -> torch.Tensor:
    """Return image points of two objects and the effector."""
    return torch.rand(rows, 3, 2, generator=torch.Generator().manual_seed(2))


def test_planar_features_with_proprioception_are_in_the_robots_plane() -> None:
    """The offset to the first object, after the effector and the state, in the env's units."""
    points = scene()
    positions = to_plane(TILTED, points)
    features = PlanarFeatures(state=2, max_deviation=100.0)
    features.fit(points, positions[:, 2])
    assert features.uses_proprioception
    normalised = features(points, positions[:, 2])
    inputs = normalised * features.std + features.mean
    assert torch.allclose(inputs[:, :2], positions[:, 2], atol=1e-3)
    assert torch.allclose(inputs[:, 4:6], positions[:, 0] - positions[:, 2], atol=1e-2)


def test_planar_features_without_a_state_are_in_the_image() -> None:
    points = scene()
    features = PlanarFeatures(state=0, max_deviation=100.0)
    features.fit(points, torch.zeros(200, 0))
    assert not features.uses_proprioception
    assert features.plane.tolist() == torch.eye(3).tolist()
    inputs = features(points, torch.zeros(200, 0)) * features.std + features.mean
    assert torch.allclose(inputs[:, :2], points[:, 2], atol=1e-5)
    offset = points[:, 0] - points[:, 2]
    length = offset.norm(dim=1)
    saturating = offset / (length + features.near)[:, None]
    assert torch.allclose(inputs[:, 2:4], offset, atol=1e-5)
    assert torch.allclose(inputs[:, 4:6], saturating, atol=1e-5)
    assert torch.allclose(inputs[:, 6], (length + features.near / 4).log(), atol=1e-5)


def test_planar_features_of_the_demonstrations_have_unit_deviation_and_are_clipped() -> None:
    points, state = scene(), torch.full((200, 3), 0.5)
    features = PlanarFeatures(state=3, max_deviation=2.0)
    features.fit(points, state)
    normalised = features(points, state)
    assert normalised.abs().max() <= 2
    assert normalised[:, 2:5].abs().max() == 0, "a state that never varies divides by one"
    far = features(points + 100, state)
    assert far.abs().max() == 2
    assert features.num_inputs == normalised.shape[1] == 2 + 3 + 10
    assert math.isfinite(float(far.sum()))
