"""A small arm env whose actions are joint targets, and policies for fleets in action chunks."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation
from nearer.core.interfaces import Decision, Policy, Rngs

ARM = "nearer-test/Arm-v0"
REACH = 0.1
"""The furthest a joint moves in a control step."""


class Arm(gymnasium.Env[Any, Any]):
    """Two joints that follow their targets, `REACH` at most; it ends where both are at the goal."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gymnasium.spaces.Dict(
        {
            "agent_pos": gymnasium.spaces.Box(-2, 2, (2,), np.float32),
            "environment_state": gymnasium.spaces.Box(-1, 1, (2,), np.float32),
        }
    )
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    control_hz = 10

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.num_steps = 0
        self.joints = self.goal = np.zeros(2, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.joints, self.goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        self.num_steps = 0
        return self._observe(), {"is_success": False, "instruction": "reach"}

    def step(self, action: Any) -> Any:
        self.num_steps += 1
        self.joints = self.joints + np.clip(action - self.joints, -REACH, REACH)
        done = bool(np.abs(self.joints - self.goal).max() < REACH / 2)
        return self._observe(), 0.0, done, False, {"is_success": done}

    def render(self) -> Any:
        return np.full((16, 16, 3), self.num_steps, np.uint8)

    def demonstrator(self, num_robots: int) -> Policy:
        return ReachingPolicy()

    def _observe(self) -> dict[str, Array]:
        return {"agent_pos": self.joints.copy(), "environment_state": self.goal.copy()}


@contextmanager
def registered_arm() -> Generator[None, None, None]:
    """Let gymnasium know the env `ARM`."""
    gymnasium.register(ARM, lambda **settings: Arm(**settings))
    yield
    del gymnasium.registry[ARM]


class ReachingPolicy:
    """Sends both joints towards the goal, 0.08 a control step."""

    def begin(self, robots: Array, rngs: Rngs) -> None: ...

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Array,
        rngs: Rngs,
    ) -> Decision:
        joints, goal = observation.agent_pos, observation.environment_state
        actions = joints + np.clip(goal - joints, -0.08, 0.08)
        return Decision(actions=actions, log_prob=np.zeros(len(robots), np.float32))


class ScriptedPolicy:
    """Gives each robot its own decisions in turn, whatever the observation is."""

    def __init__(self, decisions: Sequence[Array]) -> None:
        self._decisions = decisions
        self._next = [0] * len(decisions)

    def begin(self, robots: Array, rngs: Rngs) -> None: ...

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Array,
        rngs: Rngs,
    ) -> Decision:
        rows = [self._decisions[robot][self._next[robot]] for robot in robots]
        for robot in robots:
            self._next[robot] += 1
        return Decision(actions=np.stack(rows), log_prob=np.zeros(len(robots), np.float32))
