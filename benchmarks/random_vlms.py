"""Folders of vision-language models with random weights, in the sizes of those on the hub.

No network is needed: configs stand here, the tokenizer is trained on the spot, weights are drawn.
The folders are laid out as the hub lays them out, so that `nearer sft --model FOLDER` takes them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

_SPECIAL = [
    "<pad>", "<bos>", "<eos>", "<image>", "<|im_start|>", "<end_of_utterance>",
    "<fake_token_around_image>", "<global-img>",
]  # fmt: skip
_TEXTS = [
    "User: What robot action to move the red moon to the blue cube please? Assistant:",
    "How many steps to move the red moon to the blue cube please?",
]
_CONFIG = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class VLMShape:
    """Sizes of a vision-language model.

    Attributes:
        family: model_type of config.json, smolvlm or paligemma.
        vision: settings of the image tower.
        text: settings of the language model.
        more: further settings of config.json.
        batch_size: frames an objective and update, in measurements of Stage 1.
    """

    family: str
    vision: Mapping[str, Any]
    text: Mapping[str, Any]
    more: Mapping[str, Any]
    batch_size: int

    def with_layers(self, count: int) -> "VLMShape":
        """Return the same widths with so many layers in the tower and in the language model."""
        layers = {"num_hidden_layers": count}
        return replace(self, vision={**self.vision, **layers}, text={**self.text, **layers})


# From the config.json files on the hub: SmolVLM-256M-Instruct, SmolVLM-Instruct (2.2 B),
# paligemma-3b-pt-224.
SMOLVLM_256M = VLMShape(
    family="smolvlm",
    vision={
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
    },
    text={
        "vocab_size": 49_280, "hidden_size": 576, "intermediate_size": 1536,
        "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    },
    more={"scale_factor": 4},
    batch_size=32,
)  # fmt: skip
SMOLVLM_2B = VLMShape(
    family="smolvlm",
    vision={
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "image_size": 384, "patch_size": 14,
    },
    text={
        "vocab_size": 49_155, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 32,
    },
    more={"scale_factor": 3},
    batch_size=16,
)  # fmt: skip
PALIGEMMA_3B = VLMShape(
    family="paligemma",
    vision={
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
        "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "projection_dim": 2048,
    },
    text={
        "vocab_size": 257_216, "hidden_size": 2048, "intermediate_size": 16_384,
        "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1,
        "head_dim": 256,
    },
    more={"projection_dim": 2048},
    batch_size=4,
)  # fmt: skip
SHAPES: Mapping[str, VLMShape] = {
    "smolvlm_256m": SMOLVLM_256M,
    "smolvlm_2b": SMOLVLM_2B,
    "paligemma_3b": PALIGEMMA_3B,
}
_TINY_SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
_TINY_TEXT = {**_TINY_SIZES, "vocab_size": 512, "num_key_value_heads": 2, "head_dim": 8}
_TINY_VISION = {**_TINY_SIZES, "image_size": 32, "patch_size": 8}


def tiny(shape: VLMShape) -> VLMShape:
    """Return a shape of the same family with two narrow layers, for machines without a GPU."""
    paligemma = shape.family == "paligemma"
    return VLMShape(
        family=shape.family,
        vision={**_TINY_VISION, "projection_dim": 32} if paligemma else _TINY_VISION,
        text=_TINY_TEXT,
        more={"projection_dim": 32} if paligemma else {"scale_factor": 2},
        batch_size=4,
    )


def write_vlm(shape: VLMShape, folder: Path, device: torch.device, seed: int = 0) -> Path:
    """Write a model of random weights in bfloat16 unless it is there; return its folder.

    Args:
        shape: its sizes.
        folder: made if it is not there.
        device: where the weights are drawn; billions take long on a CPU.
        seed: of the weights.
    """
    if (folder / _CONFIG).exists():
        return folder
    config = cast(Any, CONFIG_MAPPING[shape.family])(
        vision_config={"model_type": _vision_type(shape.family), **shape.vision},
        text_config={
            "model_type": "gemma" if shape.family == "paligemma" else "llama",
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **shape.text,
        },
        image_token_id=_SPECIAL.index("<image>"),
        **shape.more,
    )  # fmt: skip
    torch.manual_seed(seed)
    with torch.device(device):
        model = cast(Any, AutoModelForImageTextToText).from_config(config, dtype=torch.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(folder / "tokenizer.json"))
    processor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    model.save_pretrained(str(folder))
    return folder


def _vision_type(family: str) -> str:
    return "siglip_vision_model" if family == "paligemma" else "smolvlm_vision"


def _tokenizer() -> Tokenizer:
    """Return a tokenizer with a token a word of the prompts, about as a real one has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return tokenizer
