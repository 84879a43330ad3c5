"""Physics of the two arms and their objects: the models and tasks of gym-aloha, on dm_control.

gym-aloha is imported when a simulation is made. Its tasks turn actions into the actuators' targets,
read joint positions and grade what has been reached; starts are written here, so that they are a
function of the seed alone, and nothing is rendered that nobody asked for.
"""

import importlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.core.opengl import choose_backend
from nearer.envs.aloha.poses import from_quaternion
from nearer.envs.aloha.scene import AlohaScene, Side
from nearer.envs.aloha.tasks import AlohaTask

CONTROL_HZ = 50
_FULL_REWARD = 4
"""What gym-aloha's tasks give for full insertion, and for a cube that the left hand holds."""
_SIDES = (Side.LEFT, Side.RIGHT)
_ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
_FINGERS = ("10_left_gripper_finger", "10_right_gripper_finger")
_ROBOT_COORDINATES = 16
"""Six joints and two fingers a side come first."""
_XML_AND_TASK = {
    AlohaTask.INSERTION: ("bimanual_viperx_insertion.xml", "InsertionTask"),
    AlohaTask.TRANSFER_CUBE: ("bimanual_viperx_transfer_cube.xml", "TransferCubeTask"),
}


def side_name(side: Side) -> str:
    """Return the prefix of the model's names that belong to an arm."""
    return f"vx300s_{side.name.lower()}"


def arm_joint_names(side: Side) -> tuple[str, ...]:
    """Return the model's names of the six joints of an arm, from waist to wrist."""
    return tuple(f"{side_name(side)}/{joint}" for joint in _ARM_JOINTS)


def _import_gym_aloha(module: str) -> Any:
    """Return a module of gym-aloha or dm_control.

    Raises:
        EnvError: it is not installed.
    """
    choose_backend()  # dm_control reads MUJOCO_GL when it is imported
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EnvError(
            f"the ALOHA envs must have gym-aloha and dm_control, got: {error}; "
            "run: pip install 'nearer[aloha]'"
        ) from error


