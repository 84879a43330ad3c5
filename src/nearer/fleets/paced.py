"""A fleet that keeps a control rate, as robots do."""

from collections.abc import Sequence

from jaxtyping import Float32, Int64

from nearer.core.arrays import Array
from nearer.core.control_clock import ControlClock
from nearer.core.interfaces import Fleet, Sensed, Starts
from nearer.fleets.wrapper import FleetWrapper


class PacedFleet(FleetWrapper):
    """A fleet whose control steps each take one period of a clock, or more if they come too late.

    For simulators: a robot's own env keeps its rate by itself. A reset is no control step; robots
    of one fleet wait for each other's.
    """

    def __init__(self, fleet: Fleet, clock: ControlClock) -> None:
        super().__init__(fleet)
        self._clock = clock

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots, and begin a period."""
        starts = super().reset(robots, seeds)
        self._clock.start()
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots, and wait for the end of the period."""
        sensed = super().step(robots, actions)
        self._clock.wait()
        return sensed
