"""The tabletop as Gymnasium environments, one board or many.

Observations: `agent_pos` is the effector's x and y in metres, `pixels` holds the camera `front`.
Where the blocks are is never observed. An action is the change of the effector's target, in
metres. `info` carries `is_success`, `clipped` (actions since the reset that were longer than the
limit) and, at reset, `instruction`.
"""

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.cpu import num_cores
from nearer.core.errors import EnvError
from nearer.core.interfaces import Policy
from nearer.envs.tabletop.appearance import REAL
from nearer.envs.tabletop.demonstrator.noise import HABITS_REAL, HABITS_SIM
from nearer.envs.tabletop.demonstrator.policy import SeesBoard, TabletopDemonstrator
from nearer.envs.tabletop.language import Task
from nearer.envs.tabletop.layout import Layout
from nearer.envs.tabletop.station import (
    ACTION_SPACE,
    CAMERA,
    Settings,
    Station,
    read_options,
    read_settings,
)
from nearer.envs.tabletop.thread_pool import Crew

_RENDER_HEIGHT, _RENDER_WIDTH = 360, 640


class Tabletop(gymnasium.Env[Any, Array]):
    """One board. Keyword arguments: see `station.read_settings`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 - gymnasium's form

    def __init__(self, render_mode: str | None = None, **kwargs: Any) -> None:
        self.render_mode = render_mode
        self._settings = read_settings(**kwargs)
        self.control_hz = self._settings.control_hz
        self._station = Station(self._settings)
        self.observation_space = self._settings.observation_space()
        self.action_space = ACTION_SPACE

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Lay out the board and ask for something.

        Args:
            seed: of the board and of the instruction.
            options: "instruction", to ask for it; "keep_board", to ask for something else on the
                board as it is.
        """
        super().reset(seed=seed, options=options)
        given = read_options(options)
        self._station.reset(
            seed,
            instruction=given.get("instruction"),
            keep_board=bool(given.get("keep_board", False)),
        )
        return self._observe(), self._station.info() | {"instruction": self._station.instruction}

    def step(self, action: Array) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Move for one control step. The env never ends by itself; its reward is success."""
        self._station.step(np.asarray(action))
        info = self._station.info()
        return self._observe(), float(info["is_success"]), False, False, info

    def render(self) -> Array | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a 360 x 640 picture for people."""
        if self.render_mode != "rgb_array":
            return None
        return self._station.fine_picture(_RENDER_HEIGHT, _RENDER_WIDTH)

    def close(self) -> None:
        """Give back what pictures are taken with."""
        self._station.close_pictures()

    def demonstrator(self, num_robots: int) -> Policy:
        """Return the scripted person, who sees this board."""
        if num_robots != 1:
            raise EnvError(
                f"a demonstrator of one board must serve one robot, got {num_robots}; "
                "make the vectorised env, and ask it for its demonstrator"
            )
        return _demonstrator(self, self._settings, 1)

    def layouts(self, robots: Int64[Array, "robots"]) -> list[Layout]:
        """Return where everything is, once a robot: the simulator's truth."""
        return [self._station.layout() for _ in robots]

    def tasks(self, robots: Int64[Array, "robots"]) -> list[Task]:
        """Return what the instruction means, once a robot."""
        return [self._station.task for _ in robots]

    def _observe(self) -> dict[str, Any]:
        seen: dict[str, Any] = {"agent_pos": self._station.agent_pos()}
        if self._settings.pictures:
            seen["pixels"] = {CAMERA: self._station.picture()}
        return seen


