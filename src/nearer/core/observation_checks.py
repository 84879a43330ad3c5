"""Observations that a program of one's own hands to a model, checked before the model sees them."""

from collections.abc import Sequence

import numpy as np

from nearer.core.arrays import Array
from nearer.core.episode import Observation
from nearer.core.errors import EnvError
from nearer.core.spaces import Camera, Spaces


def as_rows(observation: Observation) -> Observation:
    """Return an observation with one leading axis, arrays contiguous and of the model's types.

    Args:
        observation: of one instant, or of several with a leading axis.
    """
    batch = () if np.ndim(observation.agent_pos) > 1 else (None,)

    def numbers(values: Array) -> Array:
        # Writable and contiguous, as torch.from_numpy wants it.
        return np.require(np.asarray(values)[batch], np.float32, ["C", "W"])

    return Observation(
        agent_pos=numbers(observation.agent_pos),
        environment_state=numbers(observation.environment_state),
        images={
            camera: np.require(np.asarray(image)[batch], requirements=["C", "W"])
            for camera, image in observation.images.items()
        },
    )


def check_observation(
    observation: Observation, spaces: Spaces, cameras: Sequence[Camera] = ()
) -> None:
    """Raise EnvError unless an observation has the sizes that a model was trained with.

    Args:
        observation: one row or more.
        spaces: of the model.
        cameras: whose images the model reads; others may be missing.
    """
    rows = len(observation.agent_pos)
    for name, width, values in (
        ("agent_pos", spaces.agent_pos, observation.agent_pos),
        ("environment_state", spaces.environment_state, observation.environment_state),
    ):
        if values.shape != (rows, width):
            raise EnvError(
                f"an observation must have {width} numbers as {name}, as the model was trained "
                f"with, got shape {values.shape[1:]} in {len(values)} of {rows} rows; pass what "
                "the demonstrations had"
            )
        if not np.isfinite(values).all():
            raise EnvError(f"{name} must be finite, got nan or inf; check the sensor")
    for name, height, width in cameras:
        image = observation.images.get(name)
        got = "none" if image is None else f"{image.dtype} of shape {image.shape}"
        if got != f"uint8 of shape {(rows, height, width, 3)}":
            raise EnvError(
                f"an observation must have the image {name}, uint8 RGB of shape "
                f"{(rows, height, width, 3)}, as the model was trained with, got {got}; resize and "
                "convert it"
            )
