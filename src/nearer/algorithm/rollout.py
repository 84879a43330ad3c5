"""Roll out a policy and return what happened, episode by episode."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from nearer.core.arrays import Array
from nearer.core.chunk_actions import split_decisions
from nearer.core.episode import (
    EncodedObservation,
    Ended,
    Episode,
    Observation,
    StepsToGoPrediction,
)
from nearer.core.errors import NearerError
from nearer.core.interfaces import (
    Decision,
    Fleet,
    Policy,
    Starts,
    TerminationRule,
)
from nearer.core.memory import check_fits
from nearer.core.seeds import Purpose, episode_seeds, generator
from nearer.core.spaces import Spaces


@runtime_checkable
class EpisodeSource(Protocol):
    """Where Stage 2 gets its episodes from: robots, at whatever pace each of them acts.

    A fleet that moves in lockstep in this process is one source (`LockstepSource`); processes,
    machines and real robots that each run at their own pace are others.
    """

    @property
    def num_robots(self) -> int:
        """Count the robots: so many episodes may be in flight when there are steps enough."""
        ...

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and decisions."""
        ...

    def episodes(self, policy: Policy, version: int, enough_steps: int) -> Iterator[Episode]:
        """Yield the episodes of one policy version as they end, in any order.

        An episode that has started is always yielded: dropping the ones in flight would favour
        short episodes.

        Args:
            policy: acts until the last episode has been yielded, and does not change meanwhile.
            version: of the policy, the iteration of Stage 2; the same version on the same source
                gives the same episodes.
            enough_steps: no episode starts once so many decisions have been taken in all.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LockstepSource:
    """Robots of one fleet in this process, that all wait for the slowest before each step.

    Attributes:
        fleet: robots, their observations encoded where the policy has a vision encoder.
        termination: ends episodes.
        max_steps: control steps an episode may take.
        seed: of starts and actions.
    """

    fleet: Fleet
    termination: TerminationRule
    max_steps: int
    seed: int

    @property
    def num_robots(self) -> int:
        """Count the robots."""
        return self.fleet.num_robots

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and decisions."""
        return self.fleet.spaces

    def episodes(self, policy: Policy, version: int, enough_steps: int) -> Iterator[Episode]:
        """Yield the episodes of one policy version as they end."""
        return rollout(
            self.fleet,
            policy,
            self.termination,
            seeds=episode_seeds(Purpose.PRACTICE, self.seed, version),
            max_steps=self.max_steps,
            enough_steps=enough_steps,
            policy_version=version,
        )


def rollout(
    fleet: Fleet,
    policy: Policy,
    termination: TerminationRule,
    *,
    seeds: Iterator[int],
    max_steps: int,
    enough_steps: int | None = None,
    policy_version: int = 0,
    keep_features: bool = True,
) -> Iterator[Episode]:
    """Yield episodes as they end, until `seeds` runs out or `enough_steps` have been taken.

    Every episode that starts is run to its end under the one policy and is yielded: dropping the
    ones in flight would favour short episodes. So `enough_steps` is passed by up to one episode
    a robot.

    Args:
        fleet: the robots.
        policy: chooses the actions.
        termination: checks every observation, the first and the last included, and ends
            an episode as soon as one is done.
        seeds: one an episode; fixes its start and the policy's sampling.
        max_steps: control steps after which an episode ends as `Ended.TIME_LIMIT`; where the
            fleet acts in chunks, as many whole ones as fit. All else here counts decisions.
        enough_steps: no further episode starts once this many decisions have been taken in all.
        policy_version: kept with every episode.
        keep_features: leave in the episodes what vision encoders made of images; where nobody
            reads them again, they need not be remembered.
    """
    max_decisions = fleet.spaces.chunking.decisions_within(max_steps)
    recorder = _Recorder(fleet, max_decisions, policy_version, keep_features=keep_features)
    decisions = 0
    while True:
        idle = np.flatnonzero(~recorder.acting)
        enough = enough_steps is not None and decisions >= enough_steps
        starting = [] if enough else list(islice(seeds, len(idle)))
        if starting:
            robots = idle[: len(starting)]
            recorder.begin(robots, starting, fleet.reset(robots, starting))
            policy.begin(robots, recorder.rngs(robots))
        robots = np.flatnonzero(recorder.acting)
        if not len(robots):
            return
        check = termination.check(recorder.latest(robots), recorder.instructions(robots), robots)
        recorder.note_prediction(robots, check.prediction)
        by_person = check.by_person or (None,) * len(robots)
        ends = [
            termination.ended_as if done else person
            for done, person in zip(check.done, by_person, strict=True)
        ]
        for episode in recorder.finish(robots, ends):
            if episode.ended is Ended.FAULT:  # nobody learns from it: another one is needed
                decisions -= episode.num_steps
            yield episode
        robots = np.flatnonzero(recorder.acting)
        if len(robots):
            decision = policy.act(
                recorder.latest(robots),
                recorder.instructions(robots),
                robots,
                recorder.rngs(robots),
            )
            _check_finite(decision, recorder.instructions(robots), policy_version)
            sensed = fleet.step(robots, decision.actions)
            recorder.append(robots, decision, sensed.observation, sensed.env_ended)
            decisions += len(robots)


