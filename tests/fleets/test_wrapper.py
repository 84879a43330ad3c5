"""A fleet around another one does what the other does."""

import numpy as np

from nearer.core.interfaces import Fleet
from nearer.fleets.wrapper import FleetWrapper
from nearer.testing import CountingFleet, check_fleet


class Closing(CountingFleet):
    """Counts how often it was closed."""

    times_closed = 0

    def close(self) -> None:
        self.times_closed += 1


def test_wrapper_keeps_the_contract_of_a_fleet() -> None:
    wrapped = FleetWrapper(CountingFleet(3, goal_steps=2))
    assert isinstance(wrapped, Fleet)
    check_fleet(wrapped)


def test_wrapper_hands_every_call_to_the_fleet_inside() -> None:
    inside = Closing(2, goal_steps=1)
    wrapped = FleetWrapper(inside)
    assert (wrapped.num_robots, wrapped.spaces) == (2, inside.spaces)
    starts = wrapped.reset(np.arange(2), [5, 6])
    assert starts.observation.agent_pos.tolist() == [[5, 0], [6, 0]]
    assert starts.instructions == ["count", "count"]
    sensed = wrapped.step(np.array([0]), np.float32([[0.25]]))
    assert sensed.observation.agent_pos.tolist() == [[5, 1]]
    assert inside.actions == [(5, 0, 0.25)]
    assert wrapped.ground_truth(np.arange(2)).tolist() == [True, False]
    wrapped.close()
    assert inside.times_closed == 1
