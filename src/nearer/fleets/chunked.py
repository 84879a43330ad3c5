"""A fleet whose robots are given several control steps at once, and execute all of them."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array
from nearer.core.chunk_actions import split_decisions
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Fleet, Sensed, Starts
from nearer.core.spaces import Spaces
from nearer.fleets.encoded import EncodedFleet, Encodes
from nearer.fleets.wrapper import FleetWrapper


class ChunkedFleet(FleetWrapper):
    """A fleet that steps by action chunks: it executes each and returns the observation after it.

    A robot whose env ends within a chunk stops there. Ground truth is that of the observation
    returned, as everywhere: a success within a chunk that is undone when the chunk is over does not
    count, unless the env ended there. A detector cannot see it either.

    Vision encoders are inside (`ChunkedFleet(EncodedFleet(...))`): they track objects from one
    control step to the next, in demonstrations too. Those of a model that learnt from the frames of
    decisions alone are outside; see `encoded_in_chunks`.
    """

    def __init__(self, fleet: Fleet, chunking: Chunking) -> None:
        super().__init__(fleet)
        self._spaces = fleet.spaces.in_chunks(chunking)
        self._agent_pos = np.zeros((fleet.num_robots, self._spaces.agent_pos), np.float32)

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and decisions."""
        return self._spaces

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots."""
        starts = super().reset(robots, seeds)
        self._agent_pos[robots] = starts.observation.agent_pos
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Let each of `robots` execute its chunk."""
        steps = split_decisions(self._spaces.chunking, actions, self._agent_pos[robots])
        sensed = super().step(robots, steps[:, 0])
        for step in range(1, self._spaces.chunking.chunk):
            going = np.flatnonzero(~sensed.env_ended)
            if not len(going):
                break
            sensed = _updated(sensed, going, super().step(robots[going], steps[going, step]))
        self._agent_pos[robots] = sensed.observation.agent_pos
        return sensed


def in_chunks(fleet: Fleet, chunking: Chunking) -> Fleet:
    """Return the fleet for a policy that decides so; as it is, where it decides step by step."""
    return fleet if chunking.is_plain else ChunkedFleet(fleet, chunking)


def encoded_in_chunks(
    fleet: Fleet,
    chunking: Chunking,
    encoders: Encodes | None,
    chunks: Callable[[Fleet, Chunking], Fleet] = in_chunks,
) -> Fleet:
    """Return the fleet for a policy that decides so, its images encoded where it learnt from them:
    at every control step, or at every decision alone.

    Args:
        fleet: by control steps, with images where there are encoders.
        chunking: of the policy.
        encoders: None: no model reads images.
        chunks: makes a fleet that steps by chunks.
    """
    if encoders is None:
        return chunks(fleet, chunking)
    if chunking.decision_frames:
        return EncodedFleet(chunks(fleet, chunking), encoders)
    return chunks(EncodedFleet(fleet, encoders), chunking)


def _updated(before: Sensed, rows: Int64[Array, "going"], after: Sensed) -> Sensed:
    """Return what was sensed with newer rows in it."""
    if len(rows) == len(before.env_ended):
        return after
    env_ended = before.env_ended.copy()
    env_ended[rows] = after.env_ended
    old, new = before.observation, after.observation
    if isinstance(old, EncodedObservation) and isinstance(new, EncodedObservation):
        return Sensed(observation=old.updated(rows, new), env_ended=env_ended)
    assert isinstance(old, Observation), "a fleet encodes all its observations, or none"
    assert isinstance(new, Observation), "a fleet encodes all its observations, or none"
    return Sensed(observation=old.updated(rows, new), env_ended=env_ended)