class TabletopVector(VectorEnv[Any, Array, Array]):
    """Many boards: row for row equal to `Tabletop`, and on all cores at once.

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
        """Make `num_envs` boards.

        Args:
            num_envs: rows.
            render_mode: "rgb_array" or nothing.
            num_threads: that share the rows; as many as this process has cores when left out.
            kwargs: see `station.read_settings`.
        """
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._settings = read_settings(**kwargs)
        self.control_hz = self._settings.control_hz
        self._stations = [Station(self._settings) for _ in range(num_envs)]
        self._crew = Crew(min(num_threads or num_cores(), num_envs))
        self.single_observation_space = self._settings.observation_space()
        self.single_action_space = ACTION_SPACE
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(ACTION_SPACE, num_envs)
        self._seen = self._blank()

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reset the rows of `options["reset_mask"]`, or all; an int seeds row i with seed + i.

        Args:
            seed: one a row, or one for all.
            options: besides the mask "instruction" (one, or one a row) and "keep_board".
        """
        given = read_options(options)
        mask = np.asarray(given.get("reset_mask", np.ones(self.num_envs)), dtype=bool)
        asked = given.get("instruction")
        asked = [asked] * self.num_envs if asked is None or isinstance(asked, str) else asked
        keep_board = bool(given.get("keep_board", False))

        def reset_row(row: int) -> None:
            row_seed = seed + row if isinstance(seed, int) else seed[row] if seed else None
            self._stations[row].reset(row_seed, instruction=asked[row], keep_board=keep_board)

        chosen = [int(row) for row in np.flatnonzero(mask)]
        self._crew.each(chosen, reset_row)
        self._observe(chosen)
        instructions = np.array([s.instruction for s in self._stations], dtype=object)
        return copy.deepcopy(self._seen), self._info() | {"instruction": instructions}

    def step(self, actions: Array) -> tuple[dict[str, Any], Array, Array, Array, dict[str, Any]]:
        """Move every effector for one control step."""
        return self.step_rows(np.arange(self.num_envs), np.asarray(actions))

    def step_rows(
        self, rows: Int64[Array, "rows"], actions: Array
    ) -> tuple[dict[str, Any], Array, Array, Array, dict[str, Any]]:
        """Move these rows' effectors and return what they see; the others stand still."""
        chosen = [int(row) for row in rows]
        place_of = {row: place for place, row in enumerate(chosen)}

        def step_row(row: int) -> None:
            self._stations[row].step(actions[place_of[row]])

        self._crew.each(chosen, step_row)
        self._observe(chosen)
        seen = {"agent_pos": self._seen["agent_pos"][rows]}
        if self._settings.pictures:
            seen["pixels"] = {CAMERA: self._seen["pixels"][CAMERA][rows]}
        info = {name: values[rows] for name, values in self._info().items()}
        never = np.zeros(len(chosen), dtype=bool)
        return seen, info["is_success"].astype(np.float64), never, never, info

    def render(self) -> tuple[Array, ...] | None:
        """Return a 360 x 640 picture for people a row."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(s.fine_picture(_RENDER_HEIGHT, _RENDER_WIDTH) for s in self._stations)

    def close_extras(self, **kwargs: Any) -> None:
        """Give back what pictures are taken with, and end the threads."""
        self._crew.close()
        self._close_pictures()

    def demonstrator(self, num_robots: int) -> Policy:
        """Return one scripted person a row, who sees its board."""
        return _demonstrator(self, self._settings, num_robots)

    def layouts(self, robots: Int64[Array, "robots"]) -> list[Layout]:
        """Return where everything is on these robots' boards: the simulator's truth."""
        return [self._stations[int(robot)].layout() for robot in robots]

    def tasks(self, robots: Int64[Array, "robots"]) -> list[Task]:
        """Return what these robots' instructions mean."""
        return [self._stations[int(robot)].task for robot in robots]

    def _blank(self) -> dict[str, Any]:
        """Return new arrays for what all rows observe."""
        seen: dict[str, Any] = {"agent_pos": np.zeros((self.num_envs, 2), np.float32)}
        if self._settings.pictures:
            size = (self.num_envs, self._settings.height, self._settings.width, 3)
            seen["pixels"] = {CAMERA: np.zeros(size, np.uint8)}
        return seen

    def _observe(self, rows: Sequence[int]) -> None:
        """Write what these rows observe into their places; one thread draws all pictures."""
        for row in rows:
            self._seen["agent_pos"][row] = self._stations[row].agent_pos()
            if self._settings.pictures:
                self._seen["pixels"][CAMERA][row] = self._stations[row].picture()

    def _info(self) -> dict[str, Any]:
        infos = [station.info() for station in self._stations]
        return {
            "is_success": np.array([info["is_success"] for info in infos], dtype=bool),
            "clipped": np.array([info["clipped"] for info in infos], dtype=np.int64),
        }

    def _close_pictures(self) -> None:
        for station in self._stations:
            station.close_pictures()


def _demonstrator(board: SeesBoard, settings: Settings, num_robots: int) -> Policy:
    habits = HABITS_REAL if settings.look is REAL else HABITS_SIM
    return TabletopDemonstrator(board, habits, num_robots, settings.control_hz)
