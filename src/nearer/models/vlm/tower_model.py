"""Base class of models with a pretrained vision tower: images, cached features, state, actions."""

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
from nearer.models.vlm.image_preprocessing import ImagePreprocessing, check_same_preprocessing
from nearer.models.vlm.state_scaling import state_range, unit_state
from nearer.models.vlm.vision_encoders import PixelVisionEncoder, TowerVisionEncoder


class TowerModel(FoundationModel):
    """A model with a pretrained vision tower, which is frozen once Stage 1 is over.

    Args:
        settings: how it is fine-tuned.
        spaces: of the robot; all its cameras are used.
        network: of transformers, with the tower.
        preprocessing: of each camera's images.
        before_stage_one: the tower may train, if the settings say so; it never does afterwards.

    Attributes:
        counts: tokens of an image of each camera.
        widths: numbers of these, all together.
        steps_head: the last layer of the steps-to-go head.

    Raises:
        ConfigError: there is no camera.
    """

    normalisation = ("tokens.units", "state_low", "state_high", "preprocessing_settings")
    counts: list[int]
    widths: list[int]
    steps_head: nn.Linear

    def __init__(
        self,
        settings: VLMConfig,
        spaces: Spaces,
        network: Network,
        preprocessing: Sequence[ImagePreprocessing],
        *,
        before_stage_one: bool,
    ) -> None:
        super().__init__()
        if not spaces.cameras:
            raise ConfigError(
                "a pretrained vision model must have images to look at, got a robot without a "
                "camera; pass --model mlp for states"
            )
        self.settings, self.spaces = settings, spaces
        self.preprocessing = tuple(preprocessing)
        self.bins = StepsToGoBins(count=settings.num_bins, width_steps=settings.steps_per_bin)
        self.trains_tower = before_stage_one and settings.tower == "trained"
        self.network = network
        state = spaces.agent_pos + spaces.environment_state
        self.tokens = ActionTokens(torch.ones(spaces.action), settings.action_levels)
        self.state_low = nn.Buffer(-torch.ones(state))
        self.state_high = nn.Buffer(torch.ones(state))
        per_camera = [camera_settings.as_tensor() for camera_settings in preprocessing]
        self.preprocessing_settings = nn.Buffer(torch.stack(per_camera))

    @property
    @abstractmethod
    def tower(self) -> list[nn.Module]:
        """Return the modules that turn pixels into tokens."""

    @abstractmethod
    def encode_images(self, images: Tensor, camera: int) -> Float[Tensor, "frames tokens numbers"]:
        """Return the tower's tokens of a camera's images, bytes or floats in 0..255."""

    @property
    def vision_encoder(self) -> VisionEncoder:
        """Return the frozen tower; the raw pixels while Stage 1 trains it."""
        if self.trains_tower:
            return PixelVisionEncoder(cameras=self.spaces.cameras, frames=self.settings.frames)
        return TowerVisionEncoder(self)

    @property
    def device(self) -> torch.device:
        """Return where the network computes; outputs are moved back to the CPU."""
        return self.steps_head.weight.device

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights that were trained on images preprocessed as they are here.

        Raises:
            RuntimeError: they were not, or the weights do not fit.
        """
        check_same_preprocessing(state_dict, self.preprocessing_settings)
        return super().load_state_dict(state_dict, strict, assign)

    def normalise_by(self, inputs: Inputs, actions: Float[Tensor, "acted action"]) -> None:
        """Store action units, and the 1 % and 99 % quantiles of each component of the state."""
        self.tokens.units.copy_(action_units(actions, self.tokens.levels))
        low, high = state_range(inputs.state)
        self.state_low.copy_(low)
        self.state_high.copy_(high)

    def image_tokens(self, inputs: Inputs) -> list[Float[Tensor, "samples _ numbers"]]:
        """Return the tokens of each image of the inputs, a tensor an image, oldest first."""
        features = inputs.features.to(self.device)
        cameras, frames = self.spaces.cameras, self.settings.frames
        if not self.trains_tower:
            tokens = zip(self.counts, self.widths, strict=True)
            shapes = [(count, width // count) for count, width in tokens] * frames
            return [
                columns.unflatten(1, shape) for columns, shape in split_columns(features, shapes)
            ]
        sizes = [(camera.height, camera.width, 3) for camera in cameras] * frames
        return [
            self.encode_images(pixels.reshape(len(pixels), *size), index % len(cameras))
            for index, (pixels, size) in enumerate(split_columns(features, sizes))
        ]

    def unit_state(self, inputs: Inputs) -> Float[Tensor, "samples state"]:
        """Return the state, scaled to -1..1 over the demonstrations' quantiles."""
        return unit_state(inputs.state.to(self.device), self.state_low, self.state_high)
