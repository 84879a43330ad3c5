"""Folders of tiny random dual encoders, laid out as the hub lays them out."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CONFIG_MAPPING, AutoModel

KINDS = ("clip", "siglip", "siglip2")
_SPECIAL = {
    "clip": ["<|startoftext|>", "<|endoftext|>"],
    "siglip": ["</s>"],
    "siglip2": ["<pad>", "<eos>"],
}
_SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "initializer_range": 0.2,
}  # fmt: skip


def make_dual(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write a tiny model of a kind, with a tokenizer trained on the spot; return its folder."""
    tokenizer = _tokenizer(kind)
    text = _SIZES | {
        "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": 24,
        "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": len(_SPECIAL[kind]) - 1,
    }  # fmt: skip
    vision = _SIZES | {"image_size": 32, "patch_size": 8}
    more: dict[str, Any] = {"projection_dim": 16} if kind == "clip" else {}
    if kind == "clip":
        text, vision = (one | {"projection_dim": 16} for one in (text, vision))
    else:
        text |= {"projection_size": 32}
    if kind == "siglip2":
        vision |= {"num_patches": 16}
        del vision["image_size"]
    config = CONFIG_MAPPING[kind](text_config=text, vision_config=vision, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cast(Any, AutoModel).from_config(config)
    model.save_pretrained(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    processor = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7], "resample": 3}
    if kind == "siglip2":
        processor["max_num_patches"] = 16
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def _tokenizer(kind: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=_SPECIAL[kind],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["move the red moon to the blue cube", "push it"], trainer)
    return tokenizer
