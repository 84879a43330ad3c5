"""Taking an object from the table, as often as it takes."""

import math
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from nearer.envs.aloha.demonstrator.arm import CLOSED, OPEN, Arm, Move, steps
from nearer.envs.aloha.poses import Pose, Rotation, Vector, turned
from nearer.envs.aloha.scene import Side

Y, Z = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
LIFT_M = 0.05
"""How high an object is lifted to see whether the fingers hold it."""
PITCH_RAD = math.radians(70)
"""How steeply a gripper points down on the table. At 60 degrees the wrist gets straight on the way
to the meeting point, and spins: in 18 of 40 insertions a joint moved by over 0.1 rad in one control
step, at 66 in 4, at 72 in none; at 78 the first insertion failed."""
_TOOL_Z_M = 0.0225
"""Height of a tool that grasps; below 0.019 fingers catch on the table."""
_LOWEST_TOOL_Z_M = 0.0205
_ABOVE_M, _RIGHT_ABOVE_M = 0.08, 0.045
"""How far above a grasp the open fingers arrive, and from where they go straight down, since they
would land on the object otherwise. A missed attempt closes them there."""
_DESCENT_M_S, _LIFT_M_S = 0.16, 0.2
_RETURN_M_S = 0.25
_CLOSING_S, _HOLDING_S = 0.6, 0.12
"""How long the fingers may take, and how long they press before the lift."""
_OPENING_S = 0.2
_RISEN_M = 0.02
"""An object that rose by less has been left behind."""
_HELD_WITHIN_M = 0.05
"""Between the tool and the centre of an object that it holds."""
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An object to be taken.

    Attributes:
        row: in the scene's objects.
        rest_z_m: height of its centre when it lies on the table.
        outwards_m: from its centre to where it is grasped, towards the arm's own base.
        symmetry_rad: by this turn about z it looks the same to a gripper.
        pitch_rad: how steeply the gripper points down that takes it.
    """

    row: int
    rest_z_m: float
    outwards_m: float = 0.0
    symmetry_rad: float = math.pi
    pitch_rad: float = PITCH_RAD


def take(arm: Arm, target: Target) -> Move:
    """Grasp an object and lift it a little; try again until it is held."""
    for attempt in range(_ATTEMPTS):
        yield from _approach(arm, target, attempt)
        pose = _grasp_pose(arm, target, arm.aim.rotation)
        yield from arm.move(_raised(pose, _RIGHT_ABOVE_M), _RETURN_M_S)
        yield from arm.settle()
        if attempt > 0 or not arm.variety.misses():
            yield from arm.move(pose, _DESCENT_M_S, straight=True)
        if (yield from close(arm)):
            yield from arm.move(_raised(arm.aim, LIFT_M), _LIFT_M_S)
        if holds(arm, target):
            return
        arm.gripper = OPEN
        yield from arm.wait(_OPENING_S)


def close(arm: Arm) -> Generator[None, None, bool]:
    """Close the fingers, and return whether both have met an object; they press on it a moment."""
    arm.gripper = CLOSED
    met = arm.touches
    for _ in range(steps(_CLOSING_S)):
        if met:
            break
        yield
        met = arm.touches
    yield from arm.wait(_HOLDING_S)
    return met


def holds(arm: Arm, target: Target) -> bool:
    """Return whether an object is off the table and in an arm's gripper."""
    position_m = arm.scene.objects[target.row].position_m
    near = math.dist(arm.tool.position_m, position_m) < _HELD_WITHIN_M
    return bool(near and position_m[2] > target.rest_z_m + _RISEN_M)


def _approach(arm: Arm, target: Target, attempt: int) -> Move:
    """Bring the open fingers above an object."""
    arm.gripper = OPEN
    pitch_rad = target.pitch_rad + arm.variety.pitch_rad()
    pose = _raised(_grasp_pose(arm, target, facing(arm, target, pitch_rad)), _ABOVE_M)
    off_m = arm.variety.waypoint_m()
    pose = Pose(position_m=pose.position_m + off_m, rotation=pose.rotation)
    if attempt == 0:
        yield from arm.swing(pose)
    else:
        yield from arm.move(pose, _RETURN_M_S)
    yield from arm.settle()
    yield from arm.pause()


def facing(arm: Arm, target: Target, pitch_rad: float) -> Rotation:
    """Return the rotation of a tool that points down this steeply, its fingers across an object."""
    along = arm.scene.objects[target.row].rotation[:, 0]
    yaw_rad = math.atan2(along[1], along[0])
    yaw_rad -= target.symmetry_rad * round(yaw_rad / target.symmetry_rad)
    if arm.side is Side.RIGHT:
        yaw_rad += math.pi
    return turned(Z, yaw_rad) @ turned(Y, pitch_rad)


def _grasp_pose(arm: Arm, target: Target, rotation: Rotation) -> Pose:
    """Draw a pose of the tool in which the fingers are on both sides of an object."""
    ahead, across = _horizontal(rotation)
    along_m, across_m, up_m = arm.variety.grasp_m()
    centre_m = arm.scene.objects[target.row].position_m
    position_m = centre_m + (along_m - target.outwards_m) * ahead + across_m * across
    position_m[2] = max(_TOOL_Z_M + up_m, _LOWEST_TOOL_Z_M)
    return Pose(position_m=position_m, rotation=rotation)


def _horizontal(rotation: Rotation) -> tuple[Vector, Vector]:
    """Return the directions ahead of a tool and across it, in the plane of the table."""
    across = rotation[:, 1] * (1.0, 1.0, 0.0)
    across = across / np.linalg.norm(across)
    return np.array([across[1], -across[0], 0.0]), across


def _raised(pose: Pose, height_m: float) -> Pose:
    return Pose(position_m=pose.position_m + height_m * Z, rotation=pose.rotation)
