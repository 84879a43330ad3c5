"""Gymnasium envs of this process as a fleet: one vectorised env, or single envs one by one.

Observations are read by lerobot's keys (observation_reader.py); the instruction comes from
`info["instruction"]` at reset, else from the env's `task_description` or `task`, else from the
settings; success from `info["is_success"]`, else from `info["success"]`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float32, Int64

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import EnvError
from nearer.core.interfaces import Fleet, HasDemonstrator, Policy, Sensed, Starts
from nearer.core.memory import check_fits
from nearer.fleets.env_errors import check_info, checked, making, reading, running
from nearer.fleets.env_reset import seeded_reset
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings
from nearer.fleets.env_spaces import EnvSpaces, env_spaces
from nearer.fleets.find_env import AnyEnv, check_kwargs, env_spec, make_env, tell_time_limit
from nearer.fleets.instructions import ChosenInstructions, Instructions
from nearer.fleets.reported_success import KEYS as SUCCESS_KEYS
from nearer.fleets.reported_success import ReportedSuccess

_LOG = logging.getLogger(__name__)
RawObservation = Mapping[str, Any]
"""What a vectorised env returns: a dict of arrays, a row a robot."""
Info = Mapping[str, Any]
"""What Gymnasium's `reset` and `step` return last."""


_ENV_BYTES = 1000
"""What an env takes at least; those with images or physics take a thousand times as much."""


def make_fleet(
    env: str | Callable[[], AnyEnv],
    num_robots: int,
    settings: EnvSettings = AS_IT_IS,
    default_instruction: str | None = None,
    max_steps: int | None = None,
    chosen: ChosenInstructions | None = None,
) -> Fleet:
    """Return `num_robots` copies of a Gymnasium env.

    Args:
        env: a Gymnasium id (find_env.py), or an env class or function that makes one.
        num_robots: copies.
        settings: how it is made and read.
        default_instruction: of episodes for which neither the env nor the settings have one.
        max_steps: control steps that an episode is to take; an env that ends it before is told of.
        chosen: what people want practised, which may change.

    Raises:
        EnvError: the id is unknown, or the env's spaces are none that nearer can serve.
    """
    check_fits(num_robots * _ENV_BYTES, f"{num_robots:,} envs", "choose a smaller --num-envs")
    if isinstance(env, str):
        envs = _vectorised(env, num_robots, settings)
        if envs is not None:
            return VectorFleet(envs, settings, default_instruction, chosen)
        singles = _singles(env, num_robots, settings)
        if max_steps is not None:
            tell_time_limit(singles[0], env, settings, max_steps)
    else:
        with making(getattr(env, "__name__", repr(env))):
            singles = [cast(Any, env)(**settings.kwargs) for _ in range(num_robots)]
    return SingleEnvFleet(singles, settings, default_instruction, chosen)


def _singles(env_id: str, num_robots: int, settings: EnvSettings) -> list[AnyEnv]:
    """Return so many envs, or none: where one cannot be made, those before it let go of theirs."""
    singles: list[AnyEnv] = []
    try:
        for _ in range(num_robots):
            singles.append(make_env(env_id, settings))
    except BaseException:
        for single in singles:
            single.close()
        raise
    return singles


def _vectorised(
    env_id: str, num_robots: int, settings: EnvSettings
) -> VectorEnv[Any, Any, Any] | None:
    """Return an env that steps all robots at once; None where it has none that leaves resets to us.

    Such as one that resets rows by itself: the collector would take the next episode for this one.
    """
    spec = env_spec(env_id)
    if spec.vector_entry_point is None:
        return None
    check_kwargs(spec, settings.kwargs)
    make = cast(Any, gymnasium.make_vec)
    with making(env_id):
        try:
            envs = make(
                spec, num_robots, vectorization_mode="vector_entry_point", **settings.kwargs
            )
        except Exception:
            if spec.entry_point is None:
                raise
            return None  # the single envs say what is wrong, if it concerns them too
    unsuitable = envs.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED
    if unsuitable and spec.entry_point is not None:
        envs.close()
        return None
    return envs


def make_demonstrator(env_id: str, fleet: Fleet) -> Policy:
    """Return the scripted demonstrator of a fleet's env.

    Raises:
        EnvError: the env brings none.
    """
    assert isinstance(fleet, VectorFleet | SingleEnvFleet), "only make_fleet's fleets have envs"
    if not isinstance(fleet.env, HasDemonstrator):
        raise EnvError(
            f"{env_id} must bring a method demonstrator(num_robots) to collect from, and has none; "
            "record demonstrations with lerobot and pass their folder to nearer sft --data"
        )
    return fleet.env.demonstrator(fleet.num_robots)


