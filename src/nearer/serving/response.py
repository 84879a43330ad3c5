"""What a server sends: its metadata on connection, then a response to each request."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float32

from nearer.core.arrays import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerMetadata:
    """Description of the checkpoint, sent when a robot connects.

    Attributes:
        model: name of the model family.
        state, environment_state: numbers of an observation.
        images: height, width and channels by camera.
        action: axes of an action in one control step.
        chunk: control steps of one response's actions.
        control_hz: control steps a second of the demonstrations; None: not recorded.
        threshold_steps: s of `done`, in control steps; None: not calibrated.
        robot: number of the connection, or of the first one of a robot that came back.
        name: that the robot gave itself; None: it gave none.
        resumed: whether the robot has come back to its random stream and memory.
        seed: of the actions.
    """

    model: str
    state: int
    environment_state: int
    images: Mapping[str, tuple[int, int, int]]
    action: int
    chunk: int
    control_hz: int | None
    threshold_steps: float | None
    robot: int
    name: str | None
    resumed: bool
    seed: int

    def to_message(self) -> dict[str, object]:
        """Return the metadata by name, as clients read it."""
        return {
            "server": "nearer",
            "model": self.model,
            "state": self.state,
            "environment_state": self.environment_state,
            "images": {name: list(size) for name, size in self.images.items()},
            "action": self.action,
            "chunk": self.chunk,
            "control_hz": self.control_hz,
            "threshold_steps": self.threshold_steps,
            "robot": self.robot,
            "name": self.name,
            "resumed": self.resumed,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ActResponse:
    """Response to one observation.

    Attributes:
        actions: to execute, one row a control step, in the env's units; None: not asked for.
        log_prob: of the actions as one decision; None: not asked for.
        steps_to_go: d(o, g), in control steps.
        steps_to_go_std: standard deviation of p(k | o, g), in control steps.
        done: d(o, g) <= s; None: no threshold is known.
        infer_ms: time that the models took, in milliseconds.
    """

    actions: Float32[Array, "chunk axes"] | None
    log_prob: float | None
    steps_to_go: float
    steps_to_go_std: float
    done: bool | None
    infer_ms: float

    def to_message(self) -> dict[str, object]:
        """Return the response by openpi's names; what is None is left out."""
        values: dict[str, object] = {
            "actions": self.actions,
            "log_prob": self.log_prob,
            "steps_to_go": self.steps_to_go,
            "steps_to_go_std": self.steps_to_go_std,
            "done": self.done,
            "policy_timing": {"infer_ms": self.infer_ms},
        }
        return {name: value for name, value in values.items() if value is not None}
