"""Tiny random dual encoders, and their folders laid out as the hub lays them out."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CONFIG_MAPPING, AutoModel
from transformers.models.clip.tokenization_clip import CLIPTokenizer
from transformers.models.siglip2.tokenization_siglip2 import Siglip2Tokenizer

from model_inputs import SPACES
from nearer.core.spaces import Spaces
from nearer.models.settings import AttentionPoolingConfig, VLMConfig
from nearer.models.vlm.dual_encoder import DualEncoder
from nearer.models.vlm.dual_encoder_loading import pretrained_dual
from nearer.models.vlm.loading import open_source

KINDS = ("clip", "siglip", "siglip2-fixed", "siglip2")
LONGEST = 64
_TEXTS = ["move the red moon to the blue cube", "push the blue cube, slide it! Red"]
_POOLING = AttentionPoolingConfig(width=16, queries=2, heads=2, hidden=16)
_TOWER: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "initializer_range": 0.2, "initializer_factor": 5.0,
}  # fmt: skip


def make_dual(folder: Path, kind: str, seed: int = 0) -> Path:
    """Write a tiny model of a kind, with a tokenizer trained on the spot; return its folder."""
    folder.mkdir(parents=True)
    tokens = _tokenizer(folder, kind)
    text = {**_TOWER, "vocab_size": len(tokens), "max_position_embeddings": LONGEST}
    text |= {"projection_size": 32, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {**_TOWER, "patch_size": 8}
    vision |= {"num_patches": 16} if kind == "siglip2" else {"image_size": 32}
    model_type = "siglip" if kind == "siglip2-fixed" else kind
    more = {"projection_dim": 24} if kind == "clip" else {}
    config = CONFIG_MAPPING[model_type](text_config=text, vision_config=vision, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cast(Any, AutoModel).from_config(config)
        for name, weight in model.named_parameters():
            # Norms and biases start as the identity; random ones show when they are left out.
            if "norm" in name or name.endswith("bias"):
                torch.nn.init.normal_(weight, 1.0 if name.endswith("weight") else 0.0, 0.3)
    model.save_pretrained(str(folder))
    (folder / "preprocessor_config.json").write_text(json.dumps(_processor(kind)))
    return folder


def small_dual_encoder(
    folder: Path, settings: VLMConfig | None = None, spaces: Spaces = SPACES
) -> DualEncoder:
    """Return the model of a folder with a small head of seeded weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        settings = settings or VLMConfig()
        return pretrained_dual(open_source(str(folder)), settings, spaces, sizes=_POOLING)


def _processor(kind: str) -> dict[str, Any]:
    values: dict[str, Any] = {
        "image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7],
        "rescale_factor": 1 / 255, "resample": 3,
    }  # fmt: skip
    if kind == "siglip2":
        return values | {"patch_size": 8, "max_num_patches": 20, "resample": 2}
    return values | {"size": {"height": 32, "width": 32}}


def _tokenizer(folder: Path, kind: str) -> list[str]:
    """Save a tokenizer as transformers does; return its vocabulary."""
    if kind == "siglip":  # transformers' own needs the package sentencepiece
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=60, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>",
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(_TEXTS, trainer)
        tokenizer.save(str(folder / "tokenizer.json"))
        return list(tokenizer.get_vocab())
    if kind == "clip":
        letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
        last_letters = [f"{letter}</w>" for letter in letters]
        pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *last_letters, "mo", "re"]
        merges = [("m", "o"), ("r", "e")]
        tokenizer = CLIPTokenizer(
            {piece: i for i, piece in enumerate(pieces)}, merges, model_max_length=LONGEST
        )
    else:
        letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
        pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *letters, "▁", "re", "▁re"]
        tokenizer = Siglip2Tokenizer(
            {piece: i for i, piece in enumerate(pieces)},
            [("r", "e"), ("▁", "re")],
            padding_side="right",
            add_eos_token=True,
        )
    tokenizer.save_pretrained(str(folder))
    return pieces
