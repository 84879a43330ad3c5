"""The wrapper sends only what obeys the limits, and says what it changed."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from nearer.core.errors import ConfigError
from nearer.envs.robots.motion_limits import motion_limits
from nearer.envs.robots.safety import SafeActions

LIMITS = motion_limits(["joint"], {"joint": [-0.5, 0.5]}, max_velocity=1.0)


class Joint(gymnasium.Env[Any, Any]):
    """Goes where it is told at once, and remembers what it was told."""

    metadata: dict[str, Any] = {}  # noqa: RUF012 - gymnasium's form
    observation_space = gymnasium.spaces.Dict({"agent_pos": gymnasium.spaces.Box(-9, 9, (1,))})
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    control_hz: int | None = 10
    task = "reach"

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.told: list[float] = []
        return {"agent_pos": np.zeros(1, np.float32)}, {}

    def step(self, action: Any) -> Any:
        assert action.dtype == np.float32
        self.told.append(float(action[0]))
        return {"agent_pos": action.copy()}, 0.0, False, False, {"mine": 1}


def test_env_receives_limited_actions_and_info_says_so() -> None:
    env = SafeActions(Joint(), LIMITS)
    env.reset(seed=0)
    infos = [env.step(np.array([target], np.float32))[4] for target in (0.04, 1.0, np.nan)]
    assert env.unwrapped.told == pytest.approx([0.04, 0.12, 0.12])  # type: ignore[attr-defined]
    assert [info["clipped"] for info in infos] == [
        (),
        ("position", "velocity", "acceleration"),
        ("not_finite",),
    ]
    assert infos[1]["executed_action"] == pytest.approx([0.12])
    assert infos[1]["mine"] == 1
    counts = env.clip_counts()
    assert (counts.commands, counts.position, counts.not_finite) == (3, 1, 1)


def test_limits_begin_anew_at_each_reset() -> None:
    env = SafeActions(Joint(), LIMITS)
    for _ in range(2):
        env.reset()
        env.step(np.array([1.0], np.float32))
        assert env.unwrapped.told == pytest.approx([0.04])  # type: ignore[attr-defined]


def test_action_space_is_what_env_and_limits_allow() -> None:
    env = SafeActions(Joint(), LIMITS)
    assert env.action_space == gymnasium.spaces.Box(-0.5, 0.5, (1,))
    assert env.get_wrapper_attr("task") == "reach"
    speeds = motion_limits(["v"], {}, 0.3, commands={"v": "velocity"})
    assert SafeActions(Joint(), speeds).action_space == gymnasium.spaces.Box(-0.3, 0.3, (1,))


def test_rate_and_axes_that_do_not_fit_are_sentences() -> None:
    env = Joint()
    env.control_hz = None
    with pytest.raises(ConfigError, match="control_hz must be the commands a second"):
        SafeActions(env, LIMITS)
    SafeActions(env, LIMITS, control_hz=20)
    two = motion_limits(["a", "b"], {"a": [0, 1], "b": [0, 1]}, 1.0)
    with pytest.raises(ConfigError, match=r"must have the \(1,\) axes .* got a, b"):
        SafeActions(Joint(), two)
