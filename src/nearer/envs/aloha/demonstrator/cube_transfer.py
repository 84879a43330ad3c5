"""Handing over the cube: the right arm takes it, the left arm takes it from there."""

import math
from collections.abc import Generator

import numpy as np

from nearer.envs.aloha.demonstrator.arm import OPEN, Arm, Move, in_parallel
from nearer.envs.aloha.demonstrator.grasping import Target, close, holds, take
from nearer.envs.aloha.poses import Pose, Vector, turned
from nearer.envs.aloha.tasks import CUBE

_CUBE = Target(row=0, rest_z_m=CUBE.rest_z_m, symmetry_rad=math.pi / 2, pitch_rad=math.radians(65))
"""The steeper the right hand holds it, the more it is in the left hand's way: at 70 degrees two of
40 transfers failed, at 60 and 65 none."""
_X = np.array([1.0, 0.0, 0.0])
_MEETING_M = np.array([0.0, 0.5, 0.2])
"""Where the right hand holds the cube for the left; at 0.25 the left wrist is almost straight, and
the hand arrives beside its aim."""
_LYING = turned(_X, math.pi / 2)
"""The left tool points along x, its fingers above and below: the right ones are at the sides."""
_BEFORE_M, _RIGHT_BEFORE_M = 0.13, 0.09
"""How far from the cube the left hand opens, and from where it goes straight ahead: beside that
line are the right fingers."""
_SHALLOW_M = 0.01
"""By so much the left hand takes the cube in front of its centre."""
_CARRY_M_S, _APPROACH_M_S, _LEAVE_M_S = 0.28, 0.16, 0.2
_GIVING_S = 0.4
_LEAVE_M = 0.1
_ATTEMPTS = 4


def hand_over_cube(left: Arm, right: Arm) -> Move:
    """Take the cube with the right hand and give it to the left; start over when it fell."""
    meeting_m = _MEETING_M + right.variety.meeting_m()
    for attempt in range(_ATTEMPTS):
        yield from in_parallel(
            _get_ready(left, meeting_m, attempt), _present(right, meeting_m, attempt)
        )
        if (yield from _receive(left)) and holds(left, _CUBE):
            yield from _let_go(left, right)
            return
        left.gripper = OPEN
        yield from left.move(_shifted(left.aim, -_LEAVE_M), _LEAVE_M_S)


def _get_ready(left: Arm, meeting_m: Vector, attempt: int) -> Move:
    """Open the left hand before the meeting point."""
    if attempt == 0:
        yield from left.wait(left.variety.reaction_s())
    left.gripper = OPEN
    before_m = meeting_m - _BEFORE_M * _X + left.variety.waypoint_m()
    before = Pose(position_m=before_m, rotation=_LYING)
    yield from left.swing(before) if attempt == 0 else left.move(before, _LEAVE_M_S)


def _present(right: Arm, meeting_m: Vector, attempt: int) -> Move:
    """Hold the cube at the meeting point, taken from the table where it is not held."""
    if attempt == 0:
        yield from right.wait(right.variety.reaction_s())
    if not holds(right, _CUBE):
        yield from take(right, _CUBE)
    yield from right.pause()
    held_m = right.scene.objects[_CUBE.row].position_m - right.tool.position_m
    goal = Pose(position_m=meeting_m - held_m, rotation=right.aim.rotation)
    yield from right.move(goal, _CARRY_M_S)
    yield from right.settle()


def _receive(left: Arm) -> Generator[None, None, bool]:
    """Close the left fingers around the cube, and return whether both have met it."""
    yield from left.pause()
    off_m = left.variety.grasp_m() - _SHALLOW_M * _X
    goal_m = left.scene.objects[_CUBE.row].position_m + off_m
    before_m = goal_m - _RIGHT_BEFORE_M * _X
    yield from left.move(Pose(position_m=before_m, rotation=_LYING), _LEAVE_M_S)
    yield from left.settle()
    yield from left.move(Pose(position_m=goal_m, rotation=_LYING), _APPROACH_M_S, straight=True)
    yield from left.settle()
    return (yield from close(left))


def _let_go(left: Arm, right: Arm) -> Move:
    """Open the right hand and draw it back."""
    right.gripper = OPEN
    yield from right.wait(_GIVING_S)
    yield from right.move(_shifted(right.aim, -_LEAVE_M), _LEAVE_M_S)


def _shifted(tool: Pose, ahead_m: float) -> Pose:
    """Return a tool's pose further ahead along its own x."""
    return Pose(position_m=tool.position_m + ahead_m * tool.rotation[:, 0], rotation=tool.rotation)
