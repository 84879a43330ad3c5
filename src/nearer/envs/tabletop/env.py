"""The tabletop as Gymnasium environments, one instance or many.

Observations: `agent_pos` is the effector's x and y in metres, `pixels` holds the camera `front`.
The blocks' positions are never observed. An action is the change of the effector's target, in
metres. `info` carries `is_success`, `clipped` (actions since the reset that were longer than the
limit) and, at reset, `instruction`.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.cpu import num_cores
from nearer.core.errors import EnvError
from nearer.core.interfaces import Policy, TruePositions
from nearer.envs.gymnasium_types import Info, RawObservation
from nearer.envs.tabletop.appearance import REAL
from nearer.envs.tabletop.demonstrator.noise import MOTION_NOISE_REAL, MOTION_NOISE_SIM
from nearer.envs.tabletop.demonstrator.policy import TabletopDemonstrator, TabletopGroundTruth
from nearer.envs.tabletop.instance import TabletopInstance
from nearer.envs.tabletop.language import TabletopTask
from nearer.envs.tabletop.layout import BlockLayout
from nearer.envs.tabletop.settings import (
    ACTION_SPACE,
    CAMERA,
    TabletopSettings,
    read_options,
    read_settings,
)
from nearer.envs.tabletop.thread_pool import ThreadPool

_RENDER_HEIGHT, _RENDER_WIDTH = 360, 640


class Tabletop(gymnasium.Env[RawObservation, Array]):
    """One tabletop. Keyword arguments: see `settings.read_settings`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 - gymnasium's form

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        self.render_mode = render_mode
        self._settings = read_settings(**kwargs)
        self.control_hz = self._settings.control_hz
        self._instance = TabletopInstance(self._settings)
        self.observation_space = self._settings.observation_space()
        self.action_space = ACTION_SPACE

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[RawObservation, Info]:
        """Draw a layout and an instruction.

        Args:
            seed: of the layout and of the instruction.
            options: "instruction", to give in place of a drawn one; "keep_board", for a new
                instruction with everything left where it is.
        """
        super().reset(seed=seed)
        parsed = read_options(options)
        self._instance.reset(seed, instruction=parsed.instructions[0], keep_board=parsed.keep_board)
        return self._observe(), self._info() | {"instruction": self._instance.instruction}

    def step(self, action: Array) -> tuple[RawObservation, float, bool, bool, Info]:
        """Move for one control step. The env never ends by itself; its reward is success."""
        self._instance.step(np.asarray(action))
        info = self._info()
        return self._observe(), float(info["is_success"]), False, False, info

    def render(self) -> Array | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a 360 x 640 image for people."""
        if self.render_mode != "rgb_array":
            return None
        return self._instance.render_image(_RENDER_HEIGHT, _RENDER_WIDTH)

    def close(self) -> None:
        """Free the GL contexts."""
        self._instance.close_renderers()

    def demonstrator(self, num_robots: int) -> Policy:
        """Return the scripted demonstrator, which reads this env's ground truth."""
        if num_robots != 1:
            raise EnvError(
                f"a demonstrator of one board must serve one robot, got {num_robots}; "
                "make the vectorised env, and ask it for its demonstrator"
            )
        return _demonstrator(self, self._settings, 1)

    def layouts(self, robots: Int64[Array, "robots"]) -> list[BlockLayout]:
        """Return the present layout, once a robot (ground truth)."""
        return [self._instance.layout() for _ in robots]

    def tasks(self, robots: Int64[Array, "robots"]) -> list[TabletopTask]:
        """Return the task of the instruction, once a robot."""
        return [self._instance.task for _ in robots]

    def _observe(self) -> RawObservation:
        observation: RawObservation = {"agent_pos": self._instance.agent_pos()}
        if self._settings.images:
            observation["pixels"] = {CAMERA: self._instance.camera_image()}
        return observation

    def _info(self) -> Info:
        return {"is_success": self._instance.is_success, "clipped": self._instance.num_clipped}


