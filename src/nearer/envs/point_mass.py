"""The authors' point mass: a particle in the plane that has to touch a goal.

State position p and velocity v in R^2, in metres and metres per substep; ten substeps a control
step: v += a, p += v. No walls, no action limits, no time limit inside. Source: the authors'
point-mass notebook to arXiv:2509.15155.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float, Float64, Int64

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation
from nearer.core.interfaces import Decision, Policy, Rngs
from nearer.envs.gymnasium_types import Info

ENV_ID = "nearer/PointMass-v0"
INSTRUCTION = "touch the goal"
GOAL_RADIUS_M = 0.15
TIME_LIMIT_STEPS = 140
_SUBSTEPS = 10
_NUM_WAYPOINTS = 5
_UNBOUNDED = Box(-np.inf, np.inf, (2,), np.float32)
_OBSERVATION_SPACE = Dict(
    {
        "agent_pos": Box(-np.inf, np.inf, (4,), np.float32),
        "environment_state": Box(-0.9, 0.9, (2,), np.float32),
    }
)


def advance(
    position: Float64[Array, "*batch 2"],
    velocity: Float64[Array, "*batch 2"],
    acceleration: Float[Array, "*batch 2"],
) -> tuple[Float64[Array, "*batch 2"], Float64[Array, "*batch 2"]]:
    """Return position and velocity one control step later, by the closed form of ten substeps.

    v_i = v + i a and p_n = p + sum_i v_i = p + n v + n (n + 1) / 2 a.
    """
    travelled = _SUBSTEPS * velocity + _SUBSTEPS * (_SUBSTEPS + 1) / 2 * acceleration
    return position + travelled, velocity + _SUBSTEPS * acceleration


def touches(
    position: Float[Array, "*batch 2"], target: Float[Array, "*batch 2"]
) -> Bool[Array, "*batch"]:
    """Return whether the particle is within 0.15 m of the target."""
    return np.asarray(np.hypot(*np.moveaxis(position - target, -1, 0)) < GOAL_RADIUS_M)


def _draw_start(rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw a position in [-1, 1]^2 and a goal in [-0.9, 0.9]^2."""
    return rng.uniform(-1, 1, 2), rng.uniform(-0.9, 0.9, 2)


def _observation(position: Array, velocity: Array, goal: Array) -> dict[str, Array]:
    agent_pos = np.concatenate([position, velocity], axis=-1)
    return {
        "agent_pos": agent_pos.astype(np.float32),
        "environment_state": goal.astype(np.float32),
    }


class PointMass(gymnasium.Env[Any, Array]):
    """One particle. `info` carries `is_success` and, at reset, `instruction`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - gymnasium's form
    observation_space = _OBSERVATION_SPACE
    action_space = _UNBOUNDED

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._position = self._velocity = self._goal = np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, object] | None = None
    ) -> tuple[dict[str, Array], Info]:
        """Draw a start and a goal; the particle is at rest."""
        super().reset(seed=seed)
        self._position, self._goal = _draw_start(self.np_random)
        self._velocity = np.zeros(2)
        return self._observe(), self._info() | {"instruction": INSTRUCTION}

    def step(self, action: Array) -> tuple[dict[str, Array], float, bool, bool, Info]:
        """Accelerate for one control step. The env never ends by itself; its reward is success."""
        self._position, self._velocity = advance(self._position, self._velocity, action)
        info = self._info()
        return self._observe(), float(info["is_success"]), False, False, info

    def render(self) -> Array | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a 128 x 128 RGB image of [-1.2, 1.2]^2: goal green, particle black."""
        if self.render_mode != "rgb_array":
            return None
        y, x = np.mgrid[1.2:-1.2:128j, -1.2:1.2:128j]
        pixels = np.stack([x, y], axis=-1)
        image = np.full((128, 128, 3), 255, dtype=np.uint8)
        image[touches(pixels, np.broadcast_to(self._goal, pixels.shape))] = (120, 200, 120)
        image[np.hypot(*np.moveaxis(pixels - self._position, -1, 0)) < 0.04] = (20, 20, 20)
        return image

    def demonstrator(self, num_robots: int) -> Policy:
        """Return the PD controller of the notebook."""
        return PDDemonstrator(num_robots)

    def _observe(self) -> dict[str, Array]:
        return _observation(self._position, self._velocity, self._goal)

    def _info(self) -> Info:
        return {"is_success": bool(touches(self._position, self._goal))}


