"""What the families of vision-language models do differently, and nothing else.

A family says how large its pictures are, how its tower takes them, how many tokens one becomes,
where tokens stand, and what its prompts look like. All of them share `vlm.py`.
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
from nearer.models.vlm.prompts import Layout

Network = Any
"""A base model of transformers, without its language head; its package has no useful types."""


class Family(ABC):
    """How one family differs."""

    layout: Layout
    tower_parts: ClassVar[tuple[str, ...]]
    """Names of the modules that turn pixels into tokens of the language model."""
    both_ways: ClassVar[bool] = False
    """Tokens before the question look at each other both ways, not only back."""
    streams: int = 1
    """Numbers a token has, in widths of the language model: one, and one a deep layer."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def size(self, image_px: int, processor: Mapping[str, Any], camera: Camera) -> tuple[int, int]:
        """Return height and width of what the tower sees, in pixels.

        Raises:
            ConfigError: the tower cannot see pictures of the side that is asked for.
        """

    @abstractmethod
    def tokens(self, height: int, width: int) -> int:
        """Count the tokens of a picture of this size."""

    @abstractmethod
    def see(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the tokens that a tower makes of pictures."""

    @abstractmethod
    def seen(self, pictures: Sequence[Float[Tensor, "_ numbers"]]) -> Any:
        """Return tokens of pictures, one after the other, as the network takes them back."""

    def positions(
        self, network: Network, prefix: Sequence[int], grids: Sequence[tuple[int, int, int]]
    ) -> Int64[Tensor, "axes prefix"]:
        """Return the position of every token of the prefix; one axis, unless a family has more."""
        return torch.arange(len(prefix))[None]

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Return time, rows and columns of a picture's patches."""
        return (1, height, width)

    def tower(self, network: Network) -> list[nn.Module]:
        """Return the modules that turn pixels into tokens."""
        return [getattr(network, name) for name in self.tower_parts]

    def layers(self, network: Network, *, with_tower: bool) -> list[nn.Module]:
        """Return the layers that repeat: of the language model, and of the tower if asked for."""
        tower = {id(one) for part in self.tower(network) for one in part.modules()}
        found = [
            layer
            for stack in network.modules()
            if isinstance(stack, nn.ModuleList) and len(stack) > 1
            for layer in stack
        ]
        return [one for one in found if with_tower or id(one) not in tower]


class PaliGemma(Family):
    """PaliGemma and PaliGemma 2: SigLIP and Gemma; pictures attend to each other both ways.

    They were pretrained with a question that pictures can look at, too. Here they cannot, and it is
    read forwards, so that both questions share what was computed of the pictures; fine-tuning takes
    that in.
    """

    layout = Layout(close="<bos>", question="{}\n", special=("<bos>",))
    tower_parts = ("vision_tower", "multi_modal_projector")
    both_ways = True

    def size(self, image_px: int, processor: Mapping[str, Any], camera: Camera) -> tuple[int, int]:
        """Return the one size that the position embedding was trained for."""
        side = self.config.vision_config.image_size
        if image_px not in (0, side):
            raise ConfigError(
                f"--vlm.image-px must be {side} for this model, which sees one size only, got "
                f"{image_px}; leave it out"
            )
        return side, side

    def tokens(self, height: int, width: int) -> int:
        """Count patches."""
        patch = self.config.vision_config.patch_size
        return (height // patch) * (width // patch)

    def see(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the projected patches."""
        return network.get_image_features(pixels, return_dict=True).pooler_output

    def seen(self, pictures: Sequence[Float[Tensor, "_ numbers"]]) -> Any:
        """Return one tensor of all pictures."""
        return SimpleNamespace(pooler_output=torch.stack(list(pictures)))

    def positions(
        self, network: Network, prefix: Sequence[int], grids: Sequence[tuple[int, int, int]]
    ) -> Int64[Tensor, "axes prefix"]:
        """Count from one, as these models were trained."""
        return torch.arange(len(prefix))[None] + 1


class Idefics(Family):
    """Idefics3 and SmolVLM: pictures are seen whole, not cut into tiles as their processors can.

    The first SmolVLMs call themselves idefics3: how a prompt opens goes by the tokenizer. So does
    <global-img>, a token of its own in some of them and spelled out in others.
    """

    layout = Layout(
        opening=("<|begin_of_text|>", "<|im_start|>"),
        start="User:",
        before="<fake_token_around_image><global-img>",
        after="<fake_token_around_image>",
        question="{}<end_of_utterance>\nAssistant:",
        special=("<fake_token_around_image>", "<end_of_utterance>"),
    )
    tower_parts = ("vision_model", "connector")

    def size(self, image_px: int, processor: Mapping[str, Any], camera: Camera) -> tuple[int, int]:
        """Return the largest square that groups of patches divide, or a smaller one."""
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
        """Count groups of patches."""
        unit = self.config.vision_config.patch_size * self.config.scale_factor
        return (height // unit) * (width // unit)

    def see(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the connector's tokens."""
        seen = network.get_image_features(pixels[:, None], return_dict=True).pooler_output
        return torch.stack(list(seen))

    def seen(self, pictures: Sequence[Float[Tensor, "_ numbers"]]) -> Any:
        """Return a list of pictures."""
        return SimpleNamespace(pooler_output=list(pictures))


class Qwen(Family):
    """Qwen2.5-VL and Qwen3-VL: any size, and places in time, rows and columns.

    Qwen3-VL also hands pictures to its first layers once more; these numbers are kept beside the
    tokens (`streams`).
    """

    layout = Layout(
        start="<|im_start|>user\n",
        before="<|vision_start|>",
        after="<|vision_end|>",
        question="{}<|im_end|>\n<|im_start|>assistant\n",
        special=("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"),
    )
    tower_parts = ("visual",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.streams = 1 + len(getattr(config.vision_config, "deepstack_visual_indexes", ()))

    def size(self, image_px: int, processor: Mapping[str, Any], camera: Camera) -> tuple[int, int]:
        """Return the camera's size in whole groups of patches, within what the processor allows.

        Or the square that is asked for, as small as it may be.
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
            scale = math.sqrt((least if area < least else most) / (height * width)) / unit
            fit = math.ceil if area < least else math.floor
            rows, columns = (max(1, fit(side * scale)) for side in (height, width))
        return rows * unit, columns * unit

    def grid(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the grid of patches."""
        patch = self.config.vision_config.patch_size
        return (1, height // patch, width // patch)

    def tokens(self, height: int, width: int) -> int:
        """Count groups of patches."""
        _, rows, columns = self.grid(height, width)
        return rows * columns // self.config.vision_config.spatial_merge_size**2

    def see(
        self, network: Network, pixels: Float[Tensor, "frames 3 h w"]
    ) -> Float[Tensor, "frames tokens numbers"]:
        """Return the merged patches, and what the deep layers are given, side by side."""
        grid = torch.tensor([self.grid(*pixels.shape[2:])] * len(pixels), device=pixels.device)
        seen = network.get_image_features(self._patches(pixels), grid, return_dict=True)
        streams = [seen.pooler_output, *getattr(seen, "deepstack_features", ())]
        return torch.cat([torch.stack(list(stream)) for stream in streams], dim=-1)

    def seen(self, pictures: Sequence[Float[Tensor, "_ numbers"]]) -> Any:
        """Return the tokens, and what the deep layers are given."""
        first, *deep = zip(*(one.chunk(self.streams, dim=-1) for one in pictures), strict=True)
        return SimpleNamespace(pooler_output=first, deepstack_features=deep)

    def positions(
        self, network: Network, prefix: Sequence[int], grids: Sequence[tuple[int, int, int]]
    ) -> Int64[Tensor, "axes prefix"]:
        """Return places in time, rows and columns."""
        with torch.device("cpu"):  # it reads numbers, also where a model is without weights
            tokens = torch.tensor([prefix])
            kinds = (tokens == self.config.image_token_id).int()
            found, _ = network.get_rope_index(tokens, kinds, image_grid_thw=torch.tensor(grids))
        return found[:, 0]

    def _patches(self, pixels: Float[Tensor, "frames 3 h w"]) -> Float[Tensor, "patches numbers"]:
        """Return patches group by group, each repeated over the frames that a film would have."""
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


def family_of(config: Any) -> Family:
    """Return the family of a configuration of transformers.

    Raises:
        ConfigError: it is of none that is known here.
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
