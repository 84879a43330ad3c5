"""Image and text towers of dual encoders: CLIP, SigLIP and SigLIP 2.

Each was pretrained so that a picture's vector and its sentence's lie close together in one space.
Here every patch of a picture gets a vector of that space, too, by the tower's own way there:

    CLIP    patch -> the tower's last norm -> its projection, as for the token of the whole picture
    SigLIP  patch -> the tower's last norm -> its attention pool, which sees this one patch alone

The whole picture's vector comes last. Neither way was trained on single patches.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers.models.siglip2.image_processing_pil_siglip2 import (
    get_image_size_for_max_num_patches,
)

from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera
from nearer.models.vlm.families import Network
from nearer.models.vlm.text_tokens import Form

_MAX_PATCHES = 256  # of a picture whose shape is kept, as SigLIP 2's own processor has it


class Towers(ABC):
    """How one kind of dual encoder differs.

    Args:
        config: of transformers.

    Raises:
        ConfigError: it has no way into a shared space.
    """

    tower_parts: ClassVar[tuple[str, ...]] = ("vision_model",)
    """Names of the modules that turn pixels into vectors."""
    pictures: ClassVar[Mapping[str, Any]]
    """How pictures are prepared where preprocessor_config.json does not say."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    @abstractmethod
    def width(self) -> int:
        """Count the numbers of a vector in the shared space."""

    @abstractmethod
    def form(self, tokenizer: Tokenizer) -> Form:
        """Return how the text tower takes a sentence."""

    @abstractmethod
    def see(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the vector of every patch, row by row, and of the whole picture last."""

    def size(self, image_px: int, processor: Mapping[str, Any], camera: Camera) -> tuple[int, int]:
        """Return height and width of what the tower sees: its square, or a smaller one.

        Raises:
            ConfigError: its patches do not divide that.
        """
        vision = self.config.vision_config
        largest, patch = vision.image_size, vision.patch_size
        side = image_px or largest // patch * patch
        if side % patch or side > largest:
            raise ConfigError(
                f"--vlm.image-px must be a multiple of {patch} and at most {largest} for this "
                f"model, got {side}; choose such a side"
            )
        return side, side

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return rows and columns of a picture's patches."""
        patch = self.config.vision_config.patch_size
        return height // patch, width // patch

    def read(self, network: Network, tokens: Int64[Tensor, "1 read"]) -> Float[Tensor, "numbers"]:
        """Return the vector of a sentence."""
        return network.get_text_features(tokens, return_dict=True).pooler_output[0]

    def tower(self, network: Network) -> list[nn.Module]:
        """Return the modules that turn pixels into vectors."""
        return [getattr(network, name) for name in self.tower_parts]


class Clip(Towers):
    """CLIP. Its own processor cuts a square out of the picture; here the picture fills the square,
    so that nothing beside it is lost."""

    tower_parts = ("vision_model", "visual_projection")
    pictures = MappingProxyType(
        {
            "image_mean": (0.48145466, 0.4578275, 0.40821073),
            "image_std": (0.26862954, 0.26130258, 0.27577711),
        }
    )

    @property
    def width(self) -> int:
        """Count the numbers of a vector in the shared space."""
        return self.config.projection_dim

    def form(self, tokenizer: Tokenizer) -> Form:
        """Return a sentence between a start and an end; the end is where the tower reads it off.

        Raises:
            ConfigError: the tokenizer's end is not the model's.
        """
        end, text = "<|endoftext|>", self.config.text_config
        found = tokenizer.token_to_id(end)
        # 2 stood in every config until 2023; transformers then reads at the largest token.
        if text.eos_token_id not in (2, found):
            raise ConfigError(
                f"tokenizer.json must have {end} as token {text.eos_token_id}, as the model's "
                f"config.json says, got {found}; use the tokenizer that came with the model"
            )
        return Form(start="<|startoftext|>", end=end, longest=text.max_position_embeddings)

    def see(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return what norm and projection make of every token."""
        tower = network.vision_model
        seen = tower(pixels, interpolate_pos_encoding=True).last_hidden_state
        vectors = network.visual_projection(tower.post_layernorm(seen))
        return torch.cat([vectors[:, 1:], vectors[:, :1]], dim=1)


class Siglip(Towers):
    """SigLIP, and SigLIP 2 of a fixed size."""

    pictures = MappingProxyType({"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)})

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if not getattr(config.vision_config, "vision_use_head", True):
            raise ConfigError(
                "--model must be a dual encoder whose image tower has its head "
                "(vision_use_head), got one without; choose google/siglip-base-patch16-224"
            )

    @property
    def width(self) -> int:
        """Count the numbers of a vector in the shared space."""
        return self.config.vision_config.hidden_size

    def form(self, tokenizer: Tokenizer) -> Form:
        """Return a sentence of a fixed length: its end, then padding, without a mask."""
        longest = self.config.text_config.max_position_embeddings
        if tokenizer.token_to_id("<eos>") is None:
            return Form(end="</s>", padding="</s>", longest=longest, lower=True, bare=True)
        return Form(end="<eos>", padding="<pad>", longest=longest, lower=True)  # of Gemma: SigLIP 2

    def see(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return what the attention pool makes of every patch, and of all of them."""
        seen = network.vision_model(pixels, interpolate_pos_encoding=True)
        return self._pooled(network, seen)

    def _pooled(self, network: Network, seen: Any) -> Float[Tensor, "frames tokens numbers"]:
        patches: Tensor = seen.last_hidden_state
        alone = network.vision_model.head(patches.flatten(0, 1)[:, None])
        vectors = alone.unflatten(0, patches.shape[:2])
        return torch.cat([vectors, seen.pooler_output[:, None]], dim=1)


class SiglipAnySize(Siglip):
    """SigLIP 2 "naflex": pictures keep their shape, as far as whole patches can."""

    def size(self, image_px: int, processor: Mapping[str, Any], camera: Camera) -> tuple[int, int]:
        """Return the camera's shape in as many patches as the processor allows, or a square.

        Raises:
            ConfigError: patches do not divide the square, or are too many.
        """
        patch = self.config.vision_config.patch_size
        most = int(processor.get("max_num_patches") or _MAX_PATCHES)
        if not image_px:
            return get_image_size_for_max_num_patches(camera.height, camera.width, patch, most)
        if image_px % patch or (image_px // patch) ** 2 > most:
            raise ConfigError(
                f"--vlm.image-px must be a multiple of {patch} with at most {most} patches for "
                f"this model, got {image_px}; leave it out"
            )
        return image_px, image_px

    def see(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return what the attention pool makes of every patch, and of all of them."""
        frames, channels, height, width = pixels.shape
        rows, columns = self.grid(height, width)
        patch: int = self.config.vision_config.patch_size
        cut = pixels.reshape(frames, channels, rows, patch, columns, patch)
        flat = cut.permute(0, 2, 4, 3, 5, 1).reshape(frames, rows * columns, -1)
        shapes = torch.tensor([[rows, columns]] * frames, device=pixels.device)
        real = torch.ones(flat.shape[:2], dtype=torch.int64, device=pixels.device)
        seen = network.vision_model(flat, pixel_attention_mask=real, spatial_shapes=shapes)
        return self._pooled(network, seen)


DUAL_ENCODERS: Mapping[str, type[Towers]] = {
    "clip": Clip,
    "siglip": Siglip,
    "siglip2": SiglipAnySize,
}
"""By the value of model_type in config.json."""
