"""Kinds of dual encoders: input sizes, patches, text formats, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import CONFIG_MAPPING

from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera
from nearer.models.vlm.towers import (
    DUAL_ENCODERS,
    ClipTowers,
    DualTowers,
    SiglipNaflexTowers,
    SiglipTowers,
)
from tiny_duals import LONGEST, make_dual

WIDE = Camera("top", 24, 48)


def config_of(kind: str, **vision: Any) -> Any:
    """Return a configuration with patches of 8 pixels and an input of 32 x 32."""
    size = {"patch_size": 8, "hidden_size": 48, "num_attention_heads": 4}
    if kind == "clip":
        size["projection_size"] = 0
    config = CONFIG_MAPPING[kind](vision_config={**size, "image_size": 32, **vision})
    config.text_config.max_position_embeddings = LONGEST
    return config


def tokenizer_of(*pieces: str) -> Tokenizer:
    return Tokenizer(models.WordLevel({piece: number for number, piece in enumerate(pieces)}))


@pytest.mark.parametrize("kind", [ClipTowers, SiglipTowers])
@pytest.mark.parametrize(("image_px", "side"), [(0, 32), (16, 16), (32, 32)])
def test_size_is_a_square_of_whole_patches(
    kind: type[DualTowers], image_px: int, side: int
) -> None:
    towers = kind(config_of("siglip"))
    assert towers.size(image_px, {}, WIDE) == (side, side)
    assert towers.grid(side, side) == (side // 8, side // 8)


def test_size_of_an_input_that_no_patches_fill_is_rounded_down() -> None:
    assert ClipTowers(config_of("clip", image_size=30)).size(0, {}, WIDE) == (24, 24)


@pytest.mark.parametrize("image_px", [12, 40])
def test_size_between_patches_or_above_the_towers_is_refused(image_px: int) -> None:
    with pytest.raises(ConfigError, match=f"a multiple of 8 and at most 32 .* got {image_px}; "):
        SiglipTowers(config_of("siglip")).size(image_px, {}, WIDE)


@pytest.mark.parametrize(("most", "size"), [(2, (8, 16)), (8, (16, 32)), (18, (24, 48))])
def test_size_of_naflex_is_the_cameras_aspect_ratio_in_as_many_patches(
    most: int, size: tuple[int, int]
) -> None:
    assert SiglipNaflexTowers(config_of("siglip2")).size(0, {"max_num_patches": most}, WIDE) == size


def test_size_of_naflex_without_a_limit_has_at_most_256_patches() -> None:
    towers = SiglipNaflexTowers(config_of("siglip2"))
    rows, columns = towers.grid(*towers.size(0, {}, WIDE))
    assert 200 < rows * columns <= 256


def test_size_of_naflex_as_a_square_is_within_the_patches() -> None:
    towers = SiglipNaflexTowers(config_of("siglip2"))
    assert towers.size(32, {"max_num_patches": 16}, WIDE) == (32, 32)
    for image_px in (12, 40):
        with pytest.raises(ConfigError, match=r"a multiple of 8 with at most 16 patches .* leave"):
            towers.size(image_px, {"max_num_patches": 16}, WIDE)


def test_width_is_that_of_the_shared_space() -> None:
    clip = config_of("clip")
    clip.projection_dim = 24
    assert ClipTowers(clip).width == 24
    assert SiglipTowers(config_of("siglip")).width == 48


def test_text_format_of_clip_has_start_and_end() -> None:
    tokenizer = tokenizer_of("<|startoftext|>", "a", "b", "<|endoftext|>")
    for eos in (2, 3):  # 2 stood in every config until 2023, whatever the token was
        config = config_of("clip")
        config.text_config.eos_token_id = eos
        text_format = ClipTowers(config).text_format(tokenizer)
        assert (text_format.start, text_format.end) == ("<|startoftext|>", "<|endoftext|>")
        assert (text_format.padding, text_format.max_tokens) == (None, LONGEST)


def test_text_format_of_clip_with_another_end_is_refused() -> None:
    config = config_of("clip")
    config.text_config.eos_token_id = 7
    with pytest.raises(ConfigError, match=r"<\|endoftext\|> as token 7, .* got 0; use the tok"):
        ClipTowers(config).text_format(tokenizer_of("<|endoftext|>"))


@pytest.mark.parametrize(
    ("pieces", "end", "padding", "strips"),
    [(("</s>",), "</s>", "</s>", True), (("<eos>", "<pad>"), "<eos>", "<pad>", False)],
)
def test_text_format_of_siglip_follows_its_tokenizer(
    pieces: tuple[str, ...], end: str, padding: str, strips: bool
) -> None:
    text_format = SiglipTowers(config_of("siglip")).text_format(tokenizer_of(*pieces))
    assert (text_format.start, text_format.end, text_format.padding) == (None, end, padding)
    assert text_format.lowercase
    assert text_format.strip_punctuation is strips


def test_siglip_without_its_head_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has its head \(vision_use_head\), got one without; ch"):
        SiglipTowers(config_of("siglip", vision_use_head=False))


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2-fixed", "siglip2"])
def test_dual_encoders_are_known_by_the_model_type_of_their_config(
    kind: str, tmp_path: Path
) -> None:
    document = json.loads((make_dual(tmp_path / kind, kind) / "config.json").read_text())
    expected = {"clip": ClipTowers, "siglip2": SiglipNaflexTowers}.get(kind, SiglipTowers)
    assert DUAL_ENCODERS[document["model_type"]] is expected
