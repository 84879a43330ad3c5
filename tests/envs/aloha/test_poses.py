"""Poses: composition, inverse, rotation vectors, by definitions and by hand."""

import math

import numpy as np
import pytest

from nearer.envs.aloha.poses import (
    Pose,
    between,
    from_quaternion,
    rotation_vector,
    translation,
    turned,
)

X, Z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


def a_pose(seed: int) -> Pose:
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    return Pose(position_m=rng.normal(size=3), rotation=turned(axis, rng.uniform(-3, 3)))


def close(first: Pose, second: Pose) -> bool:
    return np.allclose(first.position_m, second.position_m) and np.allclose(
        first.rotation, second.rotation
    )


def test_turned_by_a_quarter_brings_x_to_y() -> None:
    assert np.allclose(turned(Z, math.pi / 2) @ X, [0, 1, 0])


def test_pose_seen_from_a_turned_one() -> None:
    quarter = Pose(position_m=np.array([1.0, 0.0, 0.0]), rotation=turned(Z, math.pi / 2))
    assert np.allclose((quarter @ translation(2.0)).position_m, [1, 2, 0])


@pytest.mark.parametrize("seed", range(5))
def test_inverse_undoes_a_pose(seed: int) -> None:
    pose = a_pose(seed)
    assert close(pose @ pose.inverse(), translation(0.0))
    assert close(pose.inverse() @ (pose @ a_pose(seed + 50)), a_pose(seed + 50))


@pytest.mark.parametrize("angle_rad", [0.0, 1e-7, 0.3, 1.7, 3.1])
def test_rotation_vector_is_axis_times_angle(angle_rad: float) -> None:
    axis = np.array([0.6, 0.0, -0.8])
    assert np.allclose(rotation_vector(turned(axis, angle_rad)), angle_rad * axis)


def test_between_starts_at_the_start_ends_at_the_end_and_turns_evenly() -> None:
    start, end = a_pose(0), a_pose(1)
    assert close(between(start, end, 0.0), start)
    assert close(between(start, end, 1.0), end)
    middle = between(start, end, 0.5)
    assert np.allclose(middle.position_m, (start.position_m + end.position_m) / 2)
    assert np.allclose(
        rotation_vector(start.rotation.T @ middle.rotation),
        rotation_vector(middle.rotation.T @ end.rotation),
    )


def test_from_quaternion_is_its_rotation() -> None:
    half = math.pi / 8
    pose = from_quaternion(X, np.array([math.cos(half), 0.0, 0.0, math.sin(half)]))
    assert np.allclose(pose.rotation, turned(Z, math.pi / 4))
    assert np.allclose(from_quaternion(X, np.array([1.0, 0.0, 0.0, 0.0])).rotation, np.eye(3))
    assert np.array_equal(pose.position_m, X)
