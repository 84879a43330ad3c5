"""What the models with a pretrained tower share: pictures in, features kept, state and actions."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nearer.algorithm.action_tokens import ActionTokens, action_units
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.algorithm.steps_to_go import StepsToGoBins
from nearer.core.errors import ConfigError
from nearer.core.spaces import Spaces
from nearer.core.vision import VisionEncoder
from nearer.models.settings import VLMConfig
from nearer.models.vlm.attention_masks import split_columns
from nearer.models.vlm.families import Network
from nearer.models.vlm.image_preprocessing import Preparing, check_prepared
from nearer.models.vlm.state_scaling import state_range, unit_state
from nearer.models.vlm.vision_encoders import PixelVisionEncoder, TowerVisionEncoder


class Towered(FoundationModel):
    """A model whose pictures go through a pretrained tower, frozen once Stage 1 is over.

    Args:
        settings: how it is fine-tuned.
        spaces: of the robot; all its cameras are looked through.
        network: of transformers, with the tower.
        preparing: how each camera's pictures are prepared.
        learns: Stage 1 is to come: its tower may train then, and never after.

    Attributes:
        counts: tokens that each camera's picture becomes.
        widths: numbers of these, all together.
        steps_head: the last layer of the steps-to-go answer.

    Raises:
        ConfigError: there is no camera.
    """

    normalisation = ("tokens.units", "state_low", "state_high", "prepared")
    counts: list[int]
    widths: list[int]
    steps_head: nn.Linear

    def __init__(
        self,
        settings: VLMConfig,
        spaces: Spaces,
        network: Network,
        preparing: Sequence[Preparing],
        *,
        learns: bool,
    ) -> None:
        super().__init__()
        if not spaces.cameras:
            raise ConfigError(
                "a pretrained model that sees must have pictures to look at, got a robot without "
                "a camera; pass --model mlp for states"
            )
        self.settings, self.spaces = settings, spaces
        self.preparing = tuple(preparing)
        self.bins = StepsToGoBins(count=settings.num_bins, width_steps=settings.steps_per_bin)
        self.tower_learns = learns and settings.tower == "trained"
        self.network = network
        state = spaces.agent_pos + spaces.environment_state
        self.tokens = ActionTokens(torch.ones(spaces.action), settings.action_levels)
        self.state_low = nn.Buffer(-torch.ones(state))
        self.state_high = nn.Buffer(torch.ones(state))
        self.prepared = nn.Buffer(torch.stack([one.numbers() for one in preparing]))

    @property
    @abstractmethod
    def tower(self) -> list[nn.Module]:
        """Return the modules that turn pixels into tokens."""

    @abstractmethod
    def see(self, pictures: Tensor, camera: int) -> Float[Tensor, "frames tokens numbers"]:
        """Return the tokens that the tower makes of a camera's pictures, bytes or 0..255."""

    @property
    def vision_encoder(self) -> VisionEncoder:
        """Return the frozen tower; the bare pictures while Stage 1 trains it."""
        if self.tower_learns:
            return PixelVisionEncoder(cameras=self.spaces.cameras, frames=self.settings.frames)
        return TowerVisionEncoder(self)

    @property
    def device(self) -> torch.device:
        """Return where it computes; its answers come back to the processor."""
        return self.steps_head.weight.device

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take weights, if pictures were prepared for them as they are here.

        Raises:
            RuntimeError: they were not, or the weights do not fit.
        """
        check_prepared(state_dict, self.prepared)
        return super().load_state_dict(state_dict, strict, assign)

    def normalise_by(self, inputs: Inputs, actions: Float[Tensor, "acted action"]) -> None:
        """Keep action units, and the range of all but 2 % of each number of the state."""
        self.tokens.units.copy_(action_units(actions, self.tokens.levels))
        low, high = state_range(inputs.state)
        self.state_low.copy_(low)
        self.state_high.copy_(high)

    def pictures_of(self, inputs: Inputs) -> list[Float[Tensor, "samples _ numbers"]]:
        """Return the tokens of each picture of a question, a tensor a picture, oldest first."""
        features = inputs.features.to(self.device)
        cameras, frames = self.spaces.cameras, self.settings.frames
        if not self.tower_learns:
            tokens = zip(self.counts, self.widths, strict=True)
            shapes = [(count, width // count) for count, width in tokens] * frames
            return [one.unflatten(1, shape) for one, shape in split_columns(features, shapes)]
        sizes = [(one.height, one.width, 3) for one in cameras] * frames
        return [
            self.see(one.reshape(len(one), *size), index % len(cameras))
            for index, (one, size) in enumerate(split_columns(features, sizes))
        ]

    def unit_state(self, inputs: Inputs) -> Float[Tensor, "samples state"]:
        """Return the state, from -1 to 1 over what the demonstrations had."""
        return unit_state(inputs.state.to(self.device), self.state_low, self.state_high)
