"""A fleet that records where its vision encoder sees the objects, and where they are.

True positions are read here and reach nothing but perception.json; the policy gets what it always
gets. Of the images a few frames are kept, chosen by rule:

    evenly spaced   of each of the first EVEN_EPISODES episodes EVEN_FRAMES, from the first
                    observation to the last
    largest error   of the WORST_EPISODES episodes in which an object was furthest from where it
                    was believed to be, the frame of that error
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from nearer.algorithm.model import FoundationModel
from nearer.core.arrays import Array
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Fleet, KnowsTruePositions, Sensed, Starts, TruePositions
from nearer.core.vision import LocatesObjects, VisionEncoder
from nearer.evaluation.perception import FIRST, SECOND, TrackedEpisode, object_errors
from nearer.evaluation.perception_document import (
    BelievedPoint,
    LocatedObject,
    Perception,
    PerceptionFrame,
    TruePoint,
)
from nearer.fleets.encoded import encoded
from nearer.fleets.gym import VectorFleet
from nearer.fleets.wrapper import FleetWrapper

EVEN_EPISODES, EVEN_FRAMES, WORST_EPISODES = 2, 3, 6

Image = UInt8[Array, "h w 3"]


def perception_recorder(fleet: Fleet, model: FoundationModel) -> "PerceptionRecorder | None":
    """Return the fleet with encoded observations, recorded.

    None where there is nothing to compare: the env does not know where its objects are, or the
    model does not say where it sees them.

    Args:
        fleet: robots with cameras, not encoded yet.
        model: whose vision encoder encodes the images.
    """
    env = fleet.env if isinstance(fleet, VectorFleet) else None
    encoder = model.vision_encoder
    if encoder is None or not isinstance(env, KnowsTruePositions):
        return None
    if not isinstance(model, LocatesObjects) or not model.maps_to_plane:
        return None
    return PerceptionRecorder(fleet, env, model, encoder)


class PerceptionRecorder(FleetWrapper):
    """A fleet with encoded observations that records believed and true positions."""

    def __init__(
        self, fleet: Fleet, env: KnowsTruePositions, model: LocatesObjects, encoder: VisionEncoder
    ) -> None:
        self._unencoded = _LastImages(fleet)
        super().__init__(encoded(self._unencoded, encoder))
        self._env, self._model = env, model
        self._seeds: dict[int, int] = {}
        self._records: dict[int, _Record] = {}  # by seed, in the order of the starts
        self._worst: dict[int, _WorstFrame] = {}  # by seed

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots and start a record for each."""
        starts = super().reset(robots, seeds)
        for robot, seed, instruction in zip(
            robots.tolist(), seeds, starts.instructions, strict=True
        ):
            keeps_images = len(self._records) < EVEN_EPISODES
            self._seeds[robot] = seed
            self._records[seed] = _Record(instruction=instruction, keeps_images=keeps_images)
        self._record(robots, starts.observation)
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Step the fleet's robots and record."""
        sensed = super().step(robots, actions)
        self._record(robots, sensed.observation)
        return sensed

    def episodes(self) -> list[TrackedEpisode]:
        """Return what was recorded, in the order of the starts."""
        return [record.episode(seed, self._model) for seed, record in self._records.items()]

    def perception(self, env: str) -> tuple[Perception, list[Image]]:
        """Return the rates, and the frames that were kept with their images.

        Args:
            env: its id.
        """
        episodes = self.episodes()
        chosen = [*self._even_frames(), *self._worst_frames()]
        by_seed = {episode.seed: episode for episode in episodes}
        height, width, _ = chosen[0].image.shape
        perception = Perception(
            env=env,
            episodes=len(episodes),
            first=object_errors(episodes, FIRST),
            second=object_errors(episodes, SECOND),
            height=height,
            width=width,
            frames=tuple(frame.described(by_seed[frame.seed]) for frame in chosen),
        )
        return perception, [frame.image for frame in chosen]

    def _even_frames(self) -> list["_ChosenFrame"]:
        frames: list[_ChosenFrame] = []
        for seed, record in list(self._records.items())[:EVEN_EPISODES]:
            last = len(record.images) - 1
            steps = np.unique(np.linspace(0, last, EVEN_FRAMES).round().astype(np.int64))
            for step in map(int, steps):
                image = record.images[step]
                frames.append(_ChosenFrame(seed=seed, step=step, rule="evenly spaced", image=image))
        return frames

    def _worst_frames(self) -> list["_ChosenFrame"]:
        worst = sorted(self._worst.items(), key=lambda item: -item[1].error_m)
        return [
            _ChosenFrame(seed=seed, step=frame.step, rule="largest error", image=frame.image)
            for seed, frame in worst
        ]

    def _record(
        self, robots: Int64[Array, "robots"], observed: Observation | EncodedObservation
    ) -> None:
        assert isinstance(observed, EncodedObservation), "the fleet inside encodes"
        true = self._env.true_positions(robots)
        believed = self._model.located(observed.features)
        offsets_m = self._model.in_plane(believed[..., :2].copy()) - true.plane_m
        named = np.linalg.norm(offsets_m[:, [FIRST, SECOND]], axis=-1)
        errors_m = np.where(np.isfinite(named), named, 0.0).max(axis=1)
        for row, robot in enumerate(robots.tolist()):
            seed = self._seeds[robot]
            record = self._records[seed]
            record.add(believed[row], true, row)
            image = self._unencoded.images[row]
            if record.keeps_images:
                record.images.append(image.copy())
            self._keep_if_worst(seed, len(record.believed) - 1, float(errors_m[row]), image)

    def _keep_if_worst(self, seed: int, step: int, error_m: float, image: Image) -> None:
        """Keep the frame of an episode's largest error, for the episodes with the largest ones."""
        before = self._worst.get(seed)
        smallest = min((frame.error_m for frame in self._worst.values()), default=0.0)
        is_full = len(self._worst) == WORST_EPISODES
        if (before and error_m <= before.error_m) or (is_full and error_m <= smallest):
            return
        if is_full and not before:
            del self._worst[min(self._worst, key=lambda other: self._worst[other].error_m)]
        self._worst[seed] = _WorstFrame(step=step, error_m=error_m, image=image.copy())


