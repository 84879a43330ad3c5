"""What a vision encoder saw, made up by hand."""

from collections.abc import Sequence

import numpy as np

from nearer.core.arrays import Array
from nearer.evaluation.perception import FIRST, TrackedEpisode, object_errors
from nearer.evaluation.perception_document import (
    BelievedPoint,
    LocatedObject,
    Perception,
    PerceptionFrame,
    TruePoint,
)

HEIGHT, WIDTH = 12, 16


def tracked(
    off_m: Sequence[float], *, effector: Sequence[Sequence[float]] | None = None, seed: int = 0
) -> TrackedEpisode:
    """Return an episode with one named object, at x = 0.3 m.

    Args:
        off_m: how far beside it the object is believed to be, an entry an observation.
        effector: x, y; far away without it.
        seed: of the episode.
    """
    frames = len(off_m)
    true = np.full((frames, 3, 2), np.nan)
    true[:, 0], true[:, 2] = (0.3, 0.0), (0.5, 0.3)
    if effector is not None:
        true[:, 2] = effector
    believed_m = np.nan_to_num(true).astype(np.float32)
    believed_m[:, 0, 1] += np.array(off_m, np.float32)
    return TrackedEpisode(
        seed=seed,
        instruction="point to the red moon",
        believed=np.full((frames, 3, 3), 0.5, np.float32),
        believed_m=believed_m,
        true_m=true,
        true_image=np.full((frames, 3, 2), 0.5),
        camera_m=np.array([1.0, 0.0]),
    )


def perception_of(frames: int, *, instruction: str = "push the red moon") -> Perception:
    """Return an evaluation's perception with so many frames, of which the last is the worst."""
    located = LocatedObject(
        believed=BelievedPoint(0.25, 0.5, 0.9), true=TruePoint(0.5, 0.5), error_mm=30.0
    )
    return Perception(
        env="nearer/TabletopPoint-v0",
        episodes=1,
        first=object_errors([tracked([0.0, 0.03])], FIRST),
        second=object_errors([], FIRST),
        height=HEIGHT,
        width=WIDTH,
        frames=tuple(
            PerceptionFrame(
                seed=1,
                instruction=instruction,
                step=step,
                rule="largest error" if step == frames - 1 else "evenly spaced",
                objects=(located, None, located),
            )
            for step in range(frames)
        ),
    )


def frame_images(count: int) -> list[Array]:
    """Return images of one colour each."""
    return [np.full((HEIGHT, WIDTH, 3), 10 * index, np.uint8) for index in range(count)]
