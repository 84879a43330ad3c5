"""The built-in foundation model: a pretrained pointing encoder, an action head, a steps-to-go head.

    images, instruction --frozen vision encoder--> positions of the named objects --+
    instruction --bag of words------------------------------------------------------+--> actions
    proprioception -----------------------------------------------------------------+--> steps-to-go

The vision encoder (`nearer.models.pointing`) was pretrained jointly on images and language. Before
Stage 1 it may learn from the demonstrations' frames, by pseudo-labels (self-training); then it is
frozen for good, and its encoding of a frame is computed once and cached (`Inputs.features`).
Actions and steps-to-go have a separate network each, as in the authors' notebook. The optional
instruction-matching objective of Stage 1 reads the hidden units of both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor, nn

from nearer.algorithm.action_tokens import ActionTokens, action_units, draw_tokens
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.algorithm.steps_to_go import StepsToGoBins
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Rngs
from nearer.core.spaces import Camera, Spaces
from nearer.core.vision import Clips, VisionEncoder
from nearer.models.parallel import parallel_map
from nearer.models.planar_features import PlanarFeatures, to_plane
from nearer.models.pointing.self_training import (
    PseudoLabels,
    adapt,
    draw_probabilities,
    path_targets,
    trainable_parameters,
)
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower
from nearer.models.pointing.tracking import NUM_HYPOTHESES, NUM_PEAKS, track, two_peaks
from nearer.models.pointing.weights import LITE0, load_pointing
from nearer.models.settings import SelfTrainingConfig, SmallVLAConfig
from nearer.runs.checkpoint import weights_hash

_TOKEN_WIDTH = 16
_FRAMES_PER_PART = 4  # larger batches leave the processor's cache: 16 took 1.3 times as long
_FRAMES_PER_PART_ON_DEVICE = 256  # an accelerator needs many frames at once to be busy
_FRAMES_READ_AT_ONCE = 1024
_PEAK_WIDTH = 3  # u, v and probability


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
        return NUM_SLOTS * NUM_PEAKS * _PEAK_WIDTH

    @property
    def width(self) -> int:
        """Return the number of features of a frame: a few hypotheses an object."""
        return NUM_SLOTS * NUM_HYPOTHESES * _PEAK_WIDTH

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

        size = _FRAMES_PER_PART if device.type == "cpu" else _FRAMES_PER_PART_ON_DEVICE
        starts = range(0, len(frames), size)
        parts = [slice(start, start + size) for start in starts]
        encodings = torch.cat(parallel_map(encode, parts))
        return encodings.reshape(*queries.shape[:2], self.encoding_width).numpy()

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: Float32[Array, "robots encoding"],
    ) -> Float32[Array, "robots features"]:
        """Return u, v and probability of every object's hypotheses, the likeliest first."""
        candidates = encodings.reshape(-1, NUM_SLOTS, NUM_PEAKS, _PEAK_WIDTH)
        shape = (-1, NUM_SLOTS, NUM_HYPOTHESES, _PEAK_WIDTH)
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
        updates: int,
        rng: np.random.Generator,
        on_progress: ProgressCallback = ignore_progress,
    ) -> None:
        """Train, in place, on pseudo-labels: where each object was in an episode, with hindsight.

        An encoder that is sure of no object, such as one without pretraining, stays as it is.

        Args:
            clips: episodes, with the encodings of its teacher.
            updates: gradient updates.
            rng: draws the minibatches.
            on_progress: is called after every update.
        """
        settings = self.self_training
        images = clips.images[self.camera.name]
        sentences = [
            instructions
            for instructions, length in zip(clips.instructions, clips.episode_lengths, strict=True)
            for _ in range(length)
        ]
        encodings = clips.encodings
        rounds = min(settings.rounds, updates)
        for number in range(rounds):
            if number:
                encodings = self._encode_rows(images, clips.rows, sentences, on_progress)
            targets = path_targets(
                encodings.reshape(*encodings.shape[:2], NUM_SLOTS, NUM_PEAKS, _PEAK_WIDTH),
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


class ActionHead(nn.Module):
    """Autoregressive head over the axes of an action, one categorical token an axis."""

    def __init__(self, hidden: int, axes: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        # One table for all axes but the last: row token + tokens * axis.
        self.embedding = nn.Embedding(tokens * max(1, axes - 1), _TOKEN_WIDTH)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Linear(hidden + axis * _TOKEN_WIDTH, hidden // 2),
                nn.ReLU(),
                nn.Linear(hidden // 2, tokens),
            )
            for axis in range(axes)
        )

    def forward(
        self, trunk: Float[Tensor, "samples hidden"], before: Sequence[Tensor], axis: int
    ) -> Float[Tensor, "samples tokens"]:
        """Return log p(token of this axis | observation, instruction, tokens before).

        Args:
            trunk: hidden units of the action network.
            before: the token of each axis before this one.
            axis: which axis.
        """
        embedded = [self.embedding(token + self.tokens * i) for i, token in enumerate(before)]
        return self.heads[axis](torch.cat([trunk, *embedded], dim=1)).log_softmax(dim=1)


def words_of(instructions: Sequence[str]) -> tuple[str, ...]:
    """Return every word of these instructions, in alphabetical order."""
    return tuple(sorted({word for instruction in instructions for word in instruction.split()}))


class SmallVLA(FoundationModel):
    """Action tokens, one axis after the other, and a categorical distribution over steps-to-go.

    The frozen tower's weights are part of the model, so a checkpoint is complete.

    Args:
        config: sizes.
        spaces: of the robot; the first camera is used.
        words: every word that instructions may hold, in order.
        tower: pretrained, from `load_pointing`; only `CameraVisionEncoder.learn` trains it.

    Raises:
        ConfigError: there is no camera.
    """

    normalisation = (
        "planar_features.plane",
        "planar_features.near",
        "planar_features.mean",
        "planar_features.std",
        "tokens.units",
    )

    def __init__(
        self,
        config: SmallVLAConfig,
        spaces: Spaces,
        words: Sequence[str],
        tower: PointingTower,
    ) -> None:
        super().__init__()
        if not spaces.cameras:
            raise ConfigError(
                "--model small-vla must have images to look at, got a robot without a camera; "
                "pass --model mlp for states"
            )
        self.sizes = config
        self.spaces = spaces
        self.bins = StepsToGoBins(count=config.num_bins, width_steps=config.steps_per_bin)
        self.tower = tower.requires_grad_(False)
        self.words = tuple(words)
        self.tokens = ActionTokens(torch.ones(spaces.action), config.action_levels)
        state = spaces.agent_pos + spaces.environment_state
        self.planar_features = PlanarFeatures(state, config.max_deviation)
        self.action_words = nn.EmbeddingBag(len(words), config.word_width)
        self.steps_words = nn.EmbeddingBag(len(words), config.word_width)
        width = self.planar_features.num_inputs + config.word_width
        self.action_trunk = two_layers(width, config.hidden, config.dropout)
        self.steps_trunk = two_layers(width, config.hidden, config.dropout)
        self.action_head = ActionHead(config.hidden, spaces.action, self.tokens.count)
        self.steps_head = nn.Linear(config.hidden, config.num_bins)
        self.instruction_head: nn.Linear | None = None
        if config.instruction_objective:
            self.instruction_head = nn.Linear(4 * config.hidden, 1)
        self._index = {word: row for row, word in enumerate(self.words)}
        self._rows: dict[str, list[int]] = {}

    @property
    def vision_encoder(self) -> VisionEncoder:
        """Return the frozen tower behind the first camera."""
        return CameraVisionEncoder(self.tower, self.spaces.cameras[0], self.sizes.self_training)

    def train(self, mode: bool = True) -> "SmallVLA":
        """Set the mode of the trained part; the tower stays in evaluation mode."""
        super().train(mode)
        self.tower.eval()
        return self

    def config(self) -> dict[str, object]:
        """Return what rebuilds the module without its weights."""
        return {
            "model": "small-vla",
            "sizes": asdict(self.sizes),
            "spaces": asdict(self.spaces),
            "words": list(self.words),
            "tower": asdict(self.tower.config),
            "vocabulary": list(self.tower.words.vocabulary.words),
        }

    def normalise_by(self, inputs: Inputs, actions: Float[Tensor, "acted action"]) -> None:
        """Store action units, the image-to-plane map and input statistics of demonstrations."""
        self.tokens.units.copy_(action_units(actions, self.tokens.levels))
        self.planar_features.fit(_points(inputs), inputs.state)

    def fit_camera(self, inputs: Inputs) -> None:
        """Fit the image-to-plane map to another camera; inputs are normalised as before.

        Args:
            inputs: frames of the other camera, with proprioception.
        """
        self.planar_features.fit_plane(_points(inputs), inputs.state)

    def see_as(self, other: "SmallVLA") -> None:
        """Take over vision encoder and image-to-plane map of a model of the same robot."""
        self.tower.load_state_dict(other.tower.state_dict())
        self.planar_features.see_as(other.planar_features)

    def sample(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, axis by axis, with its exact log-probability."""
        trunk = self.action_trunk(self._network_inputs(inputs, self.action_words))
        drawn: list[Tensor] = []
        total = torch.zeros(len(inputs))
        for axis in range(self.spaces.action):
            log_prob = self.action_head(trunk, drawn, axis)
            token = draw_tokens(log_prob, rngs)
            total = total + log_prob.gather(1, token[:, None]).squeeze(1)
            drawn.append(token)
        return self.tokens.decode(torch.stack(drawn, dim=1)), total

    def log_prob(
        self, inputs: Inputs, actions: Float[Tensor, "samples action"]
    ) -> Float[Tensor, "samples"]:
        """Return the log-probability of the tokens that the actions round to."""
        trunk = self.action_trunk(self._network_inputs(inputs, self.action_words))
        tokens = self.tokens.encode(actions).unbind(dim=1)
        parts = [
            self.action_head(trunk, tokens[:axis], axis).gather(1, tokens[axis][:, None])
            for axis in range(self.spaces.action)
        ]
        return torch.cat(parts, dim=1).sum(dim=1)

    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples inputs"]:
        """Return positions and proprioception, normalised; the instruction's words are left out."""
        return self.planar_features(_points(inputs), inputs.state)

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""
        return self.steps_head(self.steps_trunk(self._network_inputs(inputs, self.steps_words)))

    def instruction_scores(self, first: Inputs, last: Inputs) -> Float[Tensor, "samples"]:
        """Return how well instructions match, from both networks' hidden units of both frames."""
        if self.instruction_head is None:
            return super().instruction_scores(first, last)
        hidden = [
            trunk(self._network_inputs(inputs, words))
            for inputs in (first, last)
            for trunk, words in (
                (self.action_trunk, self.action_words),
                (self.steps_trunk, self.steps_words),
            )
        ]
        return self.instruction_head(torch.cat(hidden, dim=1)).squeeze(1)

    @property
    def maps_to_plane(self) -> bool:
        """Tell whether the demonstrations determined the map from the image to the plane."""
        return bool(self.planar_features.uses_proprioception)

    def located(self, features: Float32[Array, "frames features"]) -> Float32[Array, "frames 3 3"]:
        """Return u, v and probability of the first object, the second object and the effector."""
        return features.reshape(-1, NUM_SLOTS, NUM_HYPOTHESES, _PEAK_WIDTH)[:, :, 0]

    def in_plane(self, points: Float32[Array, "*batch 2"]) -> Float32[Array, "*batch 2"]:
        """Return x, y of image points, by the plane that was fitted to the demonstrations."""
        return to_plane(self.planar_features.plane, torch.from_numpy(points)).numpy()

    def _network_inputs(
        self, inputs: Inputs, words: nn.EmbeddingBag
    ) -> Float[Tensor, "samples width"]:
        """Return the normalised inputs beside the mean embedding of the instruction's words."""
        normalised = self.normalised_inputs(inputs)
        rows = [self._word_rows(instruction) for instruction in inputs.instructions]
        # EmbeddingBag takes all bags flat, and where each starts.
        starts = np.cumsum([0, *map(len, rows[:-1])])
        flat = torch.tensor([row for rows_of_bag in rows for row in rows_of_bag])
        return torch.cat([normalised, words(flat, torch.from_numpy(starts))], dim=1)

    def _word_rows(self, instruction: str) -> list[int]:
        if instruction not in self._rows:
            unknown = [word for word in instruction.split() if word not in self._index]
            if unknown or not instruction.split():
                raise ConfigError(
                    f"an instruction must use words of the demonstrations, got {instruction!r} "
                    f"with {unknown}; record demonstrations with these words"
                )
            self._rows[instruction] = [self._index[word] for word in instruction.split()]
        return self._rows[instruction]


def _points(inputs: Inputs) -> Float[Tensor, "samples objects 2"]:
    """Return u, v of the first object, the second object and the effector: their likeliest."""
    beliefs = inputs.features.reshape(-1, NUM_SLOTS, NUM_HYPOTHESES, _PEAK_WIDTH)
    return beliefs[:, :, 0, :2]


def two_layers(width_in: int, hidden: int, dropout: float) -> nn.Sequential:
    """Return a trunk: two hidden layers with dropout."""
    return nn.Sequential(
        nn.Linear(width_in, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
    )
