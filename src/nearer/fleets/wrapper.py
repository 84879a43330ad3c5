"""A fleet around another one, to record or change what passes between robots and loop."""

from collections.abc import Sequence

from jaxtyping import Bool, Float32, Int64

from nearer.core.arrays import Array
from nearer.core.interfaces import Fleet, Sensed, Starts
from nearer.core.spaces import Spaces


class FleetWrapper:
    """Does what the fleet inside does; subclasses do more in `reset` and `step`."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    @property
    def num_robots(self) -> int:
        """Count the slots."""
        return self.fleet.num_robots

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and actions."""
        return self.fleet.spaces

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots."""
        return self.fleet.reset(robots, seeds)

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots."""
        return self.fleet.step(robots, actions)

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return the fleet's ground truth of now."""
        return self.fleet.ground_truth(robots)

    def close(self) -> None:
        """Close the fleet."""
        self.fleet.close()