class TabletopVector(VectorEnv[RawObservation, Array, Array]):
    """Many tabletops: row for row equal to `Tabletop`, and on all cores at once.

    Never resets by itself: pass `options={"reset_mask": mask}` to `reset`.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012 - gymnasium's form

    def __init__(
        self,
        num_envs: int,
        render_mode: str | None = None,
        num_threads: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Make `num_envs` tabletops.

        Args:
            num_envs: rows.
            render_mode: "rgb_array" or nothing.
            num_threads: that share the rows; as many as this process has cores when left out.
            kwargs: see `settings.read_settings`.
        """
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._settings = read_settings(**kwargs)
        self.control_hz = self._settings.control_hz
        self._instances = [TabletopInstance(self._settings) for _ in range(num_envs)]
        self._thread_pool = ThreadPool(min(num_threads or num_cores(), num_envs))
        self.single_observation_space = self._settings.observation_space()
        self.single_action_space = ACTION_SPACE
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(ACTION_SPACE, num_envs)
        self._observation = self._blank_observation()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> tuple[RawObservation, Info]:
        """Reset the rows of `options["reset_mask"]`, or all; an int seeds row i with seed + i.

        Args:
            seed: one a row, or one for all.
            options: besides the mask "instruction" (one, or one a row) and "keep_board".
        """
        parsed = read_options(options, self.num_envs)

        def reset_row(row: int) -> None:
            row_seed = seed + row if isinstance(seed, int) else seed[row] if seed else None
            self._instances[row].reset(
                row_seed, instruction=parsed.instructions[row], keep_board=parsed.keep_board
            )

        rows = [int(row) for row in np.flatnonzero(parsed.rows)]
        self._thread_pool.for_each(rows, reset_row)
        self._observe(rows)
        instructions = np.array(
            [instance.instruction for instance in self._instances], dtype=object
        )
        return copy.deepcopy(self._observation), self._info() | {"instruction": instructions}

    def step(self, actions: Array) -> tuple[RawObservation, Array, Array, Array, Info]:
        """Move every effector for one control step."""
        return self.step_rows(np.arange(self.num_envs), np.asarray(actions))

    def step_rows(
        self, rows: Int64[Array, "rows"], actions: Array
    ) -> tuple[RawObservation, Array, Array, Array, Info]:
        """Step these rows and return what they observe; the others are not simulated."""
        row_list = [int(row) for row in rows]
        action_of = dict(zip(row_list, actions, strict=True))

        def step_row(row: int) -> None:
            self._instances[row].step(action_of[row])

        self._thread_pool.for_each(row_list, step_row)
        self._observe(row_list)
        observation: RawObservation = {"agent_pos": self._observation["agent_pos"][rows]}
        if self._settings.images:
            observation["pixels"] = {CAMERA: self._observation["pixels"][CAMERA][rows]}
        info = {name: values[rows] for name, values in self._info().items()}
        never = np.zeros(len(row_list), dtype=bool)
        return observation, info["is_success"].astype(np.float64), never, never, info

    def render(self) -> tuple[Array, ...] | None:
        """Return a 360 x 640 image for people a row."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(
            instance.render_image(_RENDER_HEIGHT, _RENDER_WIDTH) for instance in self._instances
        )

    def close_extras(self, **kwargs: Any) -> None:
        """End the threads, and free the GL contexts."""
        self._thread_pool.close()
        for instance in self._instances:
            instance.close_renderers()

    def demonstrator(self, num_robots: int) -> Policy:
        """Return scripted demonstrators, one a row, which read this env's ground truth."""
        return _demonstrator(self, self._settings, num_robots)

    def layouts(self, robots: Int64[Array, "robots"]) -> list[BlockLayout]:
        """Return the present layouts of these rows (ground truth)."""
        return [self._instances[int(robot)].layout() for robot in robots]

    def tasks(self, robots: Int64[Array, "robots"]) -> list[TabletopTask]:
        """Return the tasks of these rows' instructions."""
        return [self._instances[int(robot)].task for robot in robots]

    def true_positions(self, robots: Int64[Array, "robots"]) -> TruePositions:
        """Return where the named blocks and the effector are in these rows (ground truth)."""
        plane_m = np.full((len(robots), 3, 2), np.nan)
        for row, (layout, task) in enumerate(
            zip(self.layouts(robots), self.tasks(robots), strict=True)
        ):
            for slot, block in enumerate(task.blocks[:2]):
                plane_m[row, slot] = layout.position(block)
            plane_m[row, 2] = layout.effector
        camera = self._settings.appearance.camera
        height, width = self._settings.height, self._settings.width
        on_table = np.concatenate([plane_m, np.zeros_like(plane_m[..., :1])], axis=-1)
        return TruePositions(
            plane_m=plane_m,
            image=camera.project(on_table, height, width) / (width, height),
            camera_m=np.array(camera.position_m[:2]),
        )

    def _blank_observation(self) -> RawObservation:
        """Return new arrays for the observations of all rows."""
        observation: RawObservation = {"agent_pos": np.zeros((self.num_envs, 2), np.float32)}
        if self._settings.images:
            size = (self.num_envs, self._settings.height, self._settings.width, 3)
            observation["pixels"] = {CAMERA: np.zeros(size, np.uint8)}
        return observation

    def _observe(self, rows: Sequence[int]) -> None:
        """Write what these rows observe into their places; one thread renders all images."""
        for row in rows:
            self._observation["agent_pos"][row] = self._instances[row].agent_pos()
            if self._settings.images:
                self._observation["pixels"][CAMERA][row] = self._instances[row].camera_image()

    def _info(self) -> dict[str, Array]:
        return {
            "is_success": np.array(
                [instance.is_success for instance in self._instances], dtype=bool
            ),
            "clipped": np.array(
                [instance.num_clipped for instance in self._instances], dtype=np.int64
            ),
        }


def _demonstrator(
    ground_truth: TabletopGroundTruth, settings: TabletopSettings, num_robots: int
) -> Policy:
    noise = MOTION_NOISE_REAL if settings.appearance is REAL else MOTION_NOISE_SIM
    return TabletopDemonstrator(ground_truth, noise, num_robots, settings.control_hz)
