"""The built-in foundation model: a pretrained pointing encoder, an action head, a steps-to-go head.

    images, instruction --frozen vision encoder--> positions of the named objects --+
    instruction --bag of words------------------------------------------------------+--> actions
    proprioception -----------------------------------------------------------------+--> steps-to-go

The vision encoder (`nearer.models.pointing`) was pretrained jointly on images and language. Before
Stage 1 it may learn from the demonstrations' frames, by pseudo-labels (self-training); then it is
frozen for good, and its encoding of a frame is computed once and cached (`Inputs.features`).
Actions and steps-to-go have a separate network each, as in the authors' notebook. The optional
instruction-matching objective of Stage 1 reads the hidden units of both.

Where a task is the same in the mirror (`mirror`), the networks answer for a frame and for its
mirror image, and the mean of both is what the model says: of log-probabilities for an axis of an
action, whose token is reflected, too. What is learned on one side holds on the other, in both
stages, and REINFORCE stays as it is. Where instructions name sides, `mirror_swaps` says which words
change places in the mirror: "to the left of the star" is "to the right of the star" there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from nearer.algorithm.action_tokens import ActionTokens, action_units, draw_tokens
from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.algorithm.steps_to_go import StepsToGoBins
from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Rngs
from nearer.core.renames import parse_renames
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Spaces
from nearer.core.vision import Decisions, VisionEncoder
from nearer.models.camera_vision_encoder import PEAK_WIDTH, CameraVisionEncoder
from nearer.models.goal_region import GoalRegion, flat_bags
from nearer.models.planar_features import PlanarFeatures, to_plane
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower
from nearer.models.pointing.tracking import NUM_HYPOTHESES
from nearer.models.settings import SmallVLAConfig

_TOKEN_WIDTH = 16
_SIDES = ("left", "right", "top", "bottom", "upper", "lower")


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
        self._swapped = _swapped_words(config, self.words)
        self._mirrored_axis = _mirrored_axis(config, spaces, self.words)
        self.planar_features = PlanarFeatures(
            state, config.max_deviation, self._mirrored_axis, config.goal_region
        )
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
        self.goal_region = GoalRegion(len(words)) if config.goal_region else None
        self._index = _index_of(config, self.words)
        self._rows: dict[tuple[str, bool], list[int]] = {}

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

    def learn_in_hindsight(self, demonstrations: Demonstrations, seed: int) -> None:
        """Learn from the last frames where instructions want objects, with `goal_region`."""
        if self.goal_region is None:
            return
        features, every_frame = self.planar_features, demonstrations.statistics()
        last = demonstrations.inputs((demonstrations.steps_to_go == 0).nonzero()[:, 0])
        first, second, _ = to_plane(features.plane, _points(last)).unbind(dim=1)
        rows = self._all_word_rows(last.instructions)
        if self._mirror is not None:
            first, second = (
                torch.cat([objects, features.reflected(objects)]) for objects in (first, second)
            )
            rows += self._all_word_rows(last.instructions, in_mirror=True)
        rng = generator(Purpose.GOAL_REGION, seed)
        self.goal_region.fit(first, second, rows, features.near, rng)
        discs = self.goal_discs(every_frame)
        assert discs is not None, "there is a goal region"
        features.fit_goal_statistics(_points(every_frame), every_frame.state, discs)

    def decisions(self, demonstrations: Demonstrations) -> Decisions:
        """Return what this model is to predict on every frame, before it has any statistics.

        Args:
            demonstrations: actions, steps-to-go and states; features are not read.
        """
        acted, actions = demonstrations.acted_frames(), demonstrations.actions
        levels = self.tokens.levels
        encoded = ActionTokens(action_units(actions[acted], levels), levels).encode(actions)
        encoded[demonstrations.steps_to_go == 0] = -1
        state = demonstrations.state
        deviation = state.std(dim=0).clamp(min=1e-6)
        return Decisions(
            state=((state - state.mean(dim=0)) / deviation).numpy(),
            actions=encoded.numpy(),
            steps_to_go=self.bins.index(demonstrations.steps_to_go).numpy(),
            num_action_tokens=self.tokens.count,
            num_bins=self.bins.count,
        )

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
            log_prob = self._action_log_prob(trunk, drawn, axis)
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
            self._action_log_prob(trunk, tokens[:axis], axis).gather(1, tokens[axis][:, None])
            for axis in range(self.spaces.action)
        ]
        return torch.cat(parts, dim=1).sum(dim=1)

    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples inputs"]:
        """Return positions and proprioception, normalised; the instruction's words are left out."""
        return self.planar_features(_points(inputs), inputs.state, self.goal_discs(inputs))

    def goal_discs(self, inputs: Inputs) -> Float[Tensor, "samples 4"] | None:
        """Return share, point and radius of the instructions' goal regions, if there are any.

        With a mirror: the mean of an instruction's and of its mirror image's, seen in the mirror.
        """
        if self.goal_region is None:
            return None
        discs = self.goal_region(self._all_word_rows(inputs.instructions))
        if self._mirror is None:
            return discs
        there = self.goal_region(self._all_word_rows(inputs.instructions, in_mirror=True))
        return (discs + self.planar_features.reflected_discs(there)) / 2

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""
        trunk = self.steps_trunk(self._network_inputs(inputs, self.steps_words))
        return self._over_sides(self.steps_head(trunk))

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
        return self._over_sides(self.instruction_head(torch.cat(hidden, dim=1))).squeeze(1)

    @property
    def maps_to_plane(self) -> bool:
        """Tell whether the demonstrations determined the map from the image to the plane."""
        return bool(self.planar_features.uses_proprioception)

    def located(self, features: Float32[Array, "frames features"]) -> Float32[Array, "frames 3 3"]:
        """Return u, v and probability of the first object, the second object and the effector."""
        return features.reshape(-1, NUM_SLOTS, NUM_HYPOTHESES, PEAK_WIDTH)[:, :, 0]

    def in_plane(self, points: Float32[Array, "*batch 2"]) -> Float32[Array, "*batch 2"]:
        """Return x, y of image points, by the plane that was fitted to the demonstrations."""
        return to_plane(self.planar_features.plane, torch.from_numpy(points)).numpy()

    @property
    def _mirror(self) -> int | None:
        """Return the mirrored axis; None without a plane, whose axes positions would need."""
        return self._mirrored_axis if self.maps_to_plane else None

    def _action_log_prob(
        self, trunk: Float[Tensor, "rows hidden"], before: Sequence[Tensor], axis: int
    ) -> Float[Tensor, "samples tokens"]:
        """Return log p(token of this axis | observation, instruction, tokens before)."""
        if self._mirror is None:
            return self.action_head(trunk, before, axis)
        last = self.tokens.count - 1  # last - token: the same magnitude, the other sign
        both = [
            torch.cat([token, last - token if i == self._mirror else token])
            for i, token in enumerate(before)
        ]
        straight, mirrored = self.action_head(trunk, both, axis).chunk(2)
        if axis == self._mirror:
            mirrored = mirrored.flip(1)
        return ((straight + mirrored) / 2).log_softmax(dim=1)

    def _over_sides(self, outputs: Float[Tensor, "rows width"]) -> Float[Tensor, "samples width"]:
        """Return the mean over frames and their mirror images, if there are any."""
        return outputs if self._mirror is None else torch.stack(outputs.chunk(2)).mean(dim=0)

    def _network_inputs(
        self, inputs: Inputs, words: nn.EmbeddingBag
    ) -> Float[Tensor, "rows width"]:
        """Return the normalised inputs beside the mean embedding of the instruction's words.

        With a mirror, the rows of the mirror images follow.
        """
        normalised = self.normalised_inputs(inputs)
        embedded = self._embedded(inputs.instructions, words, in_mirror=False)
        straight = torch.cat([normalised, embedded], dim=1)
        if self._mirror is None:
            return straight
        if self._swapped:
            embedded = self._embedded(inputs.instructions, words, in_mirror=True)
        mirrored = self.planar_features.mirrored(normalised)
        return torch.cat([straight, torch.cat([mirrored, embedded], dim=1)])

    def _all_word_rows(
        self, instructions: Sequence[str], in_mirror: bool = False
    ) -> list[list[int]]:
        return [self._word_rows(instruction, in_mirror) for instruction in instructions]

    def _embedded(
        self, instructions: Sequence[str], words: nn.EmbeddingBag, in_mirror: bool
    ) -> Float[Tensor, "samples width"]:
        """Return the mean embedding of the words of each instruction."""
        return words(*flat_bags(self._all_word_rows(instructions, in_mirror)))

    def _word_rows(self, instruction: str, in_mirror: bool) -> list[int]:
        rows = self._rows.get((instruction, in_mirror))
        if rows is None:
            words = instruction.split()
            known = [word for word in words if word in self._index]
            skips = self.sizes.unknown_words == "skip"
            if not known or (len(known) < len(words) and not skips):
                unknown = [word for word in words if word not in self._index]
                raise ConfigError(
                    f"an instruction must use words of the demonstrations, got {instruction!r} "
                    f"with {unknown}; record demonstrations with these words, or fine-tune with "
                    "--vla.unknown-words skip"
                )
            if in_mirror:
                known = [self._swapped.get(word, word) for word in known]
            rows = self._rows[instruction, in_mirror] = [self._index[word] for word in known]
        return rows


