"""Where an arm's tool is, and which joint angles bring it somewhere: kinematics and its inverse."""

from typing import Any

import numpy as np
from jaxtyping import Float64

from nearer.core.arrays import Array
from nearer.envs.aloha.poses import Pose, rotation_vector
from nearer.envs.aloha.scene import Side
from nearer.envs.aloha.simulation import arm_joint_names, side_name
from nearer.envs.gl import mujoco

Joints = Float64[Array, "6"]
"""Angles of an arm in rad, from waist to wrist."""
_TOOL_X_M = 0.135
"""From the wrist's last joint to between the fingertips, 2 cm behind their ends."""
_DAMPING = 0.02
"""In metres and rad; keeps joint steps short near singular poses."""
_ITERATIONS, _FAR_ITERATIONS = 3, 60
"""Enough to follow a tool that moves by millimetres, and for a pose that is far away."""
_BENT_RAD = (-0.5, 0.9, 0.0, 0.5, 0.0)
"""Shoulder to wrist of an arm that reaches forward with its gripper pointing down."""
_REACHED_M = 0.002
_MAX_JOINT_STEP_RAD = 0.3
"""An iteration's longest step of a joint."""


class ArmKinematics:
    """One arm of a model. Its tool is between the fingertips: x points ahead, y across the fingers.

    Keeps a state of its own to compute in, so a thread must not share it.
    """

    def __init__(self, model: Any, side: Side) -> None:
        """Look up an arm in a mujoco.MjModel."""
        joints = [model.joint(name) for name in arm_joint_names(side)]
        self._model, self._data = model, mujoco.MjData(model)
        self._angles = np.array([joint.qposadr[0] for joint in joints])
        self._speeds = np.array([joint.dofadr[0] for joint in joints])
        self._body = model.body(f"{side_name(side)}/gripper_link").id
        self._base = model.body(side_name(side)).id
        self._low, self._high = np.transpose([joint.range for joint in joints])
        self._jacobian = np.zeros((6, model.nv))

    def tool_pose(self, joints: Joints) -> Pose:
        """Return where the tool is at these joint angles."""
        self._data.qpos[self._angles] = joints
        mujoco.mj_kinematics(self._model, self._data)
        rotation = self._data.xmat[self._body].reshape(3, 3).copy()
        return Pose(
            position_m=self._data.xpos[self._body] + _TOOL_X_M * rotation[:, 0], rotation=rotation
        )

    def solve(self, target: Pose, start: Joints, iterations: int = _ITERATIONS) -> Joints:
        """Return joint angles that bring the tool to a pose, by damped least squares.

            dq = J^T (J J^T + lambda^2 I)^-1 (x* - x)

        Source: Wampler 1986, "Manipulator inverse kinematic solutions based on vector formulations
        and damped least-squares methods".

        Args:
            target: of the tool.
            start: angles to begin with; the solution nearby is found.
            iterations: of the formula.
        """
        joints = start.copy()
        for _ in range(iterations):
            tool = self.tool_pose(joints)
            turn = tool.rotation @ rotation_vector(tool.rotation.T @ target.rotation)
            error = np.concatenate([target.position_m - tool.position_m, turn])
            jacobian = self._jacobian_at(tool)
            damped = jacobian @ jacobian.T + _DAMPING**2 * np.eye(6)
            step = jacobian.T @ np.linalg.solve(damped, error)
            step *= min(1.0, _MAX_JOINT_STEP_RAD / max(float(np.abs(step).max()), 1e-9))
            joints = self.within_limits(joints + step)
        return joints

    def solve_far(self, target: Pose, start: Joints) -> Joints:
        """Return joint angles that bring the tool to a pose far away, the nearest to `start` found.

        From a straight wrist the formula may take a way that spins the wrist; so it also begins
        from an arm that is turned towards the target, with its wrist bent.
        """
        base = self._data.xpos[self._base]
        ahead = self._data.xmat[self._base].reshape(3, 3).T @ (target.position_m - base)
        bent = np.array([np.arctan2(ahead[1], ahead[0]), *_BENT_RAD])
        solutions = [self.solve(target, begin, _FAR_ITERATIONS) for begin in (start, bent)]
        return min(solutions, key=lambda joints: self._cost(joints, target, start))

    def within_limits(self, joints: Joints) -> Joints:
        """Return the nearest joint angles that the arm can have."""
        return np.clip(joints, self._low, self._high)

    def _cost(self, joints: Joints, target: Pose, start: Joints) -> float:
        """Return how far the joints would go, in rad; much more where the target is not reached."""
        missed_m = float(np.linalg.norm(self.tool_pose(joints).position_m - target.position_m))
        return float(np.abs(joints - start).max()) + missed_m / _REACHED_M

    def _jacobian_at(self, tool: Pose) -> Float64[Array, "6 6"]:
        """Return how the tool moves (rows 0-2, m) and turns (rows 3-5, rad) with each joint."""
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_jac(
            self._model,
            self._data,
            self._jacobian[:3],
            self._jacobian[3:],
            tool.position_m,
            self._body,
        )
        return self._jacobian[:, self._speeds]
