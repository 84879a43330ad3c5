"""How often a policy's vision encoder has an object in the wrong place, while the policy acts.

    python benchmarks/perception.py --checkpoint RUN [--episodes 200] [--record FILE.npz]

Episodes of the tabletop from trial starts (never the test starts of `nearer eval`), ended by ground
truth. A position is wrong if it is more than 20 mm off on the board, as the policy is shown it: by
the plane that the model fitted to its demonstrations. An object is covered where the effector
stands between it and the camera: within 12 mm of the line of sight and 5 to 70 mm in front. Near:
within 40 mm of the effector, and not covered.

Keys: wrong_first, wrong_second (fraction of the frames, of the first and the second object that the
instruction names); the same with _covered, _near and _far (of these frames alone); covered, near
(fraction of the frames, first object); mm_median (first object, where it is not wrong);
mm_between and mm_within (spread of the error between episodes, and within one); frames, episodes,
success. --record keeps encodings, features and true positions, to try trackers on.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.rollout import rollout
from nearer.core.arrays import Array
from nearer.core.episode import Ended, Episode
from nearer.core.interfaces import Sensed, Starts
from nearer.core.seeds import Purpose, episode_seeds
from nearer.core.vision import VisionEncoder
from nearer.envs.tabletop.appearance import APPEARANCES
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.fleets.encoded import encoded
from nearer.fleets.gym import VectorFleet, make_fleet
from nearer.fleets.wrapper import FleetWrapper
from nearer.models.factory import build_model
from nearer.models.planar_features import to_plane
from nearer.runs.checkpoint import load_model

ENV_ID = "nearer/TabletopBlock2Block-v0"
TRIAL_SEED = 777
NUM_ENVS, MAX_STEPS = 32, 60
WRONG_M = 0.020
COVERED_SIDEWAYS_M, COVERED_IN_FRONT_M, NEAR_M = 0.012, (0.005, 0.070), 0.040


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEpisode:
    """An episode with what was seen and what was there.

    Attributes:
        episode: of the rollout, with the features of every observation.
        objects: true x, y of the first and the second named object, metres.
        effector: true x, y.
        encodings: of every observation, as the vision encoder returned them.
    """

    episode: Episode
    objects: Array
    effector: Array
    encodings: Array


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--link", default="policy", help="policy or last")
    parser.add_argument("--env", default=ENV_ID)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=TRIAL_SEED)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.checkpoint, build_model, options.link)
    episodes = act(model, options.env, options.episodes, options.seed)
    if options.record:
        record(options.record, episodes, model)
    camera = APPEARANCES["real" if "Real" in options.env else "sim"].camera.position_m
    result = measure(episodes, model, np.array(camera[:2]))
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))


class RecordingEncoder:
    """A vision encoder that keeps the encodings of its last call."""

    def __init__(self, inner: VisionEncoder) -> None:
        self.inner = inner
        self.last = np.zeros((0, inner.encoding_width), np.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, images: Any, instructions: Any) -> Array:
        """Return the encodings, and keep them."""
        self.last = self.inner.encode(images, instructions)
        return self.last


class RecordingFleet(FleetWrapper):
    """A fleet that records true layouts and encodings at every observation, by episode seed."""

    def __init__(self, fleet: VectorFleet, encoder: RecordingEncoder) -> None:
        super().__init__(encoded(fleet, cast(VisionEncoder, encoder)))
        self._env, self._encoder = fleet.env, encoder
        self._seeds: dict[int, int] = {}
        self.objects: dict[int, list[Array]] = {}
        self.effector: dict[int, list[Array]] = {}
        self.encodings: dict[int, list[Array]] = {}

    def reset(self, robots: Array, seeds: Sequence[int]) -> Starts:
        """Reset the fleet's robots and start a record for each."""
        starts = super().reset(robots, seeds)
        for robot, seed in zip(robots.tolist(), seeds, strict=True):
            self._seeds[robot] = seed
            self.objects[seed], self.effector[seed], self.encodings[seed] = [], [], []
        self._record(robots)
        return starts

    def step(self, robots: Array, actions: Array) -> Sensed:
        """Step the fleet's robots and record."""
        sensed = super().step(robots, actions)
        self._record(robots)
        return sensed

    def _record(self, robots: Array) -> None:
        layouts, tasks = self._env.layouts(robots), self._env.tasks(robots)
        rows = zip(robots.tolist(), layouts, tasks, self._encoder.last, strict=True)
        for robot, layout, task, encoding in rows:
            seed = self._seeds[robot]
            self.objects[seed].append(np.stack([layout.position(b) for b in task.blocks[:2]]))
            self.effector[seed].append(layout.effector.copy())
            self.encodings[seed].append(encoding)


