"""Gymnasium envs of this process as a fleet: one vectorised env, or single envs one by one.

Observations follow lerobot's keys: `agent_pos`, `environment_state`, `pixels` (an image, or a
dict camera -> image); the instruction comes from `info["instruction"]` at reset, else from the
env's `task_description` or `task`.
"""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast, runtime_checkable

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool, Float32, Int64

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import EnvError
from nearer.core.interfaces import Fleet, HasDemonstrator, Policy, Sensed, Starts
from nearer.core.memory import check_fits
from nearer.core.spaces import Camera, Spaces
from nearer.fleets.env_errors import checked, making, running

AnyEnv = gymnasium.Env[Any, Any]
RawObservation = Mapping[str, Any]
"""What an env returns, with lerobot's keys: numbers, and images under `pixels`."""
Info = Mapping[str, Any]
"""What Gymnasium's `reset` and `step` return last."""


_ENV_BYTES = 1000
"""What an env takes at least; those with images or physics take a thousand times as much."""


def make_fleet(env: str | Callable[[], AnyEnv], num_robots: int) -> Fleet:
    """Return `num_robots` copies of a Gymnasium env.

    Args:
        env: a Gymnasium id, or an env class or function that makes one.
        num_robots: copies.

    Raises:
        EnvError: the id is unknown, or the env's spaces are none that nearer can serve.
    """
    if not isinstance(env, str):
        with making(getattr(env, "__name__", repr(env))):
            return SingleEnvFleet([env() for _ in range(num_robots)])
    return _registered_fleet(env, num_robots)


def _registered_fleet(env_id: str, num_robots: int) -> Fleet:
    check_fits(num_robots * _ENV_BYTES, f"{num_robots:,} envs", "choose a smaller --num-envs")
    spec = _spec(env_id)
    if spec.vector_entry_point is None:
        return SingleEnvFleet([_make(env_id) for _ in range(num_robots)])
    with making(env_id):
        envs = gymnasium.make_vec(env_id, num_robots, vectorization_mode="vector_entry_point")
    return VectorFleet(envs)


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


@runtime_checkable
class HasControlRate(Protocol):
    """An env that says how many control steps a second it takes."""

    control_hz: int


def control_rate(env: Any) -> int | None:
    """Return the control steps a second of an env without its wrappers; None: it does not say."""
    return env.control_hz if isinstance(env, HasControlRate) else None


class VectorFleet:
    """One vectorised env that resets only the rows it is given."""

    def __init__(self, envs: VectorEnv[Any, Any, Any]) -> None:
        if envs.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
            raise EnvError(
                f"{envs} must leave resets to the collector, got autoreset mode "
                f"{envs.metadata.get('autoreset_mode')}; set AutoresetMode.DISABLED in its metadata"
            )
        self._envs = envs
        self._name = env_name(envs)
        self._seeds = [0] * envs.num_envs
        self.num_robots = envs.num_envs
        self.spaces = _spaces(
            envs.unwrapped, envs.single_observation_space, envs.single_action_space
        )
        self._actions = np.zeros((envs.num_envs, self.spaces.action), np.float32)
        self._success = np.zeros(envs.num_envs, dtype=bool)

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
        with running(self._name, "reset", seeds):
            raw, info = cast(Any, self._envs).reset(seed=row_seeds, options={"reset_mask": mask})
        self._success = np.asarray(info["is_success"], dtype=bool)
        instructions = [str(info["instruction"][robot]) for robot in _slots(robots)]
        observation = checked(
            self._name, self.spaces, read_observation(raw, batch_axes=1).rows(robots)
        )
        return Starts(observation=observation, instructions=instructions)

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step these rows; an env without `step_rows` steps the others too, with action zero."""
        seeds = [self._seeds[robot] for robot in _slots(robots)]
        if isinstance(self.env, StepsRows):
            with running(self._name, "step", seeds):
                raw, _, terminated, truncated, info = self.env.step_rows(robots, actions)
            self._success[robots] = info["is_success"]
            observation = checked(self._name, self.spaces, read_observation(raw, batch_axes=1))
            return Sensed(observation=observation, env_ended=terminated | truncated)
        self._actions[:] = 0
        self._actions[robots] = actions
        with running(self._name, "step", seeds):
            raw, _, terminated, truncated, info = self._envs.step(self._actions)
        self._success[robots] = np.asarray(info["is_success"], dtype=bool)[robots]
        env_ended = (terminated | truncated)[robots]
        observation = checked(
            self._name, self.spaces, read_observation(raw, batch_axes=1).rows(robots)
        )
        return Sensed(observation=observation, env_ended=env_ended)

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return `info["is_success"]` of these rows."""
        return self._success[robots]

    def close(self) -> None:
        """Close the env."""
        self._envs.close()


