"""Inserting the peg into the socket: the left arm holds the socket, the right pushes the peg."""

import math
from collections.abc import Iterator

import numpy as np

from nearer.envs.aloha.demonstrator.arm import Arm, Move, in_parallel, steps
from nearer.envs.aloha.demonstrator.grasping import Target, holds, take
from nearer.envs.aloha.poses import Pose, Rotation, Vector, between, rotation_vector, turned
from nearer.envs.aloha.simulation import CONTROL_HZ
from nearer.envs.aloha.tasks import PEG, SOCKET

_PEG = Target(row=0, rest_z_m=PEG.rest_z_m, outwards_m=0.005)
_SOCKET = Target(row=1, rest_z_m=SOCKET.rest_z_m)
_X, _Z = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
_MEETING_M = np.array([0.0, 0.5, 0.15])
"""Where the socket's mouth is held."""
_HALF_LENGTH_M = 0.06
"""Of peg and socket."""
_FAR_M, _READY_M, _IN_M = 0.17, 0.145, 0.088
"""Between the centres of peg and socket: when the peg arrives, before it enters, and where it is
pushed to; at 0.12 their ends meet, at 0.10 the peg touches the pin inside."""
_INSIDE_M = 0.103
_CARRY_M_S, _ALIGN_M_S, _INSERT_M_S = 0.28, 0.12, 0.08
_ALIGNED_M, _ALIGNED_RAD = 0.003, 0.06
"""The peg has 8 mm of clearance on every side."""
_ALIGNING_S = 1.2
_PRESSING_S = 0.3
_FOLLOWED = 0.25
"""Fraction of the way to a new target or a new measurement that one control step makes; the whole
way would shake the peg out of the fingers."""
_LATERAL_KEPT = 0.97
"""Fraction of the offset from the axis that is left after a control step of insertion."""
_ATTEMPTS = 4


def insert_peg(left: Arm, right: Arm) -> Move:
    """Take both objects, bring them together and push; start over with what was dropped."""
    for attempt in range(_ATTEMPTS):
        yield from in_parallel(_have(left, _SOCKET, attempt), _have(right, _PEG, attempt))
        yield from _bring_together(left, right)
        yield from _push_in(left, right)
        if _is_inside(right):
            return
        yield from _back_out(right)


def _have(arm: Arm, target: Target, attempt: int) -> Move:
    """Take an object, unless it is held."""
    if attempt == 0:
        yield from arm.wait(arm.variety.reaction_s())
    if not holds(arm, target):
        yield from take(arm, target)


def _bring_together(left: Arm, right: Arm) -> Move:
    """Hold the socket at the meeting point and the peg in front of it."""
    mouth_m = _MEETING_M + left.variety.meeting_m()
    upright = relabelled(np.eye(3), like=left.scene.objects[_SOCKET.row].rotation)
    socket = Pose(position_m=mouth_m - _HALF_LENGTH_M * _X, rotation=upright)
    lying = relabelled(np.eye(3), like=_peg(right).rotation)
    peg = Pose(position_m=socket.position_m + _FAR_M * _X, rotation=lying)
    yield from in_parallel(_carry(left, _SOCKET, socket), _carry(right, _PEG, peg))


def _carry(arm: Arm, target: Target, goal: Pose) -> Move:
    """Move a held object to a pose."""
    yield from arm.pause()
    held = arm.tool.inverse() @ arm.scene.objects[target.row]
    yield from arm.move(goal @ held.inverse(), _CARRY_M_S)
    yield from arm.settle()


def _push_in(left: Arm, right: Arm) -> Move:
    """Bring the peg onto the socket's axis, then along it as deep as it goes."""
    lateral_m = np.array([0.0, *right.variety.lateral_m()])
    held = right.tool.inverse() @ _peg(right)
    for distance_m in _distances_m(right, lateral_m):
        held = between(held, right.tool.inverse() @ _peg(right), _FOLLOWED)
        if distance_m < _READY_M:
            lateral_m = _LATERAL_KEPT * lateral_m
        goal = _on_axis(right, distance_m, lateral_m) @ held.inverse()
        right.reach(between(right.aim, goal, _FOLLOWED))
        yield
        if not (holds(left, _SOCKET) and holds(right, _PEG)):
            return


def _distances_m(right: Arm, lateral_m: Vector) -> Iterator[float]:
    """Yield how far the peg's centre is to be from the socket's, a control step each."""
    distance_m = _FAR_M
    for _ in range(steps(_ALIGNING_S)):
        distance_m = max(distance_m - _ALIGN_M_S / CONTROL_HZ, _READY_M)
        yield distance_m
        if distance_m == _READY_M and _is_aligned(right, _on_axis(right, _READY_M, lateral_m)):
            break
    step_m = _INSERT_M_S / CONTROL_HZ / right.variety.duration_s(1.0)
    while distance_m > _IN_M:
        distance_m -= step_m
        yield distance_m
    for _ in range(steps(_PRESSING_S)):
        yield _IN_M


def _back_out(right: Arm) -> Move:
    """Pull the peg out of the socket again, away from it where it is not in."""
    rotation = relabelled(right.scene.objects[_SOCKET.row].rotation, like=np.eye(3))
    back_m = right.aim.position_m + (_FAR_M - _IN_M) * rotation[:, 0]
    yield from right.move(
        Pose(position_m=back_m, rotation=right.aim.rotation), _ALIGN_M_S, straight=True
    )


def _is_inside(right: Arm) -> bool:
    """Return whether the peg is as deep in the socket as it goes."""
    socket = right.scene.objects[_SOCKET.row]
    return math.dist(socket.position_m, _peg(right).position_m) < _INSIDE_M


def _is_aligned(right: Arm, goal: Pose) -> bool:
    """Return whether the peg is about where it is to be."""
    turn = rotation_vector(goal.rotation.T @ _peg(right).rotation)
    near = math.dist(goal.position_m, _peg(right).position_m) < _ALIGNED_M
    return bool(near and np.linalg.norm(turn) < _ALIGNED_RAD)


def _on_axis(arm: Arm, distance_m: float, lateral_m: Vector) -> Pose:
    """Return the pose of a peg on the socket's axis, or beside it by y and z of `lateral_m`."""
    socket = arm.scene.objects[_SOCKET.row]
    rotation = relabelled(socket.rotation, like=np.eye(3))
    position_m = socket.position_m + rotation @ (distance_m * _X + lateral_m)
    return Pose(position_m=position_m, rotation=relabelled(rotation, like=_peg(arm).rotation))


def _peg(arm: Arm) -> Pose:
    return arm.scene.objects[_PEG.row]


def relabelled(rotation: Rotation, like: Rotation) -> Rotation:
    """Return a rotation of a square rod that looks the same, the one that is nearest to another.

    A rod along x looks the same after quarter turns about x, and with its ends exchanged.
    """
    same = [rotation @ symmetry for symmetry in _SYMMETRIES]
    return max(same, key=lambda candidate: float(np.sum(candidate * like)))


_SYMMETRIES = [
    turned(_X, quarter * math.pi / 2) @ turned(_Z, half * math.pi)
    for quarter in range(4)
    for half in range(2)
]
