"""One arm of the demonstrator, and the moves that a script is made of.

A move is a generator that sets what its arm is to do now and yields, once a control step. Scripts
chain moves by `yield from`, and let both arms move at the same time by `in_parallel`.
"""

import math
from collections.abc import Iterator

import numpy as np

from nearer.envs.aloha.demonstrator.kinematics import ArmKinematics, Joints
from nearer.envs.aloha.demonstrator.noise import Variety
from nearer.envs.aloha.poses import Pose, Vector, between, rotation_vector
from nearer.envs.aloha.scene import AlohaScene, Side
from nearer.envs.aloha.simulation import CONTROL_HZ

Move = Iterator[None]
OPEN, CLOSED = 0.95, 0.0
"""Openings of a gripper; the fingers stop at 0.97."""
_START_GRIPPER = 0.1
_GRIPPER_STEP = 0.08
"""How far a gripper's target moves in a control step, as a person's hand would."""
_TURNING_RAD_S = 1.5
"""Of a tool, on the mean of a move."""
_SWINGING_RAD_S = 1.0
"""Of the joint that has the longest way, on the mean of a swing."""
_SHORTEST_S = 0.15
_SETTLED_M = 0.005
_SETTLING_S = 0.6
"""After so long a tool that has not settled is used as it is."""


class Arm:
    """What one arm is to do now, and what it sees.

    Attributes:
        scene: as it is now.
        joints_rad: targets of the joints, before gravity pulls at them.
        gripper: where its target moves to, 0 closed to 1 open.
    """

    def __init__(
        self, side: Side, kinematics: ArmKinematics, scene: AlohaScene, variety: Variety
    ) -> None:
        self.side, self.variety, self.scene = side, variety, scene
        self.joints_rad: Joints = scene.joints_rad[side].copy()
        self.gripper = _START_GRIPPER
        self._gripper_now = _START_GRIPPER
        self._kinematics = kinematics
        self._tremor_m: Vector = np.zeros(3)

    @property
    def tool(self) -> Pose:
        """Return where the tool is."""
        return self._kinematics.tool_pose(self.scene.joints_rad[self.side])

    @property
    def aim(self) -> Pose:
        """Return where the tool is to be now."""
        return self._kinematics.tool_pose(self.joints_rad)

    @property
    def touches(self) -> bool:
        """Return whether both fingers touch an object."""
        return bool(self.scene.fingers_touch[self.side].all())

    def command(self) -> tuple[Joints, float]:
        """Return targets of the joints that make up for gravity, and of the gripper."""
        change = float(np.clip(self.gripper - self._gripper_now, -_GRIPPER_STEP, _GRIPPER_STEP))
        self._gripper_now += change
        against_gravity = self.joints_rad + self.scene.sag_rad[self.side]
        return self._kinematics.within_limits(against_gravity), self._gripper_now

    def reach(self, tool: Pose) -> None:
        """Aim at a pose of the tool that is near the present aim."""
        self._tremor_m = self.variety.tremor_m(self._tremor_m)
        trembling = Pose(position_m=tool.position_m + self._tremor_m, rotation=tool.rotation)
        self.joints_rad = self._kinematics.solve(trembling, self.joints_rad)

    def swing(self, tool: Pose) -> Move:
        """Move to a pose far away, all joints evenly.

        Straight lines of the tool would lead past poses in which the wrist has to spin.
        """
        start = self.joints_rad
        end = self._kinematics.solve_far(tool, start)
        usual_s = float(np.abs(end - start).max()) / _SWINGING_RAD_S
        for fraction in _progress(self.variety.duration_s(usual_s)):
            self.joints_rad = start + fraction * (end - start)
            yield

    def move(self, tool: Pose, speed_m_s: float, *, straight: bool = False) -> Move:
        """Move along a line.

        Args:
            tool: at its end.
            speed_m_s: on the mean.
            straight: whether the line must not bend.
        """
        start = self.aim
        length_m = math.dist(start.position_m, tool.position_m)
        angle_rad = float(np.linalg.norm(rotation_vector(start.rotation.T @ tool.rotation)))
        bow_m = np.zeros(3) if straight else self.variety.bow_m(length_m)
        usual_s = max(length_m / speed_m_s, angle_rad / _TURNING_RAD_S)
        for fraction in _progress(self.variety.duration_s(usual_s)):
            pose = between(start, tool, fraction)
            bent_m = pose.position_m + math.sin(math.pi * fraction) * bow_m
            self.reach(Pose(position_m=bent_m, rotation=pose.rotation))
            yield

    def settle(self) -> Move:
        """Wait until the tool is where it is to be."""
        for _ in range(steps(_SETTLING_S)):
            if math.dist(self.tool.position_m, self.aim.position_m) < _SETTLED_M:
                return
            yield

    def wait(self, duration_s: float) -> Move:
        """Stay where it is."""
        for _ in range(steps(duration_s)):
            yield

    def pause(self) -> Move:
        """Hesitate, or not."""
        return self.wait(self.variety.pause_s())


def steps(duration_s: float) -> int:
    """Return how many control steps a duration has."""
    return round(duration_s * CONTROL_HZ)


def in_parallel(*moves: Move) -> Move:
    """Do several moves at once, each of another arm, until the last has ended."""
    going = list(moves)
    while True:
        going = [move for move in going if _goes_on(move)]
        if not going:
            return
        yield


def _goes_on(move: Move) -> bool:
    """Return whether a move has not ended with this control step."""
    return next(move, _ENDED) is not _ENDED


_ENDED = object()


def _progress(duration_s: float) -> Iterator[float]:
    """Yield the fraction of a way that is done, a control step each, with the least jerk.

        s(t) = 10 t^3 - 15 t^4 + 6 t^5

    Source: Flash and Hogan 1985, "The coordination of arm movements".
    """
    count = steps(max(duration_s, _SHORTEST_S))
    for step in range(1, count + 1):
        time = step / count
        yield time**3 * (10 - 15 * time + 6 * time**2)
