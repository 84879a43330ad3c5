"""How often a policy's vision encoder has an object in the wrong place, while the policy acts.

    python benchmarks/perception.py --checkpoint RUN [--episodes 200] [--record FILE.npz]

Episodes of the tabletop from trial starts (never the test starts of `nearer eval`, which records
the same rates in perception.json), ended by ground truth. What wrong, covered, near and far mean
stands in `nearer.evaluation.perception`.

Keys: wrong_first, wrong_second (fraction of the frames, of the first and the second object that the
instruction names); the same with _covered, _near and _far (of these frames alone); covered, near
(fraction of the frames, first object); mm_median (first object, where it is not wrong);
mm_between and mm_within (spread of the error between episodes, and within one); frames, episodes,
success. --record keeps encodings, features and true positions, to try trackers on.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.rollout import rollout
from nearer.core.arrays import Array
from nearer.core.episode import Ended, Episode
from nearer.core.seeds import Purpose, episode_seeds
from nearer.core.vision import LocatesObjects, VisionEncoder
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.evaluation.perception import (
    EFFECTOR,
    FIRST,
    SECOND,
    WRONG_M,
    TrackedEpisode,
    object_errors,
)
from nearer.evaluation.perception_recorder import PerceptionRecorder
from nearer.fleets.gym import VectorFleet, make_fleet
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model

ENV_ID = "nearer/TabletopBlock2Block-v0"
TRIAL_SEED = 777
NUM_ENVS, MAX_STEPS = 32, 60


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEpisode:
    """An episode with what was seen and what was there.

    Attributes:
        episode: of the rollout, with the features of every observation.
        tracked: believed and true positions at every observation.
        encodings: of every observation, as the vision encoder returned them.
    """

    episode: Episode
    tracked: TrackedEpisode
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
    result = measure(episodes)
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))


class RecordingEncoder:
    """A vision encoder that keeps the encodings of its calls."""

    def __init__(self, inner: VisionEncoder) -> None:
        self.inner = inner
        self.calls: list[Array] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, images: Any, instructions: Any) -> Array:
        """Return the encodings, and keep them."""
        self.calls.append(self.inner.encode(images, instructions))
        return self.calls[-1]


class EncodingRecorder(PerceptionRecorder):
    """Records the encodings, too."""

    def __init__(self, fleet: VectorFleet, model: Any) -> None:
        self.encoder = RecordingEncoder(model.vision_encoder)
        self.encodings: dict[int, list[Array]] = {}
        super().__init__(fleet, fleet.env, model, self.encoder)

    def _record(self, robots: Array, observed: Any) -> None:
        super()._record(robots, observed)
        for robot, encoding in zip(robots.tolist(), self.encoder.calls.pop(), strict=True):
            self.encodings.setdefault(self._seeds[robot], []).append(encoding)


def act(model: FoundationModel, env: str, episodes: int, seed: int) -> list[SeenEpisode]:
    """Return episodes of the model's policy on trial starts."""
    inner = make_fleet(env, NUM_ENVS)
    assert isinstance(inner, VectorFleet)
    assert isinstance(model, LocatesObjects)
    fleet = EncodingRecorder(inner, model)
    seeds = islice(episode_seeds(Purpose.EVALUATION, seed), episodes)
    rule = GroundTruthTermination(fleet)
    ran = {
        episode.seed: episode
        for episode in rollout(fleet, ModelPolicy(model), rule, seeds=seeds, max_steps=MAX_STEPS)
    }
    fleet.close()
    seen = [
        SeenEpisode(
            episode=ran[tracked.seed],
            tracked=tracked,
            encodings=np.stack(fleet.encodings[tracked.seed]),
        )
        for tracked in fleet.episodes()
    ]
    return sorted(seen, key=lambda each: each.episode.seed)


def measure(seen: list[SeenEpisode]) -> dict[str, float]:
    """Return the keys of the module's docstring."""
    tracked = [each.tracked for each in seen]
    first, second = object_errors(tracked, FIRST), object_errors(tracked, SECOND)
    result: dict[str, float] = {
        "episodes": len(seen),
        "frames": first.all.frames,
        "success": float(np.mean([each.episode.ended is Ended.SUCCESS_TRUE for each in seen])),
    }
    for name, errors in (("first", first), ("second", second)):
        result |= {
            f"wrong_{name}": errors.all.value,
            f"wrong_{name}_covered": errors.covered.value,
            f"wrong_{name}_near": errors.near.value,
            f"wrong_{name}_far": errors.far.value,
        }
    result["covered"] = first.covered.frames / first.all.frames
    result["near"] = first.near.frames / first.all.frames
    result["mm_median"] = np.nan if first.median_mm is None else first.median_mm
    return result | spread(tracked)


def spread(tracked: list[TrackedEpisode]) -> dict[str, float]:
    """Return the spread of the first object's error between episodes, and within one."""
    offsets = [each.offsets_m[each.errors_m[:, FIRST] < WRONG_M, FIRST] for each in tracked]
    offsets = [offset for offset in offsets if len(offset) > 1]
    if not offsets:
        return {}
    means = np.stack([offset.mean(axis=0) for offset in offsets])
    within = np.concatenate([offset - offset.mean(axis=0) for offset in offsets])
    return {
        "mm_between": 1e3 * float(np.sqrt((means**2).sum(axis=1).mean())),
        "mm_within": 1e3 * float(np.sqrt((within**2).sum(axis=1).mean())),
    }


def record(path: Path, seen: list[SeenEpisode], model: Any) -> None:
    """Write what trackers are tried on, one episode's frames after another's."""
    np.savez(
        path,
        lengths=[len(each.encodings) for each in seen],
        instructions=[each.episode.instruction for each in seen],
        objects=np.concatenate([each.tracked.true_m[:, :EFFECTOR] for each in seen]),
        effector=np.concatenate([each.tracked.true_m[:, EFFECTOR] for each in seen]),
        encodings=np.concatenate([each.encodings for each in seen]),
        features=np.concatenate([each.episode.observations.features for each in seen]),
        plane=model.planar_features.plane.numpy(),
    )


if __name__ == "__main__":
    main()