class PointMassVector(VectorEnv[Any, Array, Array]):
    """Many particles at once: row for row equal to `PointMass`, and a hundred times as fast.

    Never resets by itself: pass `options={"reset_mask": mask}` to `reset`.
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED, "render_fps": 10}  # noqa: RUF012

    def __init__(self, num_envs: int, render_mode: str | None = None) -> None:
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space = _OBSERVATION_SPACE
        self.single_action_space = _UNBOUNDED
        self.observation_space = batch_space(_OBSERVATION_SPACE, num_envs)
        self.action_space = batch_space(_UNBOUNDED, num_envs)
        self._position, self._velocity, self._goal = np.zeros((3, num_envs, 2))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, object] | None = None,
    ) -> tuple[dict[str, Array], Info]:
        """Reset the rows of `options["reset_mask"]`, or all; an int seeds row i with seed + i."""
        mask = np.ones(self.num_envs, dtype=bool)
        if options and "reset_mask" in options:
            mask = np.asarray(options["reset_mask"], dtype=bool)
        for row in map(int, np.flatnonzero(mask)):
            row_seed = seed + row if isinstance(seed, int) else seed[row] if seed else None
            rng, _ = np_random(row_seed)
            self._position[row], self._goal[row] = _draw_start(rng)
        self._velocity[mask] = 0
        instructions = np.array([INSTRUCTION] * self.num_envs, dtype=object)
        return self._observe(), self._info() | {"instruction": instructions}

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Array, Array, Info]:
        """Accelerate every particle for one control step."""
        self._position, self._velocity = advance(self._position, self._velocity, actions)
        info = self._info()
        never = np.zeros(self.num_envs, dtype=bool)
        return self._observe(), info["is_success"].astype(np.float64), never, never, info

    def demonstrator(self, num_robots: int) -> Policy:
        """Return the PD controller of the notebook."""
        return PDDemonstrator(num_robots)

    def _observe(self) -> dict[str, Array]:
        return _observation(self._position, self._velocity, self._goal)

    def _info(self) -> dict[str, Array]:
        return {"is_success": touches(self._position, self._goal)}


class PDDemonstrator:
    """The scripted demonstrator: PD control through five random waypoints, then to the goal.

        a = 0.0002 (target - p) - 0.0125 v

    Targets are positions p, in metres; v is in metres per substep. A waypoint counts as reached
    within 0.15 m. Far from optimal on purpose. Source: the notebook.
    """

    def __init__(self, num_robots: int) -> None:
        self._waypoints = np.zeros((num_robots, _NUM_WAYPOINTS, 2))
        self._reached = np.zeros(num_robots, dtype=np.int64)

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Draw new waypoints in [-0.9, 0.9]^2 for these robots."""
        for robot, rng in zip(robots, rngs, strict=True):
            self._waypoints[robot] = rng.uniform(-0.9, 0.9, (_NUM_WAYPOINTS, 2))
        self._reached[robots] = 0

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Return the controller's acceleration; it is deterministic, so log_prob is 0."""
        position, velocity = np.split(observation.agent_pos.astype(np.float64), 2, axis=-1)
        goal = observation.environment_state.astype(np.float64)
        self._reached[robots] += touches(position, self._target(robots, goal)) & (
            self._reached[robots] < _NUM_WAYPOINTS
        )
        actions = 0.0002 * (self._target(robots, goal) - position) - 0.0125 * velocity
        return Decision(
            actions=actions.astype(np.float32), log_prob=np.zeros(len(robots), np.float32)
        )

    def _target(self, robots: Array, goal: Array) -> Array:
        reached = self._reached[robots]
        waypoint = self._waypoints[robots, np.minimum(reached, _NUM_WAYPOINTS - 1)]
        return np.where((reached < _NUM_WAYPOINTS)[:, None], waypoint, goal)