def act(model: FoundationModel, env: str, episodes: int, seed: int) -> list[SeenEpisode]:
    """Return episodes of the model's policy on trial starts."""
    inner = make_fleet(env, NUM_ENVS)
    assert isinstance(inner, VectorFleet)
    assert model.vision_encoder
    fleet = RecordingFleet(inner, RecordingEncoder(model.vision_encoder))
    seeds = islice(episode_seeds(Purpose.EVALUATION, seed), episodes)
    seen = [
        SeenEpisode(
            episode=episode,
            objects=np.stack(fleet.objects[episode.seed]),
            effector=np.stack(fleet.effector[episode.seed]),
            encodings=np.stack(fleet.encodings[episode.seed]),
        )
        for episode in rollout(
            fleet,
            ModelPolicy(model),
            GroundTruthTermination(fleet),
            seeds=seeds,
            max_steps=MAX_STEPS,
        )
    ]
    fleet.close()
    return sorted(seen, key=lambda each: each.episode.seed)


def measure(seen: list[SeenEpisode], model: Any, camera: Array) -> dict[str, float]:
    """Return the keys of the module's docstring."""
    result: dict[str, float] = {
        "episodes": len(seen),
        "frames": sum(len(each.objects) for each in seen),
        "success": float(np.mean([each.episode.ended is Ended.SUCCESS_TRUE for each in seen])),
    }
    for slot, name in enumerate(("first", "second")):
        offsets = [positions(each, model)[:, slot] - each.objects[:, slot] for each in seen]
        errors = np.concatenate([np.linalg.norm(offset, axis=1) for offset in offsets])
        wrong = errors > WRONG_M
        hidden = np.concatenate([covered(each, slot, camera) for each in seen])
        gaps = np.concatenate(
            [np.linalg.norm(each.effector - each.objects[:, slot], axis=1) for each in seen]
        )
        near = (gaps < NEAR_M) & ~hidden
        groups = {
            "": np.ones_like(hidden),
            "_covered": hidden,
            "_near": near,
            "_far": ~hidden & ~near,
        }
        for group, rows in groups.items():
            result[f"wrong_{name}{group}"] = float(wrong[rows].mean())
        if slot == 0:
            right = [offset[np.linalg.norm(offset, axis=1) < WRONG_M] for offset in offsets]
            right = [offset for offset in right if len(offset) > 1]
            result["covered"], result["near"] = float(hidden.mean()), float(near.mean())
            result["mm_median"] = 1e3 * float(np.median(errors[~wrong]))
            if not right:
                continue
            means = np.stack([offset.mean(axis=0) for offset in right])
            result["mm_between"] = 1e3 * float(np.sqrt((means**2).sum(axis=1).mean()))
            within = np.concatenate([offset - offset.mean(axis=0) for offset in right])
            result["mm_within"] = 1e3 * float(np.sqrt((within**2).sum(axis=1).mean()))
    return result


def positions(seen: SeenEpisode, model: Any) -> Array:
    """Return x, y of the two named objects as the policy is shown them."""
    beliefs = seen.episode.observations.features.reshape(len(seen.objects), 3, -1, 3)
    likeliest = torch.from_numpy(beliefs[:, :2, 0, :2].copy())
    return to_plane(model.planar_features.plane, likeliest).numpy()


def covered(seen: SeenEpisode, slot: int, camera: Array) -> Array:
    """Return in which frames the effector stands between an object and the camera."""
    to_camera = camera - seen.objects[:, slot]
    to_camera = to_camera / np.linalg.norm(to_camera, axis=1, keepdims=True)
    offset = seen.effector - seen.objects[:, slot]
    in_front = (offset * to_camera).sum(axis=1)
    sideways = np.abs(offset[:, 0] * to_camera[:, 1] - offset[:, 1] * to_camera[:, 0])
    low, high = COVERED_IN_FRONT_M
    return (sideways < COVERED_SIDEWAYS_M) & (in_front >= low) & (in_front <= high)


def record(path: Path, seen: list[SeenEpisode], model: Any) -> None:
    """Write what trackers are tried on, one episode's frames after another's."""
    np.savez(
        path,
        lengths=[len(each.objects) for each in seen],
        instructions=[each.episode.instruction for each in seen],
        objects=np.concatenate([each.objects for each in seen]),
        effector=np.concatenate([each.effector for each in seen]),
        encodings=np.concatenate([each.encodings for each in seen]),
        features=np.concatenate([each.episode.observations.features for each in seen]),
        plane=model.planar_features.plane.numpy(),
    )


if __name__ == "__main__":
    main()
