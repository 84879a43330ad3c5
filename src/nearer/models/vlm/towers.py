"""Image and text towers of dual encoders: CLIP, SigLIP and SigLIP 2.

Each was pretrained so that the vectors of an image and of its caption lie close together in one
shared space. Here every patch is mapped into that space, too, by the tower's own last layers:

    CLIP    patch -> the tower's last norm -> its projection, as for the token of the whole image
    SigLIP  patch -> the tower's last norm -> its attention pool, over this patch alone

The whole image's vector comes last. Neither tower was pretrained to map single patches.
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
from nearer.models.saved_config import JsonObject
from nearer.models.vlm.families import Network
from nearer.models.vlm.text_tokens import TextFormat

_MAX_PATCHES = 256  # of an image whose aspect ratio is kept, the default of SigLIP 2's processor


class DualTowers(ABC):
    """What differs between kinds of dual encoders.

    Args:
        config: of transformers.

    Raises:
        ConfigError: its image tower has no head into a shared space.
    """

    tower_parts: ClassVar[tuple[str, ...]] = ("vision_model",)
    """Names of the modules that turn pixels into vectors."""
    preprocessing: ClassVar[JsonObject]
    """Defaults for what preprocessor_config.json leaves out."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @property
    @abstractmethod
    def width(self) -> int:
        """Return the width of a vector in the shared space."""

    @abstractmethod
    def text_format(self, tokenizer: Tokenizer) -> TextFormat:
        """Return the format in which the text tower takes a sentence."""

    @abstractmethod
    def encode(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the vector of every patch, row by row, and of the whole image last."""

    def size(self, image_px: int, processor: JsonObject, camera: Camera) -> tuple[int, int]:
        """Return height and width of the tower's input: its square, or a smaller one.

        Raises:
            ConfigError: the size is not a multiple of the patch size.
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
        """Return rows and columns of an image's patches."""
        patch = self.config.vision_config.patch_size
        return height // patch, width // patch

    def encode_text(
        self, network: Network, tokens: Int64[Tensor, "1 read"]
    ) -> Float[Tensor, "numbers"]:
        """Return the vector of a sentence."""
        return network.get_text_features(tokens, return_dict=True).pooler_output[0]

    def tower(self, network: Network) -> list[nn.Module]:
        """Return the modules that turn pixels into vectors."""
        return [getattr(network, name) for name in self.tower_parts]


class ClipTowers(DualTowers):
    """CLIP. Its own processor crops a square from the image; here the image is stretched to the
    square, so that nothing is cut off."""

    tower_parts = ("vision_model", "visual_projection")
    preprocessing = MappingProxyType(
        {
            "image_mean": (0.48145466, 0.4578275, 0.40821073),
            "image_std": (0.26862954, 0.26130258, 0.27577711),
        }
    )

    @property
    def width(self) -> int:
        """Return the width of a vector in the shared space."""
        return self.config.projection_dim

    def text_format(self, tokenizer: Tokenizer) -> TextFormat:
        """Return a start and an end token; the tower's vector is that of the end token.

        Raises:
            ConfigError: the tokenizer's end is not the model's.
        """
        end, text = "<|endoftext|>", self.config.text_config
        token = tokenizer.token_to_id(end)
        # 2 stood in every config until 2023; transformers then takes the largest token id.
        if text.eos_token_id not in (2, token):
            raise ConfigError(
                f"tokenizer.json must have {end} as token {text.eos_token_id}, as the model's "
                f"config.json says, got {token}; use the tokenizer that came with the model"
            )
        return TextFormat(start="<|startoftext|>", end=end, max_tokens=text.max_position_embeddings)

    def encode(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the projection of every token after the last norm."""
        tower = network.vision_model
        hidden = tower(pixels, interpolate_pos_encoding=True).last_hidden_state
        vectors = network.visual_projection(tower.post_layernorm(hidden))
        # The token of the whole image comes first in CLIP and last here.
        return torch.cat([vectors[:, 1:], vectors[:, :1]], dim=1)


class SiglipTowers(DualTowers):
    """SigLIP, and SigLIP 2 with a fixed input size."""

    preprocessing = MappingProxyType({"image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)})

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if not getattr(config.vision_config, "vision_use_head", True):
            raise ConfigError(
                "--model must be a dual encoder whose image tower has its head "
                "(vision_use_head), got one without; choose google/siglip-base-patch16-224"
            )

    @property
    def width(self) -> int:
        """Return the width of a vector in the shared space."""
        return self.config.vision_config.hidden_size

    def text_format(self, tokenizer: Tokenizer) -> TextFormat:
        """Return a fixed length: an end token, then padding without a mask."""
        max_tokens = self.config.text_config.max_position_embeddings
        if tokenizer.token_to_id("<eos>") is None:
            return TextFormat(
                end="</s>",
                padding="</s>",
                max_tokens=max_tokens,
                lowercase=True,
                strip_punctuation=True,
            )
        # Gemma's tokenizer: SigLIP 2.
        return TextFormat(end="<eos>", padding="<pad>", max_tokens=max_tokens, lowercase=True)

    def encode(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the attention pool of every patch alone, and of all of them."""
        outputs = network.vision_model(pixels, interpolate_pos_encoding=True)
        return self._pooled(network, outputs)

    def _pooled(self, network: Network, outputs: Any) -> Float[Tensor, "frames tokens numbers"]:
        patches: Tensor = outputs.last_hidden_state
        # Each patch as a sequence of one token.
        singly = network.vision_model.head(patches.flatten(0, 1)[:, None])
        vectors = singly.unflatten(0, patches.shape[:2])
        return torch.cat([vectors, outputs.pooler_output[:, None]], dim=1)


class SiglipNaflexTowers(SiglipTowers):
    """SigLIP 2 "naflex": images keep their aspect ratio, up to whole patches."""

    def size(self, image_px: int, processor: JsonObject, camera: Camera) -> tuple[int, int]:
        """Return the camera's aspect ratio in as many patches as the processor allows, or a square.

        Raises:
            ConfigError: the square is not a multiple of the patch size, or has too many patches.
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

    def encode(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the attention pool of every patch alone, and of all of them."""
        frames, channels, height, width = pixels.shape
        rows, columns = self.grid(height, width)
        patch: int = self.config.vision_config.patch_size
        # This tower takes patches, flattened row by row with channels last, not an image.
        cut = pixels.reshape(frames, channels, rows, patch, columns, patch)
        flat = cut.permute(0, 2, 4, 3, 5, 1).reshape(frames, rows * columns, -1)
        shapes = torch.tensor([[rows, columns]] * frames, device=pixels.device)
        real = torch.ones(flat.shape[:2], dtype=torch.int64, device=pixels.device)
        outputs = network.vision_model(flat, pixel_attention_mask=real, spatial_shapes=shapes)
        return self._pooled(network, outputs)


DUAL_ENCODERS: Mapping[str, type[DualTowers]] = {
    "clip": ClipTowers,
    "siglip": SiglipTowers,
    "siglip2": SiglipNaflexTowers,
}
"""By the value of model_type in config.json."""
