"""What an actor has in place of models that are served: it asks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Ended, Observation
from nearer.core.interfaces import Decision, Fleet, Rngs, Starts, Termination
from nearer.fleets.actors.messages import Ask, Decided, DecideQuestion, EncodeQuestion
from nearer.fleets.wrapper import FleetWrapper


class RemoteEncoders:
    """Vision encoders of the server; see `nearer.fleets.encoded.Encodes`.

    Args:
        ask: the server.
        first_robot: number of this actor's first robot in the whole fleet.
    """

    def __init__(self, ask: Ask, first_robot: int) -> None:
        self._ask = ask
        self._first_robot = first_robot

    def encode(
        self,
        robots: Int64[Array, "robots"],
        observation: Observation,
        instructions: Sequence[str],
        *,
        at_start: bool,
    ) -> EncodedObservation:
        """Return observations with features in place of their images."""
        answer = self._ask(
            EncodeQuestion(
                robots=self._first_robot + robots,
                observation=observation,
                instructions=instructions,
                at_start=at_start,
            )
        )
        assert isinstance(answer, EncodedObservation), "images are answered by features"
        return answer


class RemoteModels(FleetWrapper):
    """A fleet, with the termination rule and the policy of the server for its robots.

    One question an observation: what is done comes with what to do next, which `act` returns.

    Args:
        fleet: robots, their observations encoded if the models have vision encoders.
        ask: the server.
        first_robot: number of this actor's first robot in the whole fleet.
    """

    ended_as = Ended.SUCCESS_DETECTED

    def __init__(self, fleet: Fleet, ask: Ask, first_robot: int) -> None:
        super().__init__(fleet)
        self._ask = ask
        self._first_robot = first_robot
        self._starting: dict[int, int] = {}
        self._actions = np.zeros((fleet.num_robots, fleet.spaces.action), np.float32)
        self._log_prob = np.zeros(fleet.num_robots, np.float32)

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots."""
        first = self._first_robot
        self._starting |= {
            first + robot: seed for robot, seed in zip(robots.tolist(), seeds, strict=True)
        }
        return super().reset(robots, seeds)

    def check(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
    ) -> Termination:
        """Ask, and return what the server says of being done."""
        answer = self._ask(
            DecideQuestion(
                robots=self._first_robot + robots,
                observation=observation,
                instructions=instructions,
                starting=self._starting,
            )
        )
        assert isinstance(answer, Decided), "observations are answered by decisions"
        self._starting = {}
        self._actions[robots] = answer.decision.actions
        self._log_prob[robots] = answer.decision.log_prob
        return answer.termination

    def begin(self, robots: Int64[Array, "robots"], rngs: Rngs) -> None:
        """Do nothing: the server knows the seeds."""

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: Int64[Array, "robots"],
        rngs: Rngs,
    ) -> Decision:
        """Return what the server has answered when it was asked whether these are done."""
        return Decision(actions=self._actions[robots], log_prob=self._log_prob[robots])
