"""The built-in model's vision encoder: the pointing tower behind one camera, and its training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.spaces import Camera
from nearer.core.vision import Clips, Decisions
from nearer.models.parallel import frames_in_parts, parallel_map
from nearer.models.pointing.frame_training import trainable_parameters
from nearer.models.pointing.objective_training import DecidedFrames, train_through_objectives
from nearer.models.pointing.self_training import (
    PseudoLabels,
    adapt,
    draw_probabilities,
    path_targets,
)
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower
from nearer.models.pointing.tracking import NUM_HYPOTHESES, NUM_PEAKS, track, two_peaks
from nearer.models.pointing.weights import LITE0, load_pointing
from nearer.models.settings import SelfTrainingConfig
from nearer.runs.checkpoint import weights_hash

PEAK_WIDTH = 3
"""u, v and probability of a position."""
_FRAMES_READ_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class CameraVisionEncoder:
    """The frozen pointing tower behind one camera: where the objects of an instruction are.

    Images are encoded on the device where the tower lies; encodings are returned on the CPU.
    """

    tower: PointingTower
    camera: Camera
    self_training: SelfTrainingConfig = field(default_factory=SelfTrainingConfig)

    @property
    def identity(self) -> str:
        """Return a name of the encoder's function, with a hash of its weights and its camera."""
        return f"{self.camera}-{weights_hash(self.tower)}"

    @property
    def encoding_width(self) -> int:
        """Return the width of an encoding: two peaks an object."""
        return NUM_SLOTS * NUM_PEAKS * PEAK_WIDTH

    @property
    def width(self) -> int:
        """Return the number of features of a frame: a few hypotheses an object."""
        return NUM_SLOTS * NUM_HYPOTHESES * PEAK_WIDTH

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> Float32[Array, "frames encoding"]:
        """Return u, v and probability of the two likeliest positions of every named object."""
        candidates = [(instruction,) for instruction in instructions]
        return self.encode_for_each(images, candidates)[:, 0]

    def encode_for_each(
        self,
        images: Mapping[str, UInt8[Array, "frames h w c"]],
        candidates: Sequence[Sequence[str]],
    ) -> Float32[Array, "frames candidates encoding"]:
        """Return the encoding of each frame for every candidate instruction.

        The keys of a frame are computed once and shared by its candidates.
        """
        device = next(self.tower.parameters()).device
        frames = torch.from_numpy(images[self.camera.name]).to(device)
        queries = torch.stack([self.tower.cached_queries(sentences) for sentences in candidates])

        def encode(rows: slice) -> Tensor:
            with torch.inference_mode():
                logits = self.tower.attend(frames[rows], queries[rows])
                return two_peaks(logits.flatten(0, 1).cpu())

        encodings = torch.cat(parallel_map(encode, frames_in_parts(len(frames), device)))
        return encodings.reshape(*queries.shape[:2], self.encoding_width).numpy()

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: Float32[Array, "robots encoding"],
    ) -> Float32[Array, "robots features"]:
        """Return u, v and probability of every object's hypotheses, the likeliest first."""
        candidates = encodings.reshape(-1, NUM_SLOTS, NUM_PEAKS, PEAK_WIDTH)
        shape = (-1, NUM_SLOTS, NUM_HYPOTHESES, PEAK_WIDTH)
        belief = None if before is None else before.reshape(shape)
        return track(belief, candidates, self._aspect).reshape(len(encodings), self.width)

    @property
    def learning_identity(self) -> str:
        """Return a name of what `learn` makes of the same clips."""
        return f"{self.identity}-{self.teacher().identity}-{self.self_training}"

    @property
    def other_instructions(self) -> int:
        """Return how many instructions of other episodes `learn` uses an episode."""
        return self.self_training.other_instructions

    def teacher(self) -> "CameraVisionEncoder":
        """Return the larger pretrained encoder behind the same camera, or this one."""
        if self.self_training.teacher == "itself" or self.tower.config.network == "lite0":
            return self
        return replace(self, tower=load_pointing(LITE0).to(self.tower.log_sharpness.device))

    def weights(self) -> Float32[Array, "weights"]:
        """Return the trainable weights as one vector."""
        parts = [weight.detach().reshape(-1) for weight in trainable_parameters(self.tower)]
        return torch.cat(parts).cpu().numpy()

    def take(self, weights: Float32[Array, "weights"]) -> None:
        """Replace the trainable weights, in place."""
        start = 0
        with torch.no_grad():
            for weight in trainable_parameters(self.tower):
                part = weights[start : start + weight.numel()]
                weight.copy_(torch.from_numpy(part).view(weight.shape))
                start += weight.numel()

    def learn(
        self,
        clips: Clips,
        encodings: Float32[Array, "frames instructions encoding"],
        updates: int,
        rng: np.random.Generator,
        on_progress: ProgressCallback = ignore_progress,
    ) -> None:
        """Train, in place, on pseudo-labels: where each object was in an episode, with hindsight.

        An encoder that is sure of no object, such as one without pretraining, stays as it is.

        Args:
            clips: episodes.
            encodings: of their frames, by its teacher.
            updates: gradient updates.
            rng: draws the minibatches.
            on_progress: is called after every update.
        """
        settings = self.self_training
        images = clips.images[self.camera.name]
        sentences = clips.instructions_of_frames()
        rounds = min(settings.rounds, updates)
        for number in range(rounds):
            if number:
                encodings = self._encode_rows(images, clips.rows, sentences, on_progress)
            targets = path_targets(
                encodings.reshape(*encodings.shape[:2], NUM_SLOTS, NUM_PEAKS, PEAK_WIDTH),
                clips.episode_lengths,
                self._aspect,
                settings.min_confidence,
            )
            if not targets[..., 2].any():
                return
            labels = PseudoLabels(
                images=images,
                frames=clips.rows,
                sentences=sentences,
                targets=targets,
                drawn=draw_probabilities(targets, self._aspect, settings.occluded_weight),
            )
            before, after = updates * number // rounds, updates * (number + 1) // rounds
            of_all_rounds = partial(_counted_from, before, updates, on_progress)
            adapt(self.tower, labels, settings, after - before, rng, of_all_rounds)

    def learn_through_objectives(
        self,
        clips: Clips,
        decisions: Decisions,
        updates: int,
        rng: np.random.Generator,
        on_progress: ProgressCallback = ignore_progress,
    ) -> None:
        """Train, in place, by behavioural cloning and steps-to-go prediction."""
        frames = DecidedFrames(
            images=clips.images[self.camera.name],
            frames=clips.rows,
            sentences=[own for own, *_ in clips.instructions_of_frames()],
            decisions=decisions,
        )
        train_through_objectives(self.tower, frames, self.self_training, updates, rng, on_progress)

    def _encode_rows(
        self,
        images: UInt8[Array, "all_frames h w 3"],
        rows: Int64[Array, "frames"],
        sentences: Sequence[Sequence[str]],
        on_progress: ProgressCallback,
    ) -> Float32[Array, "frames sentences encoding"]:
        encodings: list[Float32[Array, "part sentences encoding"]] = []
        for first in range(0, len(rows), _FRAMES_READ_AT_ONCE):
            on_progress(Progress(stage="encoding images", done=first, total=len(rows)))
            part = slice(first, first + _FRAMES_READ_AT_ONCE)
            frames = {self.camera.name: images[rows[part]]}
            encodings.append(self.encode_for_each(frames, sentences[part]))
        return np.concatenate(encodings)

    @property
    def _aspect(self) -> float:
        return self.camera.width / self.camera.height


def _counted_from(
    before: int, total: int, on_progress: ProgressCallback, progress: Progress
) -> None:
    """Report the progress of a part that `before` updates of the total came before."""
    on_progress(replace(progress, done=before + progress.done, total=total))
