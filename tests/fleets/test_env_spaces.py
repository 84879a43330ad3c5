"""Actions and control rates of envs, as far as nearer can serve them."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from nearer.core.errors import EnvError
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings
from nearer.fleets.env_spaces import control_rate, env_spaces, stated_rate

OBSERVED = Dict({"agent_pos": Box(-1, 1, (2,))})


class Env:
    """What the spaces of an env are read from besides its spaces."""

    def __init__(self, control_hz: int | None = None, **metadata: Any) -> None:
        self.metadata = metadata
        if control_hz is not None:
            self.control_hz = control_hz


def test_actions_go_to_the_env_in_its_own_shape() -> None:
    spaces = env_spaces(Env(), OBSERVED, Box(-1, 2, (2, 3)), AS_IT_IS)
    assert spaces.sizes.action == 6
    assert spaces.sizes.action_limits == ((-1,) * 6, (2,) * 6)
    action = np.arange(6, dtype=np.float32)
    assert spaces.env_action(action).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert spaces.env_actions(np.stack([action, action])).shape == (2, 2, 3)
    scalar = env_spaces(Env(), OBSERVED, Box(-1, 1, ()), AS_IT_IS)
    assert scalar.env_action(np.ones(1, np.float32)).shape == ()


@pytest.mark.parametrize(
    "space", [Discrete(4), MultiDiscrete([2, 2]), MultiBinary(3), Box(0, 5, (2,), np.int64)]
)
def test_actions_that_are_no_quantities_are_refused(space: Any) -> None:
    with pytest.raises(EnvError, match=r"Box action space of real numbers, got .*ActionWrapper"):
        env_spaces(Env(), OBSERVED, space, AS_IT_IS)


@pytest.mark.parametrize(
    ("env", "rate"),
    [
        (Env(control_hz=50, render_fps=25), 50),
        (Env(render_fps=25), 25),
        (Env(render_fps=29.97), 30),
        (Env(render_fps=0), None),
        (Env(render_fps=float("nan")), None),
        (Env(render_fps="fast"), None),
        (Env(), None),
    ],
)
def test_control_rate_is_the_envs_or_that_of_its_rendering(env: Env, rate: int | None) -> None:
    assert control_rate(env) == rate


def test_fps_says_the_rate_of_an_env_that_does_not() -> None:
    def rate(env: Env, fps: int | None) -> int | None:
        return env_spaces(env, OBSERVED, Box(-1, 1, (2,)), EnvSettings(fps=fps)).sizes.control_hz

    assert rate(Env(), 20) == 20
    assert rate(Env(render_fps=30), 20) == 20
    assert rate(Env(render_fps=30), None) == 30
    assert rate(Env(control_hz=30), 30) == 30
    with pytest.raises(EnvError, match="--fps must be the control rate of the env, 30 Hz, got 20"):
        rate(Env(control_hz=30), 20)


def test_rate_that_nobody_states_is_demanded() -> None:
    assert stated_rate("some/Env", 20) == 20
    with pytest.raises(EnvError, match=r"some/Env must have a control rate, .* pass --fps HZ"):
        stated_rate("some/Env", None)