class SingleEnvFleet:
    """Single envs, stepped one after the other; any Gymnasium env with lerobot's keys."""

    def __init__(self, envs: Sequence[AnyEnv]) -> None:
        self._envs = envs
        self._name = env_name(envs[0])
        self._seeds = [0] * len(envs)
        self.num_robots = len(envs)
        self.spaces = _spaces(envs[0].unwrapped, envs[0].observation_space, envs[0].action_space)
        self._success = np.zeros(len(envs), dtype=bool)

    @property
    def env(self) -> Any:
        """Return the first env, without its wrappers."""
        return self._envs[0].unwrapped

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset these envs, each by its own seed."""
        raws: list[Any] = []
        instructions: list[str] = []
        for robot, seed in zip(_slots(robots), seeds, strict=True):
            self._seeds[robot] = seed
            with running(self._name, "reset", [seed]):
                raw, info = self._envs[robot].reset(seed=seed)
            raws.append(raw)
            instructions.append(_instruction(self._envs[robot], info))
            self._success[robot] = bool(info.get("is_success", False))
        observation = checked(self._name, self.spaces, _stack(raws))
        return Starts(observation=observation, instructions=instructions)

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step these envs."""
        raws: list[Any] = []
        env_ended = np.zeros(len(robots), dtype=bool)
        for row, (robot, action) in enumerate(zip(_slots(robots), actions, strict=True)):
            with running(self._name, "step", [self._seeds[robot]]):
                raw, _, terminated, truncated, info = self._envs[robot].step(action)
            raws.append(raw)
            env_ended[row] = terminated or truncated
            self._success[robot] = bool(info.get("is_success", False))
        observation = checked(self._name, self.spaces, _stack(raws))
        return Sensed(observation=observation, env_ended=env_ended)

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return the latest `info["is_success"]` of these envs."""
        return self._success[robots]

    def close(self) -> None:
        """Close every env."""
        for env in self._envs:
            env.close()


def _spec(env_id: str) -> EnvSpec:
    if env_id not in gymnasium.registry:
        _import_namespace(env_id)
    if env_id not in gymnasium.registry:
        close = difflib.get_close_matches(env_id, list(gymnasium.registry), n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else "install the package that registers it"
        raise EnvError(f"the env must be a registered Gymnasium id, got {env_id!r}; {hint}")
    return gymnasium.registry[env_id]


def _import_namespace(env_id: str) -> None:
    """Import the package that an id such as `nearer/PointMass-v0` names: it registers its envs.

    They are registered by the package or by its module `envs`; a package that is not there is
    reported by the caller.
    """
    namespace, slash, _ = env_id.partition("/")
    if not slash or not namespace.isidentifier():
        return
    for module in (namespace, f"{namespace}.envs"):
        if env_id in gymnasium.registry or find_spec(module) is None:
            return
        import_module(module)


def env_name(env: AnyEnv | VectorEnv[Any, Any, Any]) -> str:
    """Return the id that an env was made by, or else the name of its class."""
    return env.spec.id if env.spec else type(env).__name__


def _make(env_id: str) -> AnyEnv:
    _spec(env_id)
    with making(env_id):
        return gymnasium.make(env_id)


def _spaces(env: Any, observation_space: Any, action_space: Any) -> Spaces:
    if not isinstance(observation_space, gymnasium.spaces.Dict) or not isinstance(
        action_space, gymnasium.spaces.Box
    ):
        raise EnvError(
            "the env must have a Dict observation space with agent_pos, environment_state or "
            f"pixels, and a Box action space, got {observation_space} and {action_space}; "
            "wrap it in a gymnasium.ObservationWrapper"
        )
    parts = cast(Mapping[str, Any], observation_space.spaces)
    if not parts.keys() & {"agent_pos", "environment_state", "pixels"}:
        raise EnvError(
            "the env must observe agent_pos, environment_state or pixels, got "
            f"{sorted(parts)}; rename them in a gymnasium.ObservationWrapper"
        )
    box = cast(Any, action_space)
    return Spaces(
        agent_pos=_width(parts, "agent_pos"),
        environment_state=_width(parts, "environment_state"),
        action=math.prod(box.shape),
        cameras=_cameras(parts.get("pixels")),
        control_hz=control_rate(env),
        action_limits=(_axes(box.low), _axes(box.high)),
    )


def _cameras(pixels: Any) -> tuple[Camera, ...]:
    """Return the cameras of lerobot's `pixels`: a Dict of Boxes, one Box, or nothing."""
    if pixels is None:
        return ()
    one_camera = not isinstance(pixels, gymnasium.spaces.Dict)
    named = {"pixels": pixels} if one_camera else cast(Mapping[str, Any], pixels.spaces)
    return tuple(Camera(name, *box.shape[:2]) for name, box in sorted(named.items()))


