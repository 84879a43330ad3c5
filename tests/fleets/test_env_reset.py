"""An env of the older gym API starts where its seed says."""

from typing import Any

import gymnasium
import numpy as np

from nearer.fleets.env_reset import seeded_reset
from nearer.fleets.gym import make_fleet


class IgnoresItsSeed(gymnasium.Env[Any, Any]):
    """Draws its start from a generator that only `seed` seeds, as Meta-World's envs do."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float64)

    def __init__(self) -> None:
        self.rng = np.random.default_rng()

    def seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.rng.random(2), {}

    def step(self, action: Any) -> Any:
        return self.rng.random(2), 0.0, False, False, {"success": False}


class Present(gymnasium.Env[Any, Any]):
    """Takes the seed of `reset`; what it calls `seed` is no method."""

    seed = 7

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self.np_random.random(2), {}


def test_older_env_is_seeded() -> None:
    env = IgnoresItsSeed()
    (first, _), (other, _), (again, _) = (seeded_reset(env, seed) for seed in (3, 4, 3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fleet_repeats_starts() -> None:
    fleet = make_fleet(IgnoresItsSeed, 2, default_instruction="push")
    first, again = (fleet.reset(np.arange(2), [5, 6]).observation.agent_pos for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_present_env_is_left_to_itself() -> None:
    expected = np.random.default_rng(3).random(2)
    np.testing.assert_array_equal(seeded_reset(Present(), 3)[0], expected)
