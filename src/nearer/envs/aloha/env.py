"""ALOHA's two arms as Gymnasium environments, one pair or many, around those of gym-aloha.

Observations: `agent_pos` holds six joint angles in rad and the gripper's opening (0 closed, 1 open)
of the left arm and then of the right, `pixels` the chosen cameras, `environment_state` the objects'
true poses where they are asked for: x, y, z in metres and a unit quaternion, real part first, of
peg and socket or of the cube. An action holds targets for the same 14 numbers, 50 times a second;
the simulator keeps them within the joints' ranges. `info` carries `is_success` and, at reset,
`instruction`. The reward is success. The env never ends by itself, unless targets that jump by
several rad blow the physics up: then it is truncated.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.core.interfaces import Policy
from nearer.envs.aloha.demonstrator.policy import AlohaDemonstrator
from nearer.envs.aloha.renderer import FRONT, AlohaRenderer
from nearer.envs.aloha.scene import AlohaScene
from nearer.envs.aloha.settings import AlohaSettings, action_space, read_settings
from nearer.envs.aloha.simulation import CONTROL_HZ, AlohaModel, AlohaSimulation
from nearer.envs.aloha.tasks import draw_instruction, draw_object_poses
from nearer.envs.gymnasium_types import Info, RawObservation

_RENDER_HEIGHT, _RENDER_WIDTH = 480, 640


class _Row:
    """One pair of arms, its instruction, and the generator that draws starts and instructions."""

    def __init__(self, settings: AlohaSettings, model: AlohaModel) -> None:
        self._task = settings.task
        self._rng: np.random.Generator | None = None
        self.simulation = AlohaSimulation(model)
        self.instruction = ""
        self.steps = 0  # since the reset
        self.pixels: dict[str, Array] = {}

    def reset(self, seed: int | None) -> None:
        """Draw a start and an instruction; None goes on with the generator of the last seed."""
        if seed is not None or self._rng is None:
            self._rng, _ = np_random(seed)
        self.simulation.start(draw_object_poses(self._task, self._rng))
        self.instruction = draw_instruction(self._task, self._rng)
        self.steps = 0

    def step(self, action: Array) -> None:
        """Simulate one control step.

        Raises:
            EnvError: there was no reset.
        """
        if not self.instruction:
            raise EnvError("an env must be reset before it is stepped, got step; call reset first")
        self.simulation.step(np.asarray(action, np.float64))
        self.steps += 1


class _Rows:
    """Pairs of arms that share a model and its renderers: what both envs below are made of."""

    def __init__(self, settings: AlohaSettings, num_rows: int) -> None:
        self.settings = settings
        self.model = AlohaModel(settings.task)
        self.rows = [_Row(settings, self.model) for _ in range(num_rows)]
        self.observation_space = settings.observation_space()
        self.action_space = action_space(self.model.joint_limits_rad)
        size = (settings.height, settings.width)
        self._renderer = AlohaRenderer(self.model.mujoco_model, *size, convex_hulls=True)
        self._renderer_for_people = AlohaRenderer(
            self.model.mujoco_model, _RENDER_HEIGHT, _RENDER_WIDTH
        )

    @property
    def mujoco_model(self) -> Any:
        """Return the mujoco.MjModel that all rows share."""
        return self.model.mujoco_model

    def scenes(self, robots: Int64[Array, "robots"]) -> list[AlohaScene]:
        """Return the present scenes of these rows (ground truth)."""
        return [self.rows[int(robot)].simulation.scene() for robot in robots]

    def observe(self, row: int) -> RawObservation:
        """Return what one row observes."""
        arms = self.rows[row]
        simulation = arms.simulation
        observation: RawObservation = {"agent_pos": simulation.agent_pos().astype(np.float32)}
        if self.settings.object_poses:
            poses = simulation.object_poses().ravel()
            observation["environment_state"] = poses.astype(np.float32)
        if self.settings.images:
            if arms.steps % (CONTROL_HZ // self.settings.camera_hz) == 0:
                arms.pixels = {
                    camera: self._renderer.render(simulation.mujoco_data, camera)
                    for camera in self.settings.cameras
                }
            observation["pixels"] = {name: image.copy() for name, image in arms.pixels.items()}
        return observation

    def render(self, row: int) -> Array:
        """Return an image for people."""
        data = self.rows[row].simulation.mujoco_data
        return self._renderer_for_people.render(data, FRONT)

    def demonstrator(self, num_robots: int) -> Policy:
        """Return the scripted demonstrator, which reads the ground truth of these rows."""
        if num_robots != len(self.rows):
            raise EnvError(
                f"the demonstrator must serve the env's {len(self.rows)} pairs of arms, got "
                f"{num_robots}; make the vectorised env with as many"
            )
        return AlohaDemonstrator(self, self.settings.task, num_robots)

    def close(self) -> None:
        """Free the GL contexts."""
        self._renderer.close()
        self._renderer_for_people.close()


class AlohaEnv(gymnasium.Env[RawObservation, Array]):
    """One pair of arms. Keyword arguments: see `settings.read_settings`."""

    metadata = {  # noqa: RUF012 - gymnasium's form
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_HZ,
    }

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        self.render_mode = render_mode
        self.control_hz = CONTROL_HZ
        self._rows = _Rows(read_settings(**kwargs), 1)
        self.observation_space = self._rows.observation_space
        self.action_space = self._rows.action_space

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[RawObservation, Info]:
        """Draw where the objects lie, and an instruction: both are functions of the seed alone."""
        super().reset(seed=seed)
        _check_options(options, ())
        (row,) = self._rows.rows
        row.reset(seed)
        info = {"is_success": row.simulation.is_success, "instruction": row.instruction}
        return self._rows.observe(0), info

    def step(self, action: Array) -> tuple[RawObservation, float, bool, bool, Info]:
        """Move for one control step."""
        (row,) = self._rows.rows
        row.step(action)
        is_success = row.simulation.is_success
        info = {"is_success": is_success}
        return self._rows.observe(0), float(is_success), False, row.simulation.is_broken, info

    def render(self) -> Array | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a 480 x 640 image for people."""
        return self._rows.render(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the GL contexts."""
        self._rows.close()

    def demonstrator(self, num_robots: int) -> Policy:
        """Return the scripted demonstrator, which reads this env's ground truth."""
        return self._rows.demonstrator(num_robots)

    @property
    def mujoco_model(self) -> Any:
        """Return the mujoco.MjModel."""
        return self._rows.mujoco_model

    def scenes(self, robots: Int64[Array, "robots"]) -> list[AlohaScene]:
        """Return the present scene, once a robot (ground truth)."""
        return self._rows.scenes(robots)


class AlohaEnvVector(VectorEnv[RawObservation, Array, Array]):
    """Many pairs of arms on one model, stepped one after the other; row for row an `AlohaEnv`.

    Never resets by itself: pass `options={"reset_mask": mask}` to `reset`.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - gymnasium's form

    def __init__(self, num_envs: int, render_mode: str | None = None, **kwargs: Any) -> None:
        """Make `num_envs` pairs of arms; keyword arguments: see `settings.read_settings`."""
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.control_hz = CONTROL_HZ
        self._rows = _Rows(read_settings(**kwargs), num_envs)
        self.single_observation_space = self._rows.observation_space
        self.single_action_space = self._rows.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observations: dict[int, RawObservation] = {}

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> tuple[RawObservation, Info]:
        """Reset the rows of `options["reset_mask"]`, or all; an int seeds row i with seed + i."""
        _check_options(options, ("reset_mask",))
        mask = np.asarray((options or {}).get("reset_mask", np.ones(self.num_envs)), bool)
        for row in range(self.num_envs):
            if mask[row]:
                row_seed = seed + row if isinstance(seed, int) else seed[row] if seed else None
                self._rows.rows[row].reset(row_seed)
            if mask[row] or row not in self._observations:
                self._observations[row] = self._rows.observe(row)
        instructions = np.array([row.instruction for row in self._rows.rows], dtype=object)
        info = self._info(range(self.num_envs)) | {"instruction": instructions}
        return self._observed(range(self.num_envs)), info

    def step(self, actions: Array) -> tuple[RawObservation, Array, Array, Array, Info]:
        """Move every row for one control step."""
        return self.step_rows(np.arange(self.num_envs), actions)

    def step_rows(
        self, rows: Int64[Array, "rows"], actions: Array
    ) -> tuple[RawObservation, Array, Array, Array, Info]:
        """Step these rows and return what they observe; the others are not simulated."""
        indices = [int(row) for row in rows]
        for row, action in zip(indices, actions, strict=True):
            self._rows.rows[row].step(action)
            self._observations[row] = self._rows.observe(row)
        info = self._info(indices)
        reward = info["is_success"].astype(np.float64)
        never = np.zeros(len(indices), dtype=bool)
        broken = np.array([self._rows.rows[row].simulation.is_broken for row in indices], bool)
        return self._observed(indices), reward, never, broken, info

    def render(self) -> tuple[Array, ...] | None:
        """Return a 480 x 640 image for people a row."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self._rows.render(row) for row in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the GL contexts."""
        self._rows.close()

    def demonstrator(self, num_robots: int) -> Policy:
        """Return scripted demonstrators, one a row, which read this env's ground truth."""
        return self._rows.demonstrator(num_robots)

    @property
    def mujoco_model(self) -> Any:
        """Return the mujoco.MjModel that all rows share."""
        return self._rows.mujoco_model

    def scenes(self, robots: Int64[Array, "robots"]) -> list[AlohaScene]:
        """Return the present scenes of these rows (ground truth)."""
        return self._rows.scenes(robots)

    def _observed(self, rows: Sequence[int]) -> RawObservation:
        return _stacked([self._observations[row] for row in rows])

    def _info(self, rows: Sequence[int]) -> dict[str, Array]:
        return {
            "is_success": np.array(
                [self._rows.rows[row].simulation.is_success for row in rows], dtype=bool
            )
        }


def _check_options(options: Mapping[str, object] | None, known: tuple[str, ...]) -> None:
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        there = ", ".join(known) or "none"
        raise EnvError(f"options must be of {there}, got {', '.join(unknown)}; leave them out")


def _stacked(observations: Sequence[RawObservation]) -> RawObservation:
    """Return what rows observed, as arrays with a row each."""
    return {
        key: _stacked([observation[key] for observation in observations])
        if isinstance(part, dict)
        else np.stack([observation[key] for observation in observations])
        for key, part in observations[0].items()
    }