def _axes(limits: Array) -> tuple[float, ...]:
    return tuple(cast(list[float], limits.ravel().tolist()))


def _width(parts: Mapping[str, gymnasium.spaces.Box], key: str) -> int:
    return math.prod(parts[key].shape) if key in parts else 0


def _instruction(env: AnyEnv, info: Info) -> str:
    if "instruction" in info:
        return str(info["instruction"])
    for name in ("task_description", "task"):
        if env.has_wrapper_attr(name):
            return str(env.get_wrapper_attr(name))
    return ""


def _stack(raws: Sequence[Any]) -> Observation:
    parts = [read_observation(raw) for raw in raws]
    return Observation(
        agent_pos=np.stack([part.agent_pos for part in parts]),
        environment_state=np.stack([part.environment_state for part in parts]),
        images={
            camera: np.stack([part.images[camera] for part in parts]) for camera in parts[0].images
        },
    )


def read_observation(raw: RawObservation, *, batch_axes: int = 0) -> Observation:
    """Return what an env with lerobot's keys observed.

    Args:
        raw: `agent_pos`, `environment_state` and `pixels`, as far as there are any.
        batch_axes: 1 for a vectorised env.
    """
    images = _images(raw.get("pixels", {}))
    batch = np.shape(next(iter([*images.values(), *raw.values()])))[:batch_axes]
    none = np.zeros((*batch, 0), np.float32)
    return Observation(
        agent_pos=np.asarray(raw.get("agent_pos", none), np.float32),
        environment_state=np.asarray(raw.get("environment_state", none), np.float32),
        images=images,
    )


def _images(pixels: Any) -> dict[str, Array]:
    """Return camera -> image of lerobot's `pixels`: one image, or a dict of them."""
    if isinstance(pixels, Mapping):
        named = cast(Mapping[str, Any], pixels)
        return {camera: np.asarray(image) for camera, image in named.items()}
    return {"pixels": np.asarray(pixels)}


def _slots(robots: Int64[Array, "robots"]) -> list[int]:
    return cast(list[int], robots.tolist())
