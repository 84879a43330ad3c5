"""What of an env's spaces nearer can serve: its observations, actions and control rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from jaxtyping import Float32

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.core.spaces import Spaces
from nearer.fleets.env_settings import EnvSettings
from nearer.fleets.find_env import observation_advice
from nearer.fleets.observation_reader import ObservationReader, observation_reader


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSpaces:
    """How one env is read and acted on.

    Attributes:
        sizes: what a data set and a checkpoint must agree on.
        reader: of its observations.
        action_shape: of its actions, which are one row of numbers everywhere else.
    """

    sizes: Spaces
    reader: ObservationReader
    action_shape: tuple[int, ...]

    def env_action(self, action: Float32[Array, "action"]) -> Float32[Array, "..."]:
        """Return an action in the env's own shape."""
        return action.reshape(self.action_shape)

    def env_actions(self, actions: Float32[Array, "robots action"]) -> Float32[Array, "robots ..."]:
        """Return an action a row in the env's own shape."""
        return actions.reshape(len(actions), *self.action_shape)


def env_spaces(
    env: Any, observation_space: Any, action_space: Any, settings: EnvSettings
) -> EnvSpaces:
    """Return how an env is read and acted on.

    Args:
        env: without its wrappers.
        observation_space: of one env.
        action_space: of one env.
        settings: renamed observations, and the control rate of an env that states none.

    Raises:
        EnvError: the spaces are none that nearer can serve, or the env has another control rate.
    """
    _check_actions(action_space)
    spec = cast(EnvSpec | None, getattr(env, "spec", None))
    reader = observation_reader(observation_space, settings.renamed, observation_advice(spec))
    sizes = Spaces(
        agent_pos=reader.widths["agent_pos"],
        environment_state=reader.widths["environment_state"],
        action=math.prod(action_space.shape),
        cameras=reader.cameras,
        control_hz=_rate(env, settings.fps),
        action_limits=(_axes(action_space.low), _axes(action_space.high)),
    )
    return EnvSpaces(sizes=sizes, reader=reader, action_shape=action_space.shape)


def control_rate(env: Any) -> int | None:
    """Return the control steps a second of an env without its wrappers; None: it does not say.

    It says so by an attribute `control_hz`, or by Gymnasium's `metadata["render_fps"]`.
    """
    metadata = cast(Mapping[str, object], getattr(env, "metadata", None) or {})
    return _fixed_rate(env) or _whole(metadata.get("render_fps"))


def _fixed_rate(env: Any) -> int | None:
    return _whole(getattr(env, "control_hz", None))


def _whole(rate: object) -> int | None:
    if isinstance(rate, int | float) and math.isfinite(rate) and rate > 0:
        return max(1, round(rate))
    return None


def stated_rate(env_id: str, control_hz: int | None) -> int:
    """Return the control rate of an env, which a data set must state.

    Raises:
        EnvError: nobody says it.
    """
    if control_hz is None:
        raise EnvError(
            f"{env_id} must have a control rate, in control_hz or metadata['render_fps'], got "
            "none: steps-to-go counts control steps; pass --fps HZ"
        )
    return control_hz


def _rate(env: Any, fps: int | None) -> int | None:
    """Return the control rate of an env, or the user's where the env has none of its own.

    Raises:
        EnvError: the env has another one.
    """
    fixed = _fixed_rate(env)
    if fixed is not None and fps not in (None, fixed):
        raise EnvError(
            f"--fps must be the control rate of the env, {fixed} Hz, got {fps}; leave it out"
        )
    return fps or control_rate(env)


def _check_actions(space: Any) -> None:
    """Raise EnvError unless actions are quantities."""
    is_real = isinstance(space, Box) and np.issubdtype(cast(Any, space.dtype), np.floating)
    if is_real and math.prod(space.shape) > 0:
        return
    raise EnvError(
        f"the env must have a Box action space of real numbers, got {space}; policies choose among "
        "levels of quantities such as joint positions: choose continuous actions with the env's "
        "own setting, --env-kwargs, or map a Box to its actions in a gymnasium.ActionWrapper"
    )


def _axes(limits: Array) -> tuple[float, ...]:
    return tuple(cast(list[float], limits.ravel().tolist()))