def _index_of(config: SmallVLAConfig, words: Sequence[str]) -> Mapping[str, int]:
    """Return the row of each word, and of each synonym."""
    index = {word: row for row, word in enumerate(words)}
    synonyms = parse_renames(config.synonyms, "--vla.synonyms", joined=True)
    for word, meant in synonyms.items():
        if meant not in index or word in index:
            raise ConfigError(
                "--vla.synonyms must be pairs NEW=KNOWN, a word that the demonstrations do not use "
                f"and one that they use, got {word}={meant}; correct it"
            )
    return index | {word: index[meant] for word, meant in synonyms.items()}


def _mirrored_axis(config: SmallVLAConfig, spaces: Spaces, words: Sequence[str]) -> int | None:
    """Return which coordinate and which axis of an action the mirror reflects, if any."""
    if config.mirror == "none":
        return None
    if (spaces.agent_pos + spaces.environment_state, spaces.action) != (2, 2):
        raise ConfigError(
            f"--vla.mirror {config.mirror} must have a robot whose state and action are the "
            f"effector's x, y, got {spaces.agent_pos} and {spaces.environment_state} numbers of "
            f"state and {spaces.action} of an action; leave it out"
        )
    sides = [word for word in words if word in _SIDES]
    if sides and not config.mirror_swaps:
        raise ConfigError(
            f"--vla.mirror {config.mirror} must have instructions that name no side, got some with "
            f"{', '.join(sides)}; say which words change places, as --vla.mirror-swaps left=right, "
            "or leave the mirror out"
        )
    return "xy".index(config.mirror)


def _swapped_words(config: SmallVLAConfig, words: Sequence[str]) -> Mapping[str, str]:
    """Return the word of the mirrored instruction for each that changes there."""
    pairs = parse_renames(config.mirror_swaps, "--vla.mirror-swaps")
    if twice := sorted(set(pairs) & set(pairs.values())):
        raise ConfigError(
            f"--vla.mirror-swaps must name each word once, got {twice[0]} in two pairs; leave one "
            "out"
        )
    for pair in pairs.items():
        if len(set(pair) & set(words)) == 1:
            raise ConfigError(
                f"--vla.mirror-swaps must name pairs of which the demonstrations' instructions use "
                f"both words or none, got {'='.join(pair)}; record demonstrations with both"
            )
    return {word: other for word, other in pairs.items() if word in words} | {
        other: word for word, other in pairs.items() if word in words
    }


def _points(inputs: Inputs) -> Float[Tensor, "samples objects 2"]:
    """Return u, v of the first object, the second object and the effector: their likeliest."""
    beliefs = inputs.features.reshape(-1, NUM_SLOTS, NUM_HYPOTHESES, PEAK_WIDTH)
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