@runtime_checkable
class StepsRows(Protocol):
    """A vectorised env that can step some of its rows and let the others stand still."""

    def step_rows(
        self, rows: Int64[Array, "rows"], actions: Float32[Array, "rows action"]
    ) -> tuple[RawObservation, Array, Array, Array, Info]:
        """Return what `step` returns, of these rows alone."""
        ...


class VectorFleet:
    """One vectorised env that resets only the rows it is given."""

    def __init__(
        self,
        envs: VectorEnv[Any, Any, Any],
        settings: EnvSettings = AS_IT_IS,
        default_instruction: str | None = None,
        chosen: ChosenInstructions | None = None,
    ) -> None:
        if envs.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
            raise EnvError(
                f"{envs} must leave resets to the collector, got autoreset mode "
                f"{envs.metadata.get('autoreset_mode')}; set AutoresetMode.DISABLED in its metadata"
            )
        self._envs = envs
        self._name = env_name(envs)
        self._instructions = Instructions(self._name, settings.instruction, default_instruction)
        self._chosen = chosen or ChosenInstructions()
        self._seeds = [0] * envs.num_envs
        self.num_robots = envs.num_envs
        self._spaces = env_spaces(
            envs.unwrapped, envs.single_observation_space, envs.single_action_space, settings
        )
        _tell_unread(self._name, self._spaces)
        self.spaces = self._spaces.sizes
        self._actions = np.zeros((envs.num_envs, self.spaces.action), np.float32)
        self._success = ReportedSuccess(self._name, envs.num_envs)

    @property
    def env(self) -> Any:
        """Return the vectorised env."""
        return self._envs.unwrapped

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset these rows, each by its own seed."""
        mask = np.zeros(self.num_robots, dtype=bool)
        mask[robots] = True
        row_seeds: list[int | None] = [None] * self.num_robots
        for robot, seed in zip(_slots(robots), seeds, strict=True):
            row_seeds[robot] = self._seeds[robot] = seed
        chosen = [self._chosen.of(row) for row in range(self.num_robots)]
        options: dict[str, object] = {"reset_mask": mask}
        if any(chosen):
            options["instruction"] = chosen
        with running(self._name, "reset", seeds):
            raw, info = cast(Any, self._envs).reset(seed=row_seeds, options=options)
            check_info(self._name, info)
        self._success.begin(robots, _rows(info, robots, self.num_robots))
        if "instruction" in info:
            instructions = [
                self._instructions.of_episode(str(info["instruction"][robot]), chosen[robot])
                for robot in _slots(robots)
            ]
        else:
            attribute = _instruction_attribute(self._envs)
            instructions = [
                self._instructions.of_env(attribute, chosen[robot]) for robot in _slots(robots)
            ]
        return Starts(observation=self._read(raw, robots), instructions=instructions)

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step these rows; an env without `step_rows` steps the others too, with action zero."""
        seeds = [self._seeds[robot] for robot in _slots(robots)]
        if isinstance(self.env, StepsRows):
            with running(self._name, "step", seeds):
                raw, _, terminated, truncated, info = self.env.step_rows(robots, actions)
                check_info(self._name, info)
            self._success.note(robots, info)
            return Sensed(observation=self._read(raw), env_ended=terminated | truncated)
        self._actions[:] = 0
        self._actions[robots] = actions
        with running(self._name, "step", seeds):
            raw, _, terminated, truncated, info = self._envs.step(
                self._spaces.env_actions(self._actions)
            )
            check_info(self._name, info)
        self._success.note(robots, _rows(info, robots, self.num_robots))
        env_ended = (terminated | truncated)[robots]
        return Sensed(observation=self._read(raw, robots), env_ended=env_ended)

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return whether the instructions of these rows are done.

        Raises:
            EnvError: the env does not report it.
        """
        return self._success.of(robots)

    def close(self) -> None:
        """Close the env."""
        self._envs.close()

    def _read(self, raw: Any, robots: Int64[Array, "robots"] | None = None) -> Observation:
        """Return what was observed, of these rows alone where `raw` has those of all robots.

        Rows that stand still may hold anything.
        """
        with reading(self._name):
            observation = self._spaces.reader.read(raw, batch_axes=1)
        observed = observation if robots is None else observation.rows(robots)
        return checked(self._name, self.spaces, observed)


class SingleEnvFleet:
    """Single envs, stepped one after the other; any Gymnasium env that nearer can read."""

    def __init__(
        self,
        envs: Sequence[AnyEnv],
        settings: EnvSettings = AS_IT_IS,
        default_instruction: str | None = None,
        chosen: ChosenInstructions | None = None,
    ) -> None:
        self._envs = envs
        self._name = env_name(envs[0])
        self._instructions = Instructions(self._name, settings.instruction, default_instruction)
        self._chosen = chosen or ChosenInstructions()
        self._seeds = [0] * len(envs)
        self.num_robots = len(envs)
        self._spaces = env_spaces(
            envs[0].unwrapped, envs[0].observation_space, envs[0].action_space, settings
        )
        _tell_unread(self._name, self._spaces)
        self.spaces = self._spaces.sizes
        self._success = ReportedSuccess(self._name, len(envs))

    @property
    def env(self) -> Any:
        """Return the first env, without its wrappers."""
        return self._envs[0].unwrapped

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset these envs, each by its own seed."""
        observations: list[Observation] = []
        instructions: list[str] = []
        for row, (robot, seed) in enumerate(zip(_slots(robots), seeds, strict=True)):
            self._seeds[robot] = seed
            chosen = self._chosen.of(robot)
            with running(self._name, "reset", [seed]):
                raw, info = seeded_reset(self._envs[robot], seed, chosen)
                check_info(self._name, info)
            observations.append(self._read(raw))
            instructions.append(
                self._instructions.of_episode(str(info["instruction"]), chosen)
                if "instruction" in info
                else self._instructions.of_env(_instruction_attribute(self._envs[robot]), chosen)
            )
            self._success.begin(robots[row : row + 1], info)
        observation = checked(self._name, self.spaces, _stack(observations))
        return Starts(observation=observation, instructions=instructions)

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step these envs."""
        observations: list[Observation] = []
        env_ended = np.zeros(len(robots), dtype=bool)
        for row, (robot, action) in enumerate(zip(_slots(robots), actions, strict=True)):
            with running(self._name, "step", [self._seeds[robot]]):
                raw, _, terminated, truncated, info = self._envs[robot].step(
                    self._spaces.env_action(action)
                )
                check_info(self._name, info)
                env_ended[row] = terminated or truncated
            observations.append(self._read(raw))
            self._success.note(robots[row : row + 1], info)
        observation = checked(self._name, self.spaces, _stack(observations))
        return Sensed(observation=observation, env_ended=env_ended)

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return whether the instructions of these robots are done.

        Raises:
            EnvError: the env does not report it.
        """
        return self._success.of(robots)

    def close(self) -> None:
        """Close every env."""
        for env in self._envs:
            env.close()

    def _read(self, raw: Any) -> Observation:
        with reading(self._name):
            return self._spaces.reader.read(raw)


