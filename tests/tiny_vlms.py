"""Folders of tiny random vision-language models, laid out as the hub lays them out."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

FAMILIES = ("paligemma", "paligemma2", "idefics3", "smolvlm", "qwen2_5_vl", "qwen3_vl")
_SPECIAL = [
    "<pad>", "<bos>", "<eos>", "<image>", "<video>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|begin_of_text|>", "<end_of_utterance>",
    "<fake_token_around_image>", "<global-img>",
]  # fmt: skip
_TEXTS = ["What robot action to move the red moon?", "How many steps to push the blue cube?"]
_IMAGE, _VIDEO, _START, _END = (_SPECIAL.index(token) for token in (
    "<image>", "<video>", "<|vision_start|>", "<|vision_end|>"
))  # fmt: skip
_TOWER: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "initializer_range": 0.2,
}  # fmt: skip
_QWEN_TOWER: dict[str, Any] = {
    "depth": 3, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "patch_size": 8,
    "spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32,
    "initializer_range": 0.2,
}  # fmt: skip
_QWEN_TOKENS = {
    "image_token_id": _IMAGE, "video_token_id": _VIDEO,
    "vision_start_token_id": _START, "vision_end_token_id": _END,
}  # fmt: skip


def make_vlm(folder: Path, family: str, seed: int = 0) -> Path:
    """Write a tiny model of a family, with a tokenizer trained on the spot; return its folder.

    As on the hub, config.json says bfloat16 for most families.
    """
    tokenizer = _tokenizer()
    config = CONFIG_MAPPING[family.replace("paligemma2", "paligemma")](
        **_configs(tokenizer.get_vocab_size())[family]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cast(Any, AutoModelForImageTextToText).from_config(config)
    model.save_pretrained(str(folder))
    if family not in ("paligemma", "qwen3_vl"):
        config = json.loads((folder / "config.json").read_text()) | {"dtype": "bfloat16"}
        (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "preprocessor_config.json").write_text(json.dumps(_processor(family)))
    return folder


def _processor(family: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7],
        "rescale_factor": 1 / 255, "resample": 1 if family in ("idefics3", "smolvlm") else 3,
    }  # fmt: skip
    if family.startswith("qwen"):
        values |= {"min_pixels": 256, "max_pixels": 32 * 32}
    return values


def _tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return tokenizer


def _configs(vocabulary: int) -> dict[str, dict[str, Any]]:
    def text(kind: str, **more: Any) -> dict[str, Any]:
        return {
            "model_type": kind, "vocab_size": vocabulary, "hidden_size": 32,
            "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2,
            **more,
        }  # fmt: skip

    def rope(sections: list[int]) -> dict[str, Any]:
        return {
            "rope_parameters": {
                "rope_type": "default", "mrope_section": sections, "rope_theta": 1e4
            }
        }  # fmt: skip

    siglip = {
        **_TOWER, "model_type": "siglip_vision_model", "projection_dim": 32,
        "vision_use_head": False,
    }  # fmt: skip
    gemma2 = {"query_pre_attn_scalar": 8, "sliding_window": 512}
    return {
        "paligemma": {
            "vision_config": siglip, "text_config": text("gemma"), "image_token_id": _IMAGE,
            "projection_dim": 32,
        },
        "paligemma2": {
            "vision_config": siglip, "text_config": text("gemma2", **gemma2),
            "image_token_id": _IMAGE, "projection_dim": 32,
        },
        "idefics3": {
            "vision_config": {**_TOWER, "model_type": "idefics3_vision"},
            "text_config": text("llama"), "image_token_id": _IMAGE, "scale_factor": 2,
        },
        "smolvlm": {
            "vision_config": {**_TOWER, "model_type": "smolvlm_vision"},
            "text_config": text("llama"), "image_token_id": _IMAGE, "scale_factor": 2,
        },
        "qwen2_5_vl": {
            "vision_config": {**_QWEN_TOWER, "window_size": 32, "fullatt_block_indexes": [1]},
            "text_config": text("qwen2_5_vl_text", **rope([1, 1, 2])), **_QWEN_TOKENS,
        },
        "qwen3_vl": {
            "vision_config": {
                **_QWEN_TOWER, "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 16,
            },
            "text_config": text("qwen3_vl_text", **rope([2, 1, 1])), **_QWEN_TOKENS,
        },
    }  # fmt: skip