class AlohaModel:
    """One task's model, shared by all its simulations.

    Attributes:
        mujoco_model: the mujoco.MjModel.
        joint_limits_rad: least and greatest angle of six joints a side.
    """

    def __init__(self, task: AlohaTask) -> None:
        """Load the model.

        Raises:
            EnvError: gym-aloha is not installed.
        """
        constants = _import_gym_aloha("gym_aloha.constants")
        tasks = _import_gym_aloha("gym_aloha.tasks.sim")
        xml, task_class = _XML_AND_TASK[task]
        self._physics_error = _import_gym_aloha("dm_control.rl.control").PhysicsError
        self._physics_class = _import_gym_aloha("dm_control.mujoco").Physics
        self._wrapped = self._physics_class.from_xml_path(str(constants.ASSETS_DIR / xml)).model
        self._start = np.array(constants.START_ARM_POSE)
        self._substeps = round(1 / CONTROL_HZ / self._wrapped.opt.timestep)
        self.mujoco_model = self._wrapped.ptr
        self.task: Any = getattr(tasks, task_class)()
        names = [name for side in _SIDES for name in arm_joint_names(side)]
        joints = [self.mujoco_model.joint(name) for name in names]
        shape = (len(_SIDES), len(_ARM_JOINTS))
        self._angles = np.reshape([joint.qposadr[0] for joint in joints], shape)
        self._speeds = np.reshape([joint.dofadr[0] for joint in joints], shape)
        self._gains = np.reshape(
            [self.mujoco_model.actuator_gainprm[self._actuator(j.id), 0] for j in joints], shape
        )
        limits = np.array([joint.range for joint in joints])
        self.joint_limits_rad = limits.reshape(*shape, 2)
        self._fingers = np.array(
            [
                [self.mujoco_model.geom(f"{side_name(side)}/{finger}").id for finger in _FINGERS]
                for side in _SIDES
            ]
        )
        self._of_object = self._geoms_of_objects()

    def new_physics(self) -> Any:
        """Return a state of its own on the shared model, as a dm_control Physics."""
        return self._physics_class.from_model(self._wrapped)

    def start(self, physics: Any, object_poses: Float64[Array, "objects 7"]) -> None:
        """Put the arms to their start and the objects to these poses, everything at rest."""
        with physics.reset_context():
            physics.data.qpos[:_ROBOT_COORDINATES] = self._start
            physics.data.qpos[_ROBOT_COORDINATES:] = object_poses.ravel()
            physics.data.ctrl[:] = self._start

    def advance(self, physics: Any, action: Float64[Array, "14"]) -> bool:
        """Simulate one control step, and return whether the physics is sound after it."""
        self.task.before_step(action, physics)
        try:
            physics.step(self._substeps)
        except self._physics_error:
            return False
        return True

    def scene(self, physics: Any) -> AlohaScene:
        """Return the ground truth of a state."""
        data = physics.data.ptr
        coordinates = data.qpos[_ROBOT_COORDINATES:].reshape(-1, 7).copy()
        return AlohaScene(
            joints_rad=data.qpos[self._angles],
            sag_rad=data.qfrc_bias[self._speeds] / self._gains,
            fingers_touch=self._fingers_touch(data),
            objects=tuple(from_quaternion(row[:3], row[3:]) for row in coordinates),
        )

    def _fingers_touch(self, data: Any) -> Bool[Array, "2 2"]:
        pairs = np.asarray(data.contact.geom).reshape(-1, 2)
        touched = np.concatenate(
            [pairs[self._of_object[pairs[:, 1]], 0], pairs[self._of_object[pairs[:, 0]], 1]]
        )
        return np.isin(self._fingers, touched)

    def _geoms_of_objects(self) -> Bool[Array, "geoms"]:
        model = self.mujoco_model
        bodies = {int(model.jnt_bodyid[joint]) for joint in np.flatnonzero(model.jnt_type == 0)}
        return np.isin(model.geom_bodyid, list(bodies))

    def _actuator(self, joint: int) -> int:
        return int(np.flatnonzero(self.mujoco_model.actuator_trnid[:, 0] == joint)[0])


class AlohaSimulation:
    """One pair of arms; its state is a function of the start and the actions since, bit for bit.

    Attributes:
        is_broken: jumping targets have blown the physics up, and nothing moves until the next
            start. Of ten episodes of 200 steps none broke where targets jumped by up to 0.8 rad a
            control step, one by up to 1.2 rad, eight with targets drawn from the whole range.
    """

    def __init__(self, model: AlohaModel) -> None:
        self.is_broken = False
        self._model = model
        self._physics = model.new_physics()

    @property
    def mujoco_data(self) -> Any:
        """Return the mujoco.MjData."""
        return self._physics.data.ptr

    def start(self, object_poses: Float64[Array, "objects 7"]) -> None:
        """Start anew with the objects at these poses."""
        self._model.start(self._physics, object_poses)
        self.is_broken = False

    def step(self, action: Float64[Array, "14"]) -> None:
        """Simulate one control step."""
        if not self.is_broken:
            self.is_broken = not self._model.advance(self._physics, action)

    def agent_pos(self) -> Float64[Array, "14"]:
        """Return six joint angles in rad and the gripper's opening, left and then right."""
        return self._model.task.get_qpos(self._physics)

    def object_poses(self) -> Float64[Array, "objects 7"]:
        """Return x, y, z in metres and the unit quaternion of each object."""
        return self._model.task.get_env_state(self._physics).reshape(-1, 7)

    def scene(self) -> AlohaScene:
        """Return the ground truth."""
        return self._model.scene(self._physics)

    @property
    def is_success(self) -> bool:
        """Return whether gym-aloha's reward is full now (ground truth)."""
        if self.is_broken:
            return False
        return bool(self._model.task.get_reward(self._physics) == _FULL_REWARD)