def _check_finite(decision: Decision, instructions: Sequence[str], policy_version: int) -> None:
    """Raise NearerError before a robot is told to do what is no number."""
    wrong = np.flatnonzero(~np.isfinite(decision.actions).all(axis=-1))
    if len(wrong):
        raise NearerError(
            f"every action must be finite, got {decision.actions[wrong[0]].tolist()} for "
            f"{instructions[wrong[0]]!r} from policy version {policy_version}; no robot has moved "
            "by it, look at what the policy observes and at its weights, or use an older checkpoint"
        )


def actions_outside(spaces: Spaces, episodes: Iterable[Episode]) -> int:
    """Count the actions, a control step each, that were beyond the limits of their env."""
    return sum(spaces.num_outside(_control_actions(episode, spaces)) for episode in episodes)


def _control_actions(episode: Episode, spaces: Spaces) -> Float32[Array, "steps axes"]:
    starts = episode.observations.agent_pos[:-1]
    actions = split_decisions(spaces.chunking, episode.actions, starts)
    return actions.reshape(episode.num_steps * spaces.chunking.chunk, spaces.axes)


class _Recorder:
    """One row of memory a robot, filled step by step and cut into an episode when it ends."""

    def __init__(
        self, fleet: Fleet, max_steps: int, policy_version: int, *, keep_features: bool
    ) -> None:
        num_robots = fleet.num_robots
        numbers = fleet.spaces.action + fleet.spaces.agent_pos + fleet.spaces.environment_state
        check_fits(
            4 * num_robots * max_steps * numbers,
            f"episodes of {max_steps:,} decisions of {num_robots:,} robots",
            "choose a smaller --num-envs or --max-steps",
        )
        self.acting = np.zeros(num_robots, dtype=bool)
        self._max_steps = max_steps
        self._policy_version = policy_version
        self._not_kept = () if keep_features else _FEATURES
        self._steps = np.zeros(num_robots, dtype=np.int64)
        self._env_ended = np.zeros(num_robots, dtype=bool)
        self._seeds = [0] * num_robots
        self._instructions = [""] * num_robots
        self._rngs = [generator(Purpose.ACTIONS, 0)] * num_robots
        self._observations: dict[str, Array] = {}
        self._predictions: dict[str, Array] = {}
        self._actions = {
            "action": np.zeros((num_robots, max_steps, fleet.spaces.action), np.float32),
            "log_prob": np.zeros((num_robots, max_steps), np.float32),
        }

    def begin(self, robots: Int64[Array, "robots"], seeds: Sequence[int], starts: Starts) -> None:
        for robot, seed, instruction in zip(robots, seeds, starts.instructions, strict=True):
            self._seeds[robot] = seed
            self._instructions[robot] = instruction
            self._rngs[robot] = generator(Purpose.ACTIONS, seed)
        self.acting[robots] = True
        self._env_ended[robots] = False
        self._steps[robots] = 0
        self._write(self._observations, robots, _columns(starts.observation), self._max_steps + 1)

    def append(
        self,
        robots: Int64[Array, "robots"],
        decision: Decision,
        observation: Observation | EncodedObservation,
        env_ended: Bool[Array, "robots"],
    ) -> None:
        columns = {"action": decision.actions, "log_prob": decision.log_prob}
        self._write(self._actions, robots, columns, self._max_steps)
        self._steps[robots] += 1
        self._write(self._observations, robots, _columns(observation), self._max_steps + 1)
        self._env_ended[robots] = env_ended

    def note_prediction(
        self, robots: Int64[Array, "robots"], prediction: StepsToGoPrediction | None
    ) -> None:
        if prediction is not None:
            columns = {
                "mean": prediction.mean,
                "std": prediction.std,
                "quantiles": prediction.quantiles,
            }
            self._write(self._predictions, robots, columns, self._max_steps + 1)

    def latest(self, robots: Int64[Array, "robots"]) -> EncodedObservation:
        now = self._steps[robots]
        memory = self._observations.items()
        return _observation({key: rows[robots, now % rows.shape[1]] for key, rows in memory})

    def instructions(self, robots: Int64[Array, "robots"]) -> list[str]:
        return [self._instructions[robot] for robot in robots]

    def rngs(self, robots: Int64[Array, "robots"]) -> list[np.random.Generator]:
        return [self._rngs[robot] for robot in robots]

    def finish(
        self, robots: Int64[Array, "robots"], ends: Sequence[Ended | None]
    ) -> Iterator[Episode]:
        """Yield the episodes that end in some way, are stopped by their env, or out of time."""
        for robot, end in zip(map(int, robots), ends, strict=True):
            if end is None and self._env_ended[robot]:
                end = Ended.ENVIRONMENT
            if end is None and self._steps[robot] >= self._max_steps:
                end = Ended.TIME_LIMIT
            if end is not None:
                self.acting[robot] = False
                yield self._cut(robot, end)

    def _cut(self, robot: int, ended: Ended) -> Episode:
        steps = int(self._steps[robot])
        observations = {
            key: rows[robot, : steps + 1].copy()
            for key, rows in self._observations.items()
            if key not in self._not_kept
        }
        predictions = {
            key: rows[robot, : steps + 1].copy() for key, rows in self._predictions.items()
        }
        return Episode(
            robot=robot,
            seed=self._seeds[robot],
            instruction=self._instructions[robot],
            policy_version=self._policy_version,
            observations=_observation(observations),
            actions=self._actions["action"][robot, :steps].copy(),
            log_prob=self._actions["log_prob"][robot, :steps].copy(),
            ended=ended,
            prediction=StepsToGoPrediction(**predictions) if predictions else None,
        )

    def _write(
        self, memory: dict[str, Array], robots: Array, columns: dict[str, Array], length: int
    ) -> None:
        for key, values in columns.items():
            if key not in memory:
                rows = 1 if key in self._not_kept else length
                memory[key] = np.zeros((len(self.acting), rows, *values.shape[1:]), values.dtype)
            memory[key][robots, self._steps[robots] % memory[key].shape[1]] = values


_IMAGE = "image."
_FEATURES = ("features", "reward_features")


def _columns(observation: Observation | EncodedObservation) -> dict[str, Array]:
    if isinstance(observation, Observation):
        observation = EncodedObservation.without_features(observation)
    images = {_IMAGE + name: image for name, image in observation.observation.images.items()}
    return {
        "agent_pos": observation.agent_pos,
        "environment_state": observation.environment_state,
        "features": observation.features,
        "reward_features": observation.reward_features,
        **images,
    }


def _observation(columns: dict[str, Array]) -> EncodedObservation:
    images = {key[len(_IMAGE) :]: v for key, v in columns.items() if key.startswith(_IMAGE)}
    none = columns["agent_pos"][..., :0]
    return EncodedObservation(
        observation=Observation(
            agent_pos=columns["agent_pos"],
            environment_state=columns["environment_state"],
            images=images,
        ),
        features=columns.get("features", none),
        reward_features=columns.get("reward_features", none),
    )
