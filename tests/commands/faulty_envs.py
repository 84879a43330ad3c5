"""Small Gymnasium envs, one that works and others that each break one rule."""

from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from commands.faults import raise_env_error
from nearer.envs.point_mass import PDDemonstrator


class SmallEnv(gymnasium.Env):
    """A point on a line with the sizes of the point mass, which gives no instruction."""

    control_hz = 10
    observation_space = Dict(
        {
            "agent_pos": Box(-np.inf, np.inf, (4,), np.float32),
            "environment_state": Box(-np.inf, np.inf, (2,), np.float32),
        }
    )
    action_space = Box(-np.inf, np.inf, (2,), np.float32)
    terminates_after: ClassVar[int] = 10**9
    fails_at: ClassVar[int] = -1
    total_steps: ClassVar[int] = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 6).astype(np.float32)
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        type(self).total_steps += 1
        if type(self).total_steps == self.fails_at:
            raise_env_error()
        self.steps += 1
        self.state[:2] += np.clip(action, -1, 1)
        terminated = self.steps >= self.terminates_after
        return self._observe(), 0.0, terminated, False, {"is_success": False}

    def _observe(self):
        return {"agent_pos": self.state[:4].copy(), "environment_state": self.state[4:].copy()}


class DiscreteActions(SmallEnv):
    action_space = Discrete(3)


class OtherKeys(SmallEnv):
    observation_space = Dict({"joints": Box(-1, 1, (4,), np.float32)})


class OtherSizes(SmallEnv):
    action_space = Box(-1, 1, (7,), np.float32)


class NarrowActions(SmallEnv):
    """Nearly every action lies beyond its limits; succeeds after 20 steps."""

    task = "go to the goal"
    action_space = Box(-1e-5, 1e-5, (2,), np.float32)

    def demonstrator(self, num_robots):
        return PDDemonstrator(num_robots)

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        return observation, reward, terminated, truncated, {"is_success": self.steps >= 20}


class Silent(SmallEnv):
    """Never says whether its instruction is done."""

    task = "go to the goal"

    def demonstrator(self, num_robots):
        return PDDemonstrator(num_robots)

    def step(self, action):
        return *super().step(action)[:4], {}


class Foreign(SmallEnv):
    """Made and read as another package's env: settings, keys, matrices, Meta-World's success."""

    observation_space = Dict(
        {
            "robot": Box(-np.inf, np.inf, (2, 2), np.float32),
            "goal": Box(-np.inf, np.inf, (2,), np.float32),
        }
    )
    action_space = Box(-1, 1, (2, 1), np.float32)
    metadata: ClassVar[dict[str, object]] = {"render_modes": [], "render_fps": 10}
    control_hz = None  # read from metadata

    def __init__(self, obs_type="other", done_after=20):
        self.obs_type = obs_type
        self.done_after = done_after

    def demonstrator(self, num_robots):
        return PDDemonstrator(num_robots)

    def step(self, action):
        assert action.shape == (2, 1)
        observation, reward, terminated, truncated, _ = super().step(action[:, 0])
        return (
            observation,
            reward,
            terminated,
            truncated,
            {"success": float(self.steps >= self.done_after)},
        )

    def _observe(self):
        return {"robot": self.state[:4].reshape(2, 2).copy(), "goal": self.state[4:].copy()}


class Unrepeatable(SmallEnv):
    """Renders, and starts elsewhere every time, whatever the seed."""

    metadata: ClassVar[dict[str, object]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    resets: ClassVar[int] = 0

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        type(self).resets += 1
        return super().reset(seed=type(self).resets)

    def render(self):
        return np.zeros((8, 8, 3), np.uint8)


class Terminates(SmallEnv):
    terminates_after = 3


class FailsLater(SmallEnv):
    fails_at = 300


class FailsAtOnce(SmallEnv):
    fails_at = 1


class NotFinite(SmallEnv):
    def _observe(self):
        return {**super()._observe(), "agent_pos": np.full(4, np.nan, np.float32)}


class OtherShape(SmallEnv):
    """Observes another shape than its observation space promises."""

    def _observe(self):
        return {**super()._observe(), "environment_state": np.zeros(3, np.float32)}


class CannotStart(SmallEnv):
    def __init__(self):
        raise OSError("no robot at /dev/ttyUSB0")


class NeedsPackage(SmallEnv):
    def __init__(self):
        raise ModuleNotFoundError("No module named 'mujoco'")


class NeedsExtra(SmallEnv):
    def __init__(self):
        raise gymnasium.error.DependencyNotInstalled("box2d is not installed")


ENVS = (
    SmallEnv,
    DiscreteActions,
    OtherKeys,
    OtherSizes,
    NarrowActions,
    Silent,
    Foreign,
    Unrepeatable,
    Terminates,
    FailsLater,
    FailsAtOnce,
    NotFinite,
    OtherShape,
    CannotStart,
    NeedsPackage,
    NeedsExtra,
)
