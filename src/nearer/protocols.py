"""The contracts between robots, policies and the collector, in numpy: no torch on a robot.

Fleet     robots or simulators that act in lockstep
Policy    chooses actions
Judge     says which robots are done
Sight     the frozen part of a model, that looks at pictures
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64, Num, UInt8

from nearer.chunking import PLAIN, Chunking
from nearer.episode import Ended, Observation
from nearer.errors import ConfigError
from nearer.progress import Watch, unwatched
from nearer.shapes import Array

Randomness = Sequence[np.random.Generator]
"""One generator a robot, seeded by the episode: the same seed gives the same episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy wants its robots to do now, one row a robot.

    Attributes:
        actions: in the env's units.
        log_prob: exact log-probability of each action; zero for a policy that cannot choose.
    """

    actions: Float32[Array, "robots action"]
    log_prob: Float32[Array, "robots"]


@runtime_checkable
class Policy(Protocol):
    """Chooses actions. May keep a memory per robot, which `begin` clears."""

    def begin(self, robots: Int64[Array, "robots"], randomness: Randomness) -> None:
        """Forget what these robots did before: each starts a new episode now."""
        ...

    def act(
        self,
        observation: Observation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        randomness: Randomness,
    ) -> Decision:
        """Sample one action a row of `observation`, using only `randomness` for chance."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Says which robots are done; the collector ends their episodes as `ended_as`."""

    ended_as: ClassVar[Ended]

    def done(
        self,
        observation: Observation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Bool[Array, "robots"]:
        """Tell, a row of `observation` each, whether its instruction is fulfilled."""
        ...


class Camera(NamedTuple):
    """A camera, by the name and the size of its pictures in pixels."""

    name: str
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.name} {self.height}x{self.width}"


_ROUNDING = 1e-6  # of a limit that was written in float32


@dataclass(frozen=True, slots=True, kw_only=True)
class Spaces:
    """The sizes an env and a checkpoint must agree on.

    Attributes:
        action: numbers in one decision: `axes` for every control step that it covers.
        control_hz: control steps a second; None: the env does not say.
        action_limits: least and greatest value of each axis; None: nobody says, as in a data set.
        chunking: what a decision is made of; plain for every env and data set.
    """

    agent_pos: int
    environment_state: int
    action: int
    cameras: tuple[Camera, ...] = ()
    control_hz: int | None = None
    action_limits: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    chunking: Chunking = PLAIN

    def __str__(self) -> str:
        cameras = "".join(f", camera {camera}" for camera in self.cameras)
        return (
            f"agent_pos {self.agent_pos}, environment_state {self.environment_state}, action "
            f"{self.axes}{cameras}"
        )

    @property
    def axes(self) -> int:
        """Count the numbers in the action of one control step."""
        return self.action // self.chunking.chunk

    def in_chunks(self, chunking: Chunking) -> "Spaces":
        """Return these sizes for a policy that decides so.

        Raises:
            ConfigError: actions are to be relative to joints that are not as many.
        """
        if chunking.relative and self.agent_pos != self.axes:
            raise ConfigError(
                "--relative must have a joint in observation.state (agent_pos) for every number "
                f"of an action, got {self.agent_pos} joints and {self.axes} numbers; leave it out"
            )
        return replace(self, action=self.axes * chunking.chunk, chunking=chunking)

    def num_outside(self, actions: Float32[Array, "steps axes"]) -> int:
        """Count the actions beyond the limits: the env clips or refuses these."""
        if self.action_limits is None:
            return 0
        low, high = np.array(self.action_limits)
        beyond = (actions < low - _ROUNDING) | (actions > high + _ROUNDING)
        return int(beyond.any(axis=1).sum())


