"""A scripted demonstrator that inserts the peg and hands over the cube: a source of demonstrations.

For each robot a script (insertion.py, cube_transfer.py) moves both arms, with a variety of its own
each episode (noise.py). It reads the simulator's ground truth, not what the robot observes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation
from nearer.core.interfaces import Decision, Rngs
from nearer.envs.aloha.demonstrator.arm import Arm, Move
from nearer.envs.aloha.demonstrator.cube_transfer import hand_over_cube
from nearer.envs.aloha.demonstrator.insertion import insert_peg
from nearer.envs.aloha.demonstrator.kinematics import ArmKinematics
from nearer.envs.aloha.demonstrator.noise import HUMAN_LIKE, MotionNoise, Variety
from nearer.envs.aloha.scene import AlohaGroundTruth, AlohaScene, Side
from nearer.envs.aloha.settings import NUM_AXES
from nearer.envs.aloha.tasks import AlohaTask

_SCRIPTS = {AlohaTask.INSERTION: insert_peg, AlohaTask.TRANSFER_CUBE: hand_over_cube}
_MAX_SEED = 2**32


@dataclass(slots=True, kw_only=True)
class _Script:
    """What one robot does in this episode, and its two arms; left and right."""

    moves: Move
    arms: tuple[Arm, Arm]


class AlohaDemonstrator:
    """The scripted policy: a new variety each episode."""

    def __init__(
        self,
        ground_truth: AlohaGroundTruth,
        task: AlohaTask,
        num_robots: int,
        noise: MotionNoise = HUMAN_LIKE,
    ) -> None:
        """Demonstrate a task to `num_robots` robots, whose scenes `ground_truth` returns."""
        self._ground_truth, self._task, self._noise = ground_truth, task, noise
        model = ground_truth.mujoco_model
        self._kinematics = [ArmKinematics(model, side) for side in (Side.LEFT, Side.RIGHT)]
        self._scripts: list[_Script | None] = [None] * num_robots

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Start a new script for each of these robots."""
        for robot, rng, scene in zip(robots, rngs, self._ground_truth.scenes(robots), strict=True):
            self._scripts[int(robot)] = self._new_script(scene, rng)

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Return one action a robot; log_prob is 0, since a demonstrator's is not known."""
        actions = np.zeros((len(robots), NUM_AXES), np.float32)
        for row, scene in enumerate(self._ground_truth.scenes(robots)):
            script = self._scripts[int(robots[row])]
            assert script is not None, "begin comes before act"
            for arm in script.arms:
                arm.scene = scene
            next(script.moves, None)  # a script that has ended holds still
            commands = [arm.command() for arm in script.arms]
            actions[row] = np.concatenate([[*joints, gripper] for joints, gripper in commands])
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))

    def _new_script(self, scene: AlohaScene, rng: np.random.Generator) -> _Script:
        # a generator of its own: what is drawn does not depend on who else draws meanwhile
        variety = Variety(self._noise, np.random.default_rng(int(rng.integers(_MAX_SEED))))
        left, right = (
            Arm(Side(side), kinematics, scene, variety)
            for side, kinematics in enumerate(self._kinematics)
        )
        return _Script(moves=_SCRIPTS[self._task](left, right), arms=(left, right))