def _tell_unread(env_id: str, spaces: EnvSpaces) -> None:
    """Warn of what an env observes and nobody reads."""
    unread = spaces.reader.unread
    if not unread:
        return
    names = ", ".join(name for name, _ in unread)
    readable = next((part for part in unread if part.target), None)
    advice = f"; --rename {readable.name}={readable.target} reads it" if readable else ""
    _LOG.warning("%s observes %s besides, which is not read%s", env_id, names, advice)


def _rows(info: Info, robots: Int64[Array, "robots"], num_robots: int) -> Info:
    """Return what a vectorised env reported of these robots alone."""
    return {
        key: np.broadcast_to(np.asarray(info[key]), (num_robots,))[robots]
        for key in SUCCESS_KEYS
        if key in info
    }


def env_name(env: AnyEnv | VectorEnv[Any, Any, Any]) -> str:
    """Return the id that an env was made by, or else the name of its class."""
    return env.spec.id if env.spec else type(env).__name__


def _instruction_attribute(env: AnyEnv | VectorEnv[Any, Any, Any]) -> str:
    """Return the instruction that an env has as an attribute; empty: none."""
    for name in ("task_description", "task"):
        if isinstance(env, gymnasium.Env):
            value = env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None
        else:
            value = getattr(env.unwrapped, name, None)
        if isinstance(value, str):
            return value
    return ""


def _stack(parts: Sequence[Observation]) -> Observation:
    return Observation(
        agent_pos=np.stack([part.agent_pos for part in parts]),
        environment_state=np.stack([part.environment_state for part in parts]),
        images={
            camera: np.stack([part.images[camera] for part in parts]) for camera in parts[0].images
        },
    )


def _slots(robots: Int64[Array, "robots"]) -> list[int]:
    return cast(list[int], robots.tolist())
