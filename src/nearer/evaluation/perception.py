"""How often a vision encoder has an object in the wrong place, while its policy acts.

A position is wrong if it is more than 20 mm off on the table, as the policy is shown it: by the
plane that the model fitted to its demonstrations. Frames are in three groups:

    covered   the effector stands between the object and the camera: within 12 mm of the line of
              sight and 5 to 70 mm in front of the object
    near      within 40 mm of the effector, and not covered
    far       all others

True positions are a simulator's ground truth. Objects are in the order of `LocatesObjects`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from nearer.core.arrays import Array
from nearer.core.intervals import clustered_interval

FIRST, SECOND, EFFECTOR = range(3)
WRONG_M = 0.020
COVERED_SIDEWAYS_M, COVERED_IN_FRONT_M, NEAR_M = 0.012, (0.005, 0.070), 0.040


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedEpisode:
    """Where a vision encoder believed the objects of an episode to be, and where they were.

    Attributes:
        believed: u, v and probability of each object's likeliest position.
        believed_m: the same positions on the table, x and y in metres.
        true_m: true x and y, metres; nan where the instruction names no such object.
        true_image: true u and v.
        camera_m: x and y of the camera.
    """

    seed: int
    instruction: str
    believed: Float32[Array, "obs 3 3"]
    believed_m: Float32[Array, "obs 3 2"]
    true_m: Float64[Array, "obs 3 2"]
    true_image: Float64[Array, "obs 3 2"]
    camera_m: Float64[Array, "2"]

    @property
    def offsets_m(self) -> Float64[Array, "obs 3 2"]:
        """Return believed minus true position."""
        return self.believed_m - self.true_m

    @property
    def errors_m(self) -> Float64[Array, "obs 3"]:
        """Return the distance of believed and true position; nan without an object."""
        return np.linalg.norm(self.offsets_m, axis=-1)

    def names(self, slot: int) -> bool:
        """Tell whether the instruction names such an object."""
        return bool(np.isfinite(self.true_m[0, slot]).all())

    def covered(self, slot: int) -> Bool[Array, "obs"]:
        """Return in which frames the effector stands between an object and the camera."""
        return covered_by_effector(self.true_m[:, slot], self.true_m[:, EFFECTOR], self.camera_m)

    def near(self, slot: int) -> Bool[Array, "obs"]:
        """Return in which frames an object is near the effector, and not covered by it."""
        gaps = np.linalg.norm(self.true_m[:, EFFECTOR] - self.true_m[:, slot], axis=-1)
        return (gaps < NEAR_M) & ~self.covered(slot)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongFrames:
    """In how many frames an object was in the wrong place.

    Attributes:
        wrong: frames with an error above `WRONG_M`.
        frames: all of the group.
        episodes: that these frames are of.
        ci95: 95 % interval of wrong / frames; frames of one episode are not independent.
    """

    wrong: int
    frames: int
    episodes: int
    ci95: tuple[float, float]

    @property
    def value(self) -> float:
        """Return the fraction of the frames; nan without frames."""
        return self.wrong / self.frames if self.frames else np.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectErrors:
    """In how many frames an object was in the wrong place, of all frames and by group.

    Attributes:
        median_mm: median error where it is not wrong; None without such frames.
    """

    all: WrongFrames
    covered: WrongFrames
    near: WrongFrames
    far: WrongFrames
    median_mm: float | None


def object_errors(episodes: Sequence[TrackedEpisode], slot: int) -> ObjectErrors:
    """Return how often one object was in the wrong place, in episodes that name it."""
    episodes = [episode for episode in episodes if episode.names(slot)]
    errors = [episode.errors_m[:, slot] for episode in episodes]
    wrong = [error > WRONG_M for error in errors]
    covered = [episode.covered(slot) for episode in episodes]
    near = [episode.near(slot) for episode in episodes]
    far = [~hidden & ~close for hidden, close in zip(covered, near, strict=True)]
    every = [np.ones_like(flags) for flags in wrong]
    right = np.concatenate([np.zeros(0), *(error[error <= WRONG_M] for error in errors)])
    return ObjectErrors(
        all=_wrong_frames(wrong, every),
        covered=_wrong_frames(wrong, covered),
        near=_wrong_frames(wrong, near),
        far=_wrong_frames(wrong, far),
        median_mm=1e3 * float(np.median(right)) if len(right) else None,
    )


def covered_by_effector(
    positions_m: Float[Array, "obs 2"],
    effector_m: Float[Array, "obs 2"],
    camera_m: Float[Array, "2"],
) -> Bool[Array, "obs"]:
    """Return in which frames the effector stands between an object and the camera."""
    to_camera = camera_m - positions_m
    to_camera = to_camera / np.linalg.norm(to_camera, axis=1, keepdims=True)
    offset = effector_m - positions_m
    in_front = (offset * to_camera).sum(axis=1)
    sideways = np.abs(offset[:, 0] * to_camera[:, 1] - offset[:, 1] * to_camera[:, 0])
    low, high = COVERED_IN_FRONT_M
    return (sideways < COVERED_SIDEWAYS_M) & (in_front >= low) & (in_front <= high)


def _wrong_frames(
    wrong: Sequence[Bool[Array, "obs"]], group: Sequence[Bool[Array, "obs"]]
) -> WrongFrames:
    """Count wrong frames among those of a group, episode by episode."""
    totals = [int(rows.sum()) for rows in group]
    counts = [int(flags[rows].sum()) for flags, rows in zip(wrong, group, strict=True)]
    return WrongFrames(
        wrong=sum(counts),
        frames=sum(totals),
        episodes=sum(total > 0 for total in totals),
        ci95=clustered_interval(counts, totals),
    )
