"""What differs between families of vision-language models; all of them share `vlm.py`.

A family defines its image size, how its tower is called, how many tokens an image becomes, the
tokens' position ids, and its chat format.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera
from nearer.models.saved_config import JsonObject
from nearer.models.vlm.prompts import PromptLayout

Network = Any
"""A base model of transformers, without its language head; its package has no useful types."""


class VLMFamily(ABC):
    """What differs between families."""

    layout: PromptLayout
    tower_parts: ClassVar[tuple[str, ...]]
    """Names of the modules that turn pixels into tokens of the language model."""
    both_ways: ClassVar[bool] = False
    """Prefix tokens attend to each other bidirectionally, not causally."""
    streams: int = 1
    """Vectors an image token has: its embedding, and one for each deep-stack layer."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def size(self, image_px: int, processor: JsonObject, camera: Camera) -> tuple[int, int]:
        """Return height and width of the tower's input, in pixels.

        Raises:
            ConfigError: the tower takes no images of side `image_px`.
        """

    @abstractmethod
    def tokens(self, height: int, width: int) -> int:
        """Return the number of tokens of an image of this size."""

    @abstractmethod
    def encode(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the tower's tokens of images."""

    @abstractmethod
    def encoder_outputs(self, images: Sequence[Float[Tensor, "_ numbers"]]) -> Any:
        """Return tokens of images in the structure that the network takes them in."""

    def positions(
        self, network: Network, prefix: Sequence[int], grids: Sequence[tuple[int, int, int]]
    ) -> Int64[Tensor, "axes prefix"]:
        """Return the position id of every token of the prefix; one axis for most families."""
        return torch.arange(len(prefix))[None]

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Return frames, rows and columns of an image's patches."""
        return (1, height, width)

    def tower(self, network: Network) -> list[nn.Module]:
        """Return the modules that turn pixels into tokens."""
        return [getattr(network, name) for name in self.tower_parts]

    def layers(self, network: Network, *, with_tower: bool) -> list[nn.Module]:
        """Return the repeated layers of the language model, and of the tower if wanted."""
        tower = {id(module) for part in self.tower(network) for module in part.modules()}
        layers = [
            layer
            for stack in network.modules()
            if isinstance(stack, nn.ModuleList) and len(stack) > 1
            for layer in stack
        ]
        return [layer for layer in layers if with_tower or id(layer) not in tower]


class PaliGemma(VLMFamily):
    """PaliGemma and PaliGemma 2: SigLIP and Gemma; images attend to each other bidirectionally.

    In pretraining the text was part of the bidirectional prefix. Here it is causal, so that both
    prompts share the prefix's computation; fine-tuning adapts to that.
    """

    layout = PromptLayout(close="<bos>", suffix="{}\n", special=("<bos>",))
    tower_parts = ("vision_tower", "multi_modal_projector")
    both_ways = True

    def size(self, image_px: int, processor: JsonObject, camera: Camera) -> tuple[int, int]:
        """Return the only size that the position embedding was trained for."""
        side = self.config.vision_config.image_size
        if image_px not in (0, side):
            raise ConfigError(
                f"--vlm.image-px must be {side} for this model, which takes one size only, got "
                f"{image_px}; leave it out"
            )
        return side, side

    def tokens(self, height: int, width: int) -> int:
        """Return the number of patches."""
        patch = self.config.vision_config.patch_size
        return (height // patch) * (width // patch)

    def encode(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the projected patches."""
        return network.get_image_features(pixels, return_dict=True).pooler_output

    def encoder_outputs(self, images: Sequence[Float[Tensor, "_ numbers"]]) -> Any:
        """Return one tensor of all images."""
        return SimpleNamespace(pooler_output=torch.stack(list(images)))

    def positions(
        self, network: Network, prefix: Sequence[int], grids: Sequence[tuple[int, int, int]]
    ) -> Int64[Tensor, "axes prefix"]:
        """Return positions from 1, as these models were trained."""
        return torch.arange(len(prefix))[None] + 1


class Idefics(VLMFamily):
    """Idefics3 and SmolVLM: one input an image, without the tiles that their processors can cut.

    The first SmolVLMs have the model type idefics3, so the opening token depends on the tokenizer.
    So does <global-img>, which is a special token in some of them and plain text in others.
    """

    layout = PromptLayout(
        opening=("<|begin_of_text|>", "<|im_start|>"),
        start="User:",
        before="<fake_token_around_image><global-img>",
        after="<fake_token_around_image>",
        suffix="{}<end_of_utterance>\nAssistant:",
        special=("<fake_token_around_image>", "<end_of_utterance>"),
    )
    tower_parts = ("vision_model", "connector")

    def size(self, image_px: int, processor: JsonObject, camera: Camera) -> tuple[int, int]:
        """Return the largest square of whole groups of patches, or a smaller one."""
        vision = self.config.vision_config
        unit = vision.patch_size * self.config.scale_factor
        side = image_px or vision.image_size // unit * unit
        if side % unit or side > vision.image_size:
            raise ConfigError(
                f"--vlm.image-px must be a multiple of {unit} and at most {vision.image_size} "
                f"for this model, got {side}; choose such a side"
            )
        return side, side

    def tokens(self, height: int, width: int) -> int:
        """Return the number of groups of patches."""
        unit = self.config.vision_config.patch_size * self.config.scale_factor
        return (height // unit) * (width // unit)

    def encode(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the connector's tokens."""
        tokens = network.get_image_features(pixels[:, None], return_dict=True).pooler_output
        return torch.stack(list(tokens))

    def encoder_outputs(self, images: Sequence[Float[Tensor, "_ numbers"]]) -> Any:
        """Return a list of images."""
        return SimpleNamespace(pooler_output=list(images))


class Qwen(VLMFamily):
    """Qwen2.5-VL and Qwen3-VL: any image size, and position ids in time, rows and columns.

    Qwen3-VL also adds features of the tower's inner layers to the first layers of the language
    model (deep stack); these are cached beside the tokens (`streams`).
    """

    layout = PromptLayout(
        start="<|im_start|>user\n",
        before="<|vision_start|>",
        after="<|vision_end|>",
        suffix="{}<|im_end|>\n<|im_start|>assistant\n",
        special=("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    )
    tower_parts = ("visual",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.streams = 1 + len(getattr(config.vision_config, "deepstack_visual_indexes", ()))

    def size(self, image_px: int, processor: JsonObject, camera: Camera) -> tuple[int, int]:
        """Return the camera's size in whole groups of patches, within the processor's limits.

        A square of `image_px` may be smaller than these limits.
        """
        vision = self.config.vision_config
        unit = vision.patch_size * vision.spatial_merge_size
        if image_px % unit:
            raise ConfigError(
                f"--vlm.image-px must be a multiple of {unit} for this model, got {image_px}; "
                "choose such a side"
            )
        if image_px:
            return image_px, image_px
        height, width = camera.height, camera.width
        sides: Mapping[str, int] = processor.get("size") or {}
        least = int(processor.get("min_pixels") or sides.get("shortest_edge") or 4 * unit * unit)
        most = int(processor.get("max_pixels") or sides.get("longest_edge") or 1280 * unit * unit)
        rows, columns = (round(side / unit) for side in (height, width))
        area: int = rows * columns * unit * unit
        if not least <= area <= most:
            # Scale both sides alike, rounding towards the inside of the limits.
            scale = math.sqrt((least if area < least else most) / (height * width)) / unit
            fit = math.ceil if area < least else math.floor
            rows, columns = (max(1, fit(side * scale)) for side in (height, width))
        return rows * unit, columns * unit

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the grid of patches."""
        patch = self.config.vision_config.patch_size
        return (1, height // patch, width // patch)

    def tokens(self, height: int, width: int) -> int:
        """Return the number of groups of patches."""
        _, rows, columns = self.grid(height, width)
        return rows * columns // self.config.vision_config.spatial_merge_size**2

    def encode(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the merged patches and the deep-stack features, side by side."""
        grid = torch.tensor([self.grid(*pixels.shape[2:])] * len(pixels), device=pixels.device)
        outputs = network.get_image_features(self._patches(pixels), grid, return_dict=True)
        streams = [outputs.pooler_output, *getattr(outputs, "deepstack_features", ())]
        return torch.cat([torch.stack(list(stream)) for stream in streams], dim=-1)

    def encoder_outputs(self, images: Sequence[Float[Tensor, "_ numbers"]]) -> Any:
        """Return the tokens and the deep-stack features, each a sequence over images."""
        streams = (tokens.chunk(self.streams, dim=-1) for tokens in images)
        first, *deep = zip(*streams, strict=True)
        return SimpleNamespace(pooler_output=first, deepstack_features=deep)

    def positions(
        self, network: Network, prefix: Sequence[int], grids: Sequence[tuple[int, int, int]]
    ) -> Int64[Tensor, "axes prefix"]:
        """Return positions in time, rows and columns."""
        # The function reads values, which a meta device, for models without weights, has not.
        with torch.device("cpu"):
            tokens = torch.tensor([prefix])
            kinds = (tokens == self.config.image_token_id).int()
            positions, _ = network.get_rope_index(tokens, kinds, image_grid_thw=torch.tensor(grids))
        return positions[:, 0]

    def _patches(self, pixels: Float[Tensor, "frames 3 h w"]) -> Float[Tensor, "patches numbers"]:
        """Return patches group by group, each repeated over the frames of a video's patch."""
        vision = self.config.vision_config
        patch, merge, frames = (
            vision.patch_size,
            vision.spatial_merge_size,
            vision.temporal_patch_size,
        )
        count, channels, height, width = pixels.shape
        rows, columns = height // patch // merge, width // patch // merge
        cut = pixels.reshape(count, channels, rows, merge, patch, columns, merge, patch)
        cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)
        cut = cut[:, :, :, :, :, :, None].expand(-1, -1, -1, -1, -1, -1, frames, -1, -1)
        return cut.reshape(count * rows * columns * merge**2, -1)


def family_of(config: Any) -> VLMFamily:
    """Return the family of a configuration of transformers.

    Raises:
        ConfigError: the family is not supported.
    """
    kind = str(getattr(config, "model_type", None))
    if kind == "paligemma":
        return PaliGemma(config)
    if kind in ("idefics3", "smolvlm"):
        return Idefics(config)
    if kind in ("qwen2_5_vl", "qwen3_vl"):
        return Qwen(config)
    raise ConfigError(
        f"--model must be of a family that nearer knows ({', '.join(FAMILIES)}), got {kind}; "
        "choose for instance HuggingFaceTB/SmolVLM-256M-Instruct"
    )


FAMILIES = ("paligemma", "idefics3", "smolvlm", "qwen2_5_vl", "qwen3_vl")
"""Values of model_type in config.json."""