@runtime_checkable
class Sight(Protocol):
    """Turns pictures and an instruction into the numbers that the trained part of a model reads.

    A look is costly and knows one frame alone, so it is kept; `follow` is cheap and knows the
    frame before.
    """

    @property
    def identity(self) -> str:
        """Name what this sight sees, by a hash of its weights and settings."""
        ...

    @property
    def look_width(self) -> int:
        """Count the numbers that a look at a frame gives."""
        ...

    @property
    def width(self) -> int:
        """Count the features of a frame."""
        ...

    def look(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> Num[Array, "frames looks"]:
        """Look at frames, each with its instruction in mind."""
        ...

    def follow(
        self,
        before: Float32[Array, "robots features"] | None,
        looks: Float32[Array, "robots looks"],
    ) -> Float32[Array, "robots features"]:
        """Return the features of a frame, given those of the frame before; None at the start."""
        ...


@runtime_checkable
class StackingSight(Sight, Protocol):
    """A sight whose features are looks side by side: wide ones, that are better not kept twice."""

    @property
    def shown_frames(self) -> int:
        """Count the looks of a frame's features: its own last, before it those of frames before."""
        ...

    @property
    def look_dtype(self) -> str:
        """Name the kind of a look's numbers."""
        ...


@runtime_checkable
class ComparingSight(Sight, Protocol):
    """A sight that can look at a frame with several instructions in mind, at little more cost."""

    def look_for_each(
        self,
        images: Mapping[str, UInt8[Array, "frames h w c"]],
        candidates: Sequence[Sequence[str]],
    ) -> Float32[Array, "frames candidates looks"]:
        """Look at frames, each with its candidates in mind one by one: as many looks as `look`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Films:
    """Episodes that a sight may learn from: pictures and instructions, nothing else.

    Attributes:
        pictures: of every camera, of these frames at least; may be larger than memory.
        rows: where in `pictures` the frames are, one episode's after the other's.
        looks: what the sight's look at each of these frames gives.
        episode_lengths: frames an episode.
        instructions: one an episode.
    """

    pictures: Mapping[str, UInt8[Array, "all_frames h w 3"]]
    rows: Int64[Array, "frames"]
    looks: Float32[Array, "frames looks"]
    episode_lengths: Int64[Array, "episodes"]
    instructions: Sequence[str]


@runtime_checkable
class AdaptableSight(Sight, Protocol):
    """A sight that learns from the demonstrations' own frames in Stage 1; frozen ever after."""

    def weights(self) -> Float32[Array, "weights"]:
        """Return what learns, as one vector."""
        ...

    def take(self, weights: Float32[Array, "weights"]) -> None:
        """See with these weights from now on."""
        ...

    def learn(
        self, films: Films, updates: int, rng: np.random.Generator, watch: Watch = unwatched
    ) -> None:
        """Learn from films, in place."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Starts:
    """What robots see after a reset: one row a robot, and what each is asked to do."""

    observation: Observation
    instructions: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensed:
    """What robots see after a step.

    Attributes:
        env_ended: the env stopped by itself (gymnasium's terminated or truncated). It ends the
            episode; nothing is concluded from it.
    """

    observation: Observation
    env_ended: Bool[Array, "robots"]


@runtime_checkable
class Fleet(Protocol):
    """Robots, or simulators of them, that act in lockstep. `robots` are slots 0..num_robots-1."""

    @property
    def num_robots(self) -> int:
        """Count the slots."""
        ...

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and actions."""
        ...

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Start an episode on each of `robots`; the same seed gives the same start."""
        ...

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Let each of `robots` act once; the others stand still."""
        ...

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Tell what the simulator knows: is the instruction fulfilled now?

        For evaluation, audits and the collection of demonstrations alone;
        tests/test_layers.py proves that nothing else asks.
        """
        ...

    def close(self) -> None:
        """Release what the envs hold."""
        ...


@runtime_checkable
class HasDemonstrator(Protocol):
    """An env that brings a scripted demonstrator."""

    def demonstrator(self, num_robots: int) -> Policy:
        """Return a policy that fulfils the env's instructions."""
        ...