class _LastImages(FleetWrapper):
    """A fleet that keeps the images of its last observation, of the first camera."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self.images: UInt8[Array, "robots h w 3"] = np.zeros((0, 0, 0, 3), np.uint8)

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        starts = super().reset(robots, seeds)
        self._keep(starts.observation)
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        sensed = super().step(robots, actions)
        self._keep(sensed.observation)
        return sensed

    def _keep(self, observed: Observation | EncodedObservation) -> None:
        assert isinstance(observed, Observation), "images are encoded once"
        images: Mapping[str, Array] = observed.images
        self.images = images[self.spaces.cameras[0].name]


class _Record:
    """What is recorded of an episode, an entry an observation."""

    def __init__(self, *, instruction: str, keeps_images: bool) -> None:
        self.instruction = instruction
        self.keeps_images = keeps_images
        self.believed: list[Float32[Array, "3 3"]] = []
        self.true_m: list[Float[Array, "3 2"]] = []
        self.true_image: list[Float[Array, "3 2"]] = []
        self.camera_m = np.zeros(2)
        self.images: list[Image] = []

    def add(self, believed: Float32[Array, "3 3"], true: TruePositions, row: int) -> None:
        self.believed.append(believed)
        self.true_m.append(true.plane_m[row])
        self.true_image.append(true.image[row])
        self.camera_m = true.camera_m

    def episode(self, seed: int, model: LocatesObjects) -> TrackedEpisode:
        believed = np.stack(self.believed)
        return TrackedEpisode(
            seed=seed,
            instruction=self.instruction,
            believed=believed,
            believed_m=model.in_plane(believed[..., :2].copy()),
            true_m=np.stack(self.true_m),
            true_image=np.stack(self.true_image),
            camera_m=self.camera_m,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _WorstFrame:
    step: int
    error_m: float
    image: Image


@dataclass(frozen=True, slots=True, kw_only=True)
class _ChosenFrame:
    seed: int
    step: int
    rule: Literal["evenly spaced", "largest error"]
    image: Image

    def described(self, episode: TrackedEpisode) -> PerceptionFrame:
        first, second, effector = (_located(episode, self.step, slot) for slot in range(3))
        return PerceptionFrame(
            seed=self.seed,
            instruction=episode.instruction,
            step=self.step,
            rule=self.rule,
            objects=(first, second, effector),
        )


def _located(episode: TrackedEpisode, step: int, slot: int) -> LocatedObject | None:
    """Return an object of a frame; None where the instruction names no such."""
    if not episode.names(slot):
        return None
    return LocatedObject(
        believed=BelievedPoint(*map(float, episode.believed[step, slot])),
        true=TruePoint(*map(float, episode.true_image[step, slot])),
        error_mm=1e3 * float(episode.errors_m[step, slot]),
    )
