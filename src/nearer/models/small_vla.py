"""The built-in foundation model: pretrained sight and language, two questions on top.

    pictures, instruction --frozen sight--> where the things named are --+
    instruction --words------------------------------------------------- +--> action tokens
    proprioception ------------------------------------------------------+--> steps-to-go bins

The sight (`nearer.models.pointing`) was pretrained on vision and language together. Stage 1 lets it
learn from the demonstrations' frames first; then it is frozen for good, and what it sees of a frame
is computed once and kept (`Inputs.features`). The two questions have a network each, as in the
authors' notebook. Stage 1 may ask a third: which instruction an episode had. Its answer is read
from the hidden numbers of both networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from nearer.algorithm.action_tokens import ActionTokens, action_units, draw_tokens
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.algorithm.steps_to_go import StepsToGoBins
from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Rngs
from nearer.core.spaces import Camera, Spaces
from nearer.core.vision import Clips, VisionEncoder
from nearer.models.parallel import side_by_side
from nearer.models.planar_features import Geometry
from nearer.models.pointing.self_training import Lessons, adapt, path_targets, trainable
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower
from nearer.models.pointing.tracking import NUM_PEAKS, track, two_peaks
from nearer.models.settings import SmallVLAConfig
from nearer.runs.checkpoint import weights_hash

_TOKEN_WIDTH = 16
_AT_ONCE = 4  # frames; larger batches leave the processor's cache: 16 took 1.3 times as long
_NUMBERS_A_POINT = 3  # u, v and how sure the sight is


@dataclass(frozen=True, slots=True)
class CameraVisionEncoder:
    """The frozen tower behind one camera: where the things are that an instruction names."""

    tower: PointingTower
    camera: Camera

    @property
    def identity(self) -> str:
        """Name what this sight sees, by a hash of its weights and its camera."""
        return f"{self.camera}-{weights_hash(self.tower)}"

    @property
    def encoding_width(self) -> int:
        """Count the numbers of a look: two peaks a thing."""
        return NUM_SLOTS * NUM_PEAKS * _NUMBERS_A_POINT

    @property
    def width(self) -> int:
        """Count the features of a frame: one point a thing."""
        return NUM_SLOTS * _NUMBERS_A_POINT

    def encode(
        self, images: Mapping[str, UInt8[Array, "frames h w c"]], instructions: Sequence[str]
    ) -> Float32[Array, "frames looks"]:
        """Return u, v and share of the two likeliest places of every thing named."""
        return self.encode_for_each(images, [(one,) for one in instructions])[:, 0]

    def encode_for_each(
        self,
        images: Mapping[str, UInt8[Array, "frames h w c"]],
        candidates: Sequence[Sequence[str]],
    ) -> Float32[Array, "frames candidates looks"]:
        """Return the looks at each frame for every candidate; its keys are made once."""
        pictures = torch.from_numpy(images[self.camera.name])
        queries = torch.stack([self.tower.recall(sentences) for sentences in candidates])

        def encode(rows: slice) -> Tensor:
            with torch.inference_mode():
                return two_peaks(self.tower.attend(pictures[rows], queries[rows]).flatten(0, 1))

        parts = [slice(first, first + _AT_ONCE) for first in range(0, len(pictures), _AT_ONCE)]
        encodings = torch.cat(side_by_side(encode, parts))
        return encodings.reshape(*queries.shape[:2], self.encoding_width).numpy()

    def track(
        self,
        before: Float32[Array, "robots features"] | None,
        encodings: Float32[Array, "robots looks"],
    ) -> Float32[Array, "robots features"]:
        """Return u, v and share of every thing, where it can be, given the frame before."""
        seen = encodings.reshape(-1, NUM_SLOTS, NUM_PEAKS, _NUMBERS_A_POINT)
        known = None if before is None else before.reshape(-1, NUM_SLOTS, _NUMBERS_A_POINT)
        return track(known, seen, self._aspect).reshape(len(encodings), self.width)

    def weights(self) -> Float32[Array, "weights"]:
        """Return what learns, as one vector."""
        parts = [one.detach().reshape(-1) for one in trainable(self.tower)]
        return torch.cat(parts).numpy()

    def take(self, weights: Float32[Array, "weights"]) -> None:
        """See with these weights from now on."""
        start = 0
        with torch.no_grad():
            for one in trainable(self.tower):
                part = weights[start : start + one.numel()]
                one.copy_(torch.from_numpy(part).view(one.shape))
                start += one.numel()

    def learn(
        self,
        clips: Clips,
        updates: int,
        rng: np.random.Generator,
        on_progress: ProgressCallback = ignore_progress,
    ) -> None:
        """Learn to point where the things of each episode were, seen with hindsight."""
        encodings = clips.encodings.reshape(-1, NUM_SLOTS, NUM_PEAKS, _NUMBERS_A_POINT)
        targets = path_targets(encodings, clips.episode_lengths, self._aspect)
        sentences = np.repeat(np.array(clips.instructions), clips.episode_lengths).tolist()
        lessons = Lessons(
            pictures=clips.images[self.camera.name],
            frames=clips.rows,
            sentences=sentences,
            targets=targets,
        )
        adapt(self.tower, lessons, updates, rng, on_progress)

    @property
    def _aspect(self) -> float:
        return self.camera.width / self.camera.height


class ActionHead(nn.Module):
    """Answers axis by axis: the tokens of an axis, given those of the axes before."""

    def __init__(self, hidden: int, axes: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
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
        """Return log p(token of this axis | question, tokens of the axes before)."""
        known = [self.embedding(token + self.tokens * i) for i, token in enumerate(before)]
        return self.heads[axis](torch.cat([trunk, *known], dim=1)).log_softmax(dim=1)


def words_of(instructions: Sequence[str]) -> tuple[str, ...]:
    """Return every word of these instructions, in alphabetical order."""
    return tuple(sorted({word for one in instructions for word in one.split()}))


class SmallVLA(FoundationModel):
    """Action tokens axis by axis, and a distribution over steps-to-go.

    The frozen tower's weights are part of the model, so a checkpoint holds all it needs.

    Args:
        config: sizes.
        spaces: of the robot; the first camera is looked through.
        words: every word that instructions may hold, in order.
        tower: pretrained, from `load_pointing`; trained by `CameraSight.learn` alone.

    Raises:
        ConfigError: there is no camera.
    """

    normalisation = (
        "geometry.plane",
        "geometry.near",
        "geometry.mean",
        "geometry.std",
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
                "--model small-vla must have pictures to look at, got a robot without a camera; "
                "pass --model mlp for states"
            )
        self.sizes = config
        self.spaces = spaces
        self.bins = StepsToGoBins(count=config.num_bins, width_steps=config.steps_per_bin)
        self.tower = tower.requires_grad_(False)
        self.words = tuple(words)
        self.tokens = ActionTokens(torch.ones(spaces.action), config.action_levels)
        state = spaces.agent_pos + spaces.environment_state
        self.geometry = Geometry(state, config.max_deviation)
        self.action_words = nn.EmbeddingBag(len(words), config.word_width)
        self.steps_words = nn.EmbeddingBag(len(words), config.word_width)
        width = self.geometry.num_facts + config.word_width
        self.action_trunk = two_layers(width, config.hidden, config.dropout)
        self.steps_trunk = two_layers(width, config.hidden, config.dropout)
        self.action_head = ActionHead(config.hidden, spaces.action, self.tokens.count)
        self.steps_head = nn.Linear(config.hidden, config.num_bins)
        self.instruction_head: nn.Linear | None = None
        if config.answers_instruction:
            self.instruction_head = nn.Linear(4 * config.hidden, 1)
        self._index = {word: row for row, word in enumerate(self.words)}
        self._rows: dict[str, list[int]] = {}

    @property
    def vision_encoder(self) -> VisionEncoder:
        """Return the frozen tower behind the first camera."""
        return CameraVisionEncoder(self.tower, self.spaces.cameras[0])

    def train(self, mode: bool = True) -> "SmallVLA":
        """Set the mode of the trained part; the tower always stays as it serves."""
        super().train(mode)
        self.tower.eval()
        return self

    def config(self) -> dict[str, Any]:
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
        """Keep action units, and how the demonstrations' pictures and places lie."""
        self.tokens.units.copy_(action_units(actions, self.tokens.levels))
        self.geometry.fit(_points(inputs), inputs.state)

    def sample(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, axis by axis, with its exact log-probability."""
        trunk = self.action_trunk(self._read(inputs, self.action_words))
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
        trunk = self.action_trunk(self._read(inputs, self.action_words))
        tokens = self.tokens.encode(actions).unbind(dim=1)
        parts = [
            self.action_head(trunk, tokens[:axis], axis).gather(1, tokens[axis][:, None])
            for axis in range(self.spaces.action)
        ]
        return torch.cat(parts, dim=1).sum(dim=1)

    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples facts"]:
        """Return where things are, without the words."""
        return self.geometry(_points(inputs), inputs.state)

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""
        return self.steps_head(self.steps_trunk(self._read(inputs, self.steps_words)))

    def instruction_scores(self, first: Inputs, last: Inputs) -> Float[Tensor, "samples"]:
        """Return how well instructions fit, read from what both networks make of both frames."""
        if self.instruction_head is None:
            return super().instruction_scores(first, last)
        hidden = [
            trunk(self._read(inputs, words))
            for inputs in (first, last)
            for trunk, words in (
                (self.action_trunk, self.action_words),
                (self.steps_trunk, self.steps_words),
            )
        ]
        return self.instruction_head(torch.cat(hidden, dim=1)).squeeze(1)

    def _read(self, inputs: Inputs, words: nn.EmbeddingBag) -> Float[Tensor, "samples width"]:
        facts = self.normalised_inputs(inputs)
        rows = [self._word_rows(instruction) for instruction in inputs.instructions]
        starts = np.cumsum([0, *map(len, rows[:-1])])
        flat = torch.tensor([row for one in rows for row in one])
        return torch.cat([facts, words(flat, torch.from_numpy(starts))], dim=1)

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


def _points(inputs: Inputs) -> Float[Tensor, "samples things 2"]:
    """Return u, v of the things pointed at, the effector last."""
    return inputs.features.reshape(-1, NUM_SLOTS, _NUMBERS_A_POINT)[..., :2]


def two_layers(width_in: int, hidden: int, dropout: float) -> nn.Sequential:
    """Return the trunk of a question."""
    return nn.Sequential(
        nn.Linear(width_in, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(dropout),
    )
