"""Vectors of text and images equal those of transformers."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from model_inputs import (
    noise_images,
)
from nearer.models.vlm.loading import open_source
from tiny_duals import LONGEST, small_dual_encoder


def transformers_tokens(folder: Path, text: str) -> Tensor:
    """Return the tokens of transformers' own tokenizer; those of SigLIP are computed here.

    SigLIP's tokenizer needs a package that is not installed. It lower-cases, strips punctuation,
    splits at spaces and pads with end tokens.
    """
    if folder.name == "siglip":
        tokenizer = small_dual_encoder(folder).text_tokenizer.tokenizer
        pieces = [piece for word in text.split() for piece in tokenizer.encode(word).ids]
        return torch.tensor([[*pieces, *[1] * (LONGEST - len(pieces))]])
    more = {} if folder.name == "clip" else {"padding": "max_length", "max_length": LONGEST}
    tokenizer = cast(Any, AutoTokenizer).from_pretrained(str(folder))
    return tokenizer(text, return_tensors="pt", **more)["input_ids"]


def test_dual_encoder_text_vector_equals_that_of_transformers(dual_encoder_folder: Path) -> None:
    folder = dual_encoder_folder
    model = small_dual_encoder(folder)
    transformers_model = cast(Any, AutoModel).from_pretrained(str(folder))
    without_punctuation = folder.name == "siglip"
    texts = {
        "push the blue cube": "push the blue cube",
        "Push the RED cube, slide!": "push the red cube slide"
        if without_punctuation
        else "Push the RED cube, slide!",
    }
    for text, plain in texts.items():
        tokens = transformers_tokens(folder, plain)
        assert model.text_tokenizer.tokens(text) == tokens[0].tolist()
        with torch.inference_mode():
            expected = transformers_model.get_text_features(tokens).pooler_output
        torch.testing.assert_close(model.vectors([text]), expected, rtol=1e-5, atol=1e-5)
    different = model.vectors(["push the blue cube", "slide it"])
    assert (different[0] - different[1]).abs().max() > 0.01


def transformers_preprocessing(folder: Path, image: Any) -> dict[str, Tensor]:
    """Return an image as transformers' own processor preprocesses it, stretched to the square."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    values = open_source(str(folder)).processor
    kind = Siglip2ImageProcessorPil if folder.name == "siglip2" else SiglipImageProcessorPil
    return dict(cast(Any, kind)(**values)(image, return_tensors="pt"))


def test_dual_encoder_image_vector_from_bytes_equals_that_of_transformers(
    dual_encoder_folder: Path,
) -> None:
    """The whole image's vector; "naflex" pads its patches in transformers and not here."""
    folder = dual_encoder_folder
    model = small_dual_encoder(folder)
    transformers_model = cast(Any, AutoModel).from_pretrained(str(folder))
    for image in noise_images(2)["top"]:
        with torch.inference_mode():
            ours = model.encode_images(torch.from_numpy(image)[None], 0)
            expected = transformers_model.get_image_features(
                **transformers_preprocessing(folder, image)
            ).pooler_output
        assert ours.shape[1] == model.counts[0]
        # Resizing is equal to within a level and a half of 255.
        torch.testing.assert_close(ours[:, -1], expected, rtol=0.05, atol=0.05)
        assert (ours[:, :-1] - ours[:, -1:]).abs().max() > 0.1


def test_dual_encoder_image_vector_from_pixels_equals_that_of_transformers(
    dual_encoder_folder: Path,
) -> None:
    folder = dual_encoder_folder
    model = small_dual_encoder(folder)
    transformers_model = cast(Any, AutoModel).from_pretrained(str(folder))
    processed = transformers_preprocessing(folder, noise_images(1)["top"][0])
    pixels = processed["pixel_values"]
    if folder.name == "siglip2":
        rows, columns = processed["spatial_shapes"][0].tolist()
        assert (rows, columns) == model.towers.grid(
            model.preprocessing[0].height, model.preprocessing[0].width
        )
        assert pixels.shape[1] > rows * columns, "theirs is padded"
        patches = pixels[0, : rows * columns].reshape(rows, columns, 8, 8, 3)
        pixels = patches.permute(4, 0, 2, 1, 3).reshape(1, 3, rows * 8, columns * 8)
    with torch.inference_mode():
        ours = model.towers.encode(model.network, pixels)[:, -1]
        expected = transformers_model.get_image_features(**processed).pooler_output
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_dual_encoder_patch_vector_is_the_head_applied_to_that_patch(
    dual_encoder_folder: Path,
) -> None:
    """CLIP: norm and projection. SigLIP: attention over one key returns its value, then the MLP."""
    folder = dual_encoder_folder
    model = small_dual_encoder(folder).eval()
    pixels = model.preprocessing[0](torch.from_numpy(noise_images(1)["top"]))
    tower = model.network.vision_model
    recorded: list[Tensor] = []
    hooked = tower.encoder if folder.name == "clip" else tower.post_layernorm
    hook = hooked.register_forward_hook(
        lambda _, inputs, output: recorded.append(getattr(output, "last_hidden_state", output))
    )
    with torch.inference_mode():
        ours = model.towers.encode(model.network, pixels)[0, 2]
        hook.remove()
        if folder.name == "clip":
            expected = model.network.visual_projection(tower.post_layernorm(recorded[0][0, 1 + 2]))
        else:
            head = tower.head
            weight, bias = (
                getattr(head.attention, f"in_proj_{name}")[-32:] for name in ("weight", "bias")
            )
            value = head.attention.out_proj(recorded[0][0, 2] @ weight.T + bias)
            expected = value + head.mlp(head.layernorm(value))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
