"""What `RobotEnv` needs of a robot: five calls and a space."""

from typing import Any, Protocol, runtime_checkable

from gymnasium import Space
from jaxtyping import Float, Float64

from nearer.core.arrays import Array
from nearer.envs.gymnasium_types import RawObservation


@runtime_checkable
class RobotDriver(Protocol):
    """A robot as its own software moves it, connected and ready.

    Calls come one at a time, but for `hold`, which may come beside one that does not return; and
    from different threads. An exception in any of them holds the robot and ends the episode.
    """

    @property
    def observation_space(self) -> Space[Any]:
        """Return the space of observations, a Dict with lerobot's keys: agent_pos, pixels, ..."""
        ...

    def observe(self) -> RawObservation:
        """Return what the sensors say now; images are uint8 (height, width, 3), RGB."""
        ...

    def positions(self) -> Float[Array, "action"]:
        """Return where the axes of the action are now, in its units; nan where nothing measures."""
        ...

    def command(self, action: Float64[Array, "action"]) -> None:
        """Send a command that obeys the limits, and return without waiting for the motion."""
        ...

    def hold(self) -> None:
        """Let the robot stay where it is now, as quickly as it safely can."""
        ...

    def close(self) -> None:
        """Disconnect; the robot is held already."""
        ...
