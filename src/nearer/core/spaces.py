"""The sizes that an env, a data set and a checkpoint must agree on."""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32

from nearer.core.action_chunks import PLAIN, Chunking
from nearer.core.arrays import Array
from nearer.core.errors import ConfigError


class Camera(NamedTuple):
    """A camera, by the name and the size of its images in pixels."""

    name: str
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.name} {self.height}x{self.width}"


class Mismatch(NamedTuple):
    """What keeps an env or a data set from serving a checkpoint.

    Attributes:
        kind: sizes of state or action, the control rate, or a camera.
        text: "must ..., got ...", the middle of a sentence.
    """

    kind: Literal["sizes", "rate", "camera"]
    text: str


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

    def mismatch(
        self,
        needed: "Spaces",
        whose: str = "the checkpoint",
        *,
        actions: bool = True,
        cameras: bool = True,
    ) -> Mismatch | None:
        """Return what of these spaces is not as needed, the most telling first; None if all is.

        Args:
            needed: what a model was trained on.
            whose: the owner of `needed`, for the text.
            actions: compare the numbers in an action as well.
            cameras: every camera that is needed must be there; further ones do no harm.
        """
        sizes = [
            (spaces.agent_pos, spaces.environment_state, spaces.axes if actions else 0)
            for spaces in (self, needed)
        ]
        if sizes[0] != sizes[1]:
            what = "spaces" if actions else "observations"
            return Mismatch("sizes", f"must have the {what} of {whose}, {needed}, got {self}")
        if self.control_hz and needed.control_hz and self.control_hz != needed.control_hz:
            return Mismatch(
                "rate",
                f"must be controlled at the {needed.control_hz} Hz of {whose}, got "
                f"{self.control_hz} Hz: steps-to-go counts control steps",
            )
        missing = [camera for camera in needed.cameras if camera not in self.cameras]
        if cameras and missing:
            there = ", ".join(map(str, self.cameras)) or "none"
            return Mismatch("camera", f"must have the camera {missing[0]} of {whose}, got {there}")
        return None

    def num_outside(self, actions: Float32[Array, "steps axes"]) -> int:
        """Count the actions beyond the limits: the env clips or refuses these."""
        if self.action_limits is None:
            return 0
        low, high = np.array(self.action_limits)
        beyond = (actions < low - _ROUNDING) | (actions > high + _ROUNDING)
        return int(beyond.any(axis=1).sum())
