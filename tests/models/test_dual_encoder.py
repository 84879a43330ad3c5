"""Dual encoders: every kind trains, saves, loads and acts; vectors equal those of transformers."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from model_inputs import (
    INSTRUCTIONS,
    ROBOTS,
    SPACES,
    fine_tune,
    model_inputs,
    noise_images,
    robot_rngs,
)
from nearer.algorithm.action_tokens import NUM_TOKENS
from nearer.algorithm.model import Inputs
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.settings import AttentionPoolingConfig, VLMConfig
from nearer.models.vlm.attention_pooling import AttentionPooling
from nearer.models.vlm.dual_encoder import DualEncoder
from nearer.models.vlm.dual_encoder_loading import pretrained_dual
from nearer.models.vlm.loading import num_parameters, open_source
from nearer.models.vlm.memory_check import dual_bytes_needed
from nearer.runs.checkpoint import load_model, save_checkpoint, weights_hash
from nearer.testing import check_model
from tiny_duals import KINDS, LONGEST, make_dual

TINY = AttentionPoolingConfig(width=16, queries=2, heads=2, hidden=16)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("duals")
    return {kind: make_dual(root / kind, kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture(params=["clip", "siglip2"])
def either(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    """Return a CLIP's or a SigLIP 2's folder, where only the towers differ."""
    return folders[request.param]


@pytest.fixture
def clip(folders: dict[str, Path]) -> Path:
    return folders["clip"]


def small_model(
    folder: Path, settings: VLMConfig | None = None, spaces: Spaces = SPACES
) -> DualEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        settings = settings or VLMConfig()
        return pretrained_dual(open_source(str(folder)), settings, spaces, sizes=TINY)


def test_dual_encoder_trained_and_saved_loads_with_the_same_outputs(
    folder: Path, tmp_path: Path
) -> None:
    model = small_model(folder)
    inputs = model_inputs(model)
    before = weights_hash(model.network)
    losses = fine_tune(model, inputs, updates=5)
    assert losses[-1] < losses[0]
    assert weights_hash(model.network) == before, "both towers must be frozen"
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, DualEncoder)
    assert weights_hash(loaded) == weights_hash(model)
    assert loaded.vision_encoder.identity == model.vision_encoder.identity
    assert torch.equal(model_inputs(loaded).features, inputs.features)
    with torch.inference_mode():
        saved, restored = (it.answers(inputs, robot_rngs()) for it in (model, loaded))
    assert all(torch.equal(a, b) for a, b in zip(saved, restored, strict=True))


def test_dual_encoder_keeps_the_contract_of_a_model(either: Path) -> None:
    model = small_model(either).eval()
    inputs = model_inputs(model)
    check_model(model, inputs)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, robot_rngs())
        both = model.answers(inputs, robot_rngs())
        assert torch.equal(both[0], actions)
        assert torch.equal(both[1], log_prob)
        assert torch.equal(both[2], model.steps_to_go_logits(inputs))
    assert log_prob.std() > 0.01


def their_tokens(either: Path, text: str) -> Tensor:
    """Return the tokens of transformers' own tokenizer; those of SigLIP are computed here.

    SigLIP's tokenizer needs a package that is not installed. It lower-cases, strips punctuation,
    splits at spaces and pads with end tokens.
    """
    if either.name == "siglip":
        tokenizer = small_model(either).text_tokenizer.tokenizer
        pieces = [piece for word in text.split() for piece in tokenizer.encode(word).ids]
        return torch.tensor([[*pieces, *[1] * (LONGEST - len(pieces))]])
    more = {} if either.name == "clip" else {"padding": "max_length", "max_length": LONGEST}
    tokenizer = cast(Any, AutoTokenizer).from_pretrained(str(either))
    return tokenizer(text, return_tensors="pt", **more)["input_ids"]


def test_text_tower_vector_equals_that_of_transformers(folder: Path) -> None:
    model = small_model(folder)
    theirs = cast(Any, AutoModel).from_pretrained(str(folder))
    bare = folder.name == "siglip"
    texts = {
        "push the blue cube": "push the blue cube",
        "Push the RED cube, slide!": "push the red cube slide"
        if bare
        else "Push the RED cube, slide!",
    }
    for text, plain in texts.items():
        tokens = their_tokens(folder, plain)
        assert model.text_tokenizer.tokens(text) == tokens[0].tolist()
        with torch.inference_mode():
            expected = theirs.get_text_features(tokens).pooler_output
        torch.testing.assert_close(model.vectors([text]), expected, rtol=1e-5, atol=1e-5)
    different = model.vectors(["push the blue cube", "slide it"])
    assert (different[0] - different[1]).abs().max() > 0.01


def their_preprocessing(folder: Path, image: Any) -> dict[str, Tensor]:
    """Return an image as transformers' own processor preprocesses it, stretched to the square."""
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

    values = open_source(str(folder)).processor
    kind = Siglip2ImageProcessorPil if folder.name == "siglip2" else SiglipImageProcessorPil
    return dict(cast(Any, kind)(**values)(image, return_tensors="pt"))


def test_image_vector_from_bytes_equals_that_of_transformers(folder: Path) -> None:
    """The whole image's vector; "naflex" pads its patches in transformers and not here."""
    model = small_model(folder)
    theirs = cast(Any, AutoModel).from_pretrained(str(folder))
    for image in noise_images(2)["top"]:
        with torch.inference_mode():
            ours = model.encode_images(torch.from_numpy(image)[None], 0)
            expected = theirs.get_image_features(**their_preprocessing(folder, image)).pooler_output
        assert ours.shape[1] == model.counts[0]
        # Resizing is equal to within a level and a half of 255.
        torch.testing.assert_close(ours[:, -1], expected, rtol=0.05, atol=0.05)
        assert (ours[:, :-1] - ours[:, -1:]).abs().max() > 0.1


def test_image_vector_from_pixels_equals_that_of_transformers(folder: Path) -> None:
    model = small_model(folder)
    theirs = cast(Any, AutoModel).from_pretrained(str(folder))
    theirs_in = their_preprocessing(folder, noise_images(1)["top"][0])
    pixels = theirs_in["pixel_values"]
    if folder.name == "siglip2":
        rows, columns = theirs_in["spatial_shapes"][0].tolist()
        assert (rows, columns) == model.towers.grid(
            model.preprocessing[0].height, model.preprocessing[0].width
        )
        assert pixels.shape[1] > rows * columns, "theirs is padded"
        cut = pixels[0, : rows * columns].reshape(rows, columns, 8, 8, 3)
        pixels = cut.permute(4, 0, 2, 1, 3).reshape(1, 3, rows * 8, columns * 8)
    with torch.inference_mode():
        ours = model.towers.encode(model.network, pixels)[:, -1]
        expected = theirs.get_image_features(**theirs_in).pooler_output
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


def test_patch_vector_is_the_towers_own_head_of_that_patch(folder: Path) -> None:
    """CLIP: norm and projection. SigLIP: attention over one key returns its value, then the MLP."""
    model = small_model(folder).eval()
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


def test_dual_encoder_probabilities_of_all_actions_sum_to_one(clip: Path) -> None:
    model = small_model(clip).eval()
    inputs = model_inputs(model).rows(torch.tensor([1] * NUM_TOKENS**2))
    tokens = torch.cartesian_prod(torch.arange(NUM_TOKENS), torch.arange(NUM_TOKENS))
    with torch.inference_mode():
        total = model.log_prob(inputs, model.tokens.decode(tokens)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-4)


def test_steps_to_go_of_changed_inputs_changes_and_of_other_rows_does_not(either: Path) -> None:
    model = small_model(either).eval()
    inputs = model_inputs(model)
    before = inputs.features.clone()
    before[:, : model.vision_encoder.encoding_width] = before[
        :1, : model.vision_encoder.encoding_width
    ]
    others = {
        "the frame before": replace(inputs, features=before),
        "words": replace(inputs, instructions=INSTRUCTIONS[::-1]),
        "state": replace(inputs, state=inputs.state.flip(0)),
    }
    with torch.inference_mode():
        logits = model.steps_to_go_logits(inputs)
        for what, other in others.items():
            assert (model.steps_to_go_logits(other) - logits).abs().max() > 1e-3, what
        alone = [model.steps_to_go_logits(inputs.rows(slice(i, i + 1))) for i in range(ROBOTS)]
    torch.testing.assert_close(torch.cat(alone), logits, rtol=1e-4, atol=1e-4)


def test_text_vector_cached_in_inference_mode_serves_training(clip: Path) -> None:
    model = small_model(clip)
    calls: list[Any] = []
    model.network.text_model.register_forward_hook(lambda *_: calls.append(None))
    inputs = model_inputs(model)
    with torch.inference_mode():
        model.eval().sample(inputs, robot_rngs())
    model.train().steps_to_go_logits(inputs).square().mean().backward()
    assert len(calls) == len(set(INSTRUCTIONS))


@pytest.mark.parametrize("tower", ["frozen", "trained"])
def test_gradients_of_a_frozen_or_trained_tower_reach_trainable_weights_only(
    either: Path, tower: Any
) -> None:
    settings = VLMConfig(tower=tower, checkpointing=tower == "trained", precision="bfloat16")
    model = small_model(either, settings)
    inputs = model_inputs(model)
    model.train().steps_to_go_logits(inputs).square().mean().backward()
    model.log_prob(inputs, torch.randn(ROBOTS, 2)).mean().backward()
    weights = dict(model.named_parameters())
    with_gradient = {name for name, weight in weights.items() if weight.grad is not None}
    trainable = {name for name, weight in weights.items() if weight.requires_grad}
    assert with_gradient == trainable, "distributed training needs a gradient for every weight"
    in_network = {name for name in with_gradient if name.startswith("network.")}
    in_tower = {id(weight) for part in model.tower for weight in part.parameters()}
    tower_names = {name for name, weight in weights.items() if id(weight) in in_tower}
    assert in_network == (tower_names if tower == "trained" else set())
    assert all(weight.isfinite().all() for weight in weights.values())


def test_dual_encoder_trained_tower_is_frozen_once_loaded(either: Path, tmp_path: Path) -> None:
    model = small_model(either, VLMConfig(tower="trained"))
    assert model.vision_encoder.width == 2 * 24 * 40 * 3, "Stage 1 must get raw pixels"
    before = weights_hash(torch.nn.ModuleList(model.tower))
    text_before = weights_hash(model.network.text_model)
    fine_tune(model, model_inputs(model), updates=1)
    assert weights_hash(torch.nn.ModuleList(model.tower)) != before
    assert weights_hash(model.network.text_model) == text_before
    with torch.inference_mode():
        expected = model.steps_to_go_logits(model_inputs(model))
    save_checkpoint(tmp_path / "000001", model, None)
    loaded = load_model(tmp_path / "000001", build_model)
    assert isinstance(loaded, DualEncoder)
    assert not any(weight.requires_grad for weight in loaded.network.parameters())
    with torch.inference_mode():
        logits = loaded.steps_to_go_logits(model_inputs(loaded))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_gradients_of_an_image_of_one_colour_are_finite(either: Path) -> None:
    model = small_model(either, VLMConfig(tower="trained"))
    encodings = model.vision_encoder.encode(
        {"top": np.zeros((ROBOTS, 24, 40, 3), np.uint8)}, INSTRUCTIONS
    )
    features = torch.from_numpy(model.vision_encoder.track(None, encodings))
    inputs = replace(model_inputs(model), features=features)
    model.steps_to_go_logits(inputs).square().mean().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_attention_pooling_of_a_patch_equal_to_the_sentence_returns_its_position() -> None:
    """2 x 4 patches; the sentence is the vector of the patch below right of the centre."""
    config = AttentionPoolingConfig(width=4, queries=1, heads=1)
    pooling = AttentionPooling(config, 8, [(2, 4)], frames=1)
    with torch.no_grad():
        pooling.sharpness.fill_(1000.0)
    patches = torch.cat([torch.eye(8), torch.zeros(1, 8)])[None]
    pooled = pooling([patches], torch.eye(8)[[6]])
    position, similarity = pooled[0, -3:-1], pooled[0, -1]
    torch.testing.assert_close(position, torch.tensor([0.25, 0.5]))
    assert similarity == 0, "the whole image's vector is orthogonal to the sentence"


def test_image_px_smaller_than_the_towers_gives_fewer_patches(either: Path) -> None:
    model = small_model(either, VLMConfig(image_px=16, frames=1))
    assert model.counts == [5]
    assert model.vision_encoder.width == 5 * model.towers.width
    with pytest.raises(ConfigError, match=r"--vlm\.image-px must be a multiple of 8"):
        small_model(either, VLMConfig(image_px=20))
    with pytest.raises(ConfigError, match="at most"):
        small_model(either, VLMConfig(image_px=64))


def test_dual_encoder_with_two_cameras_and_no_state_keeps_the_contract(either: Path) -> None:
    two = replace(SPACES, agent_pos=0, cameras=(Camera("top", 24, 40), Camera("wrist", 16, 16)))
    model = small_model(either, spaces=two).eval()
    images = noise_images() | {"wrist": np.zeros((ROBOTS, 16, 16, 3), dtype=np.uint8)}
    encodings = model.vision_encoder.encode(images, INSTRUCTIONS)
    images["wrist"] += 200
    other = model.vision_encoder.encode(images, INSTRUCTIONS)
    first = model.widths[0]
    assert np.array_equal(encodings[:, :first], other[:, :first])
    assert not np.array_equal(encodings[:, first:], other[:, first:])
    features = torch.from_numpy(model.vision_encoder.track(None, encodings))
    inputs = Inputs(state=torch.zeros(ROBOTS, 0), features=features, instructions=INSTRUCTIONS)
    model.normalise_by(inputs, torch.randn(ROBOTS, 2))
    check_model(model, inputs)
    assert model.normalised_inputs(inputs).shape == (ROBOTS, 4 * model.towers.width)


def test_text_tokens_of_a_long_or_injected_instruction_are_refused(folder: Path) -> None:
    model = small_model(folder)
    with pytest.raises(
        ConfigError, match=f"at most {LONGEST - 1 - (folder.name == 'clip')} tokens"
    ):
        model.vectors(["go " * 50])
    if folder.name == "siglip":  # it strips punctuation, and special tokens with it
        return
    end = "<|endoftext|>" if folder.name == "clip" else "<eos>"
    with pytest.raises(ConfigError, match="must be words"):
        model.vectors([f"push it {end} or not"])


def copy_of(folder: Path, to: Path, **files: str | None) -> str:
    """Return a copy of a model's folder with some files replaced, or left out."""
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    for file, text in files.items():
        path = to / file.replace("_json", ".json")
        path.unlink() if text is None else path.write_text(text)
    return str(to)


def test_open_source_of_an_unsupported_dual_encoder_is_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    clip, siglip = folders["clip"], folders["siglip"]
    other = '{"model_type": "chinese_clip", "vision_config": {}}'
    other = copy_of(clip, tmp_path / "other", config_json=other)
    with pytest.raises(ConfigError, match=r"dual encoder .*'chinese_clip', which takes images"):
        open_source(other)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        open_source(copy_of(clip, tmp_path / "mute", tokenizer_json=None))
    headless = (siglip / "config.json").read_text()
    headless = headless.replace('"vision_use_head": true', '"vision_use_head": false')
    with pytest.raises(ConfigError, match="vision_use_head"):
        small_model(Path(copy_of(siglip, tmp_path / "headless", config_json=headless)))
    words = (siglip / "tokenizer.json").read_text()
    with pytest.raises(ConfigError, match=r"<\|endoftext\|>"):
        small_model(Path(copy_of(clip, tmp_path / "words", tokenizer_json=words)))
    ends = (clip / "config.json").read_text().replace('"eos_token_id": 1', '"eos_token_id": 7')
    with pytest.raises(ConfigError, match="as token 7"):
        small_model(Path(copy_of(clip, tmp_path / "ends", config_json=ends)))
    with pytest.raises(ConfigError, match="camera"):
        small_model(clip, spaces=replace(SPACES, cameras=()))
    for settings, reason in (
        (VLMConfig(adapt="lora"), "--vlm.adapt must be full"),
        (VLMConfig(checkpointing=True), "--vlm.checkpointing must go with --vlm.tower trained"),
    ):
        with pytest.raises(ConfigError, match=reason):
            small_model(clip, settings)


def test_weights_that_are_damaged_or_of_one_tower_only_are_refused(
    clip: Path, tmp_path: Path
) -> None:
    torn = Path(copy_of(clip, tmp_path / "torn"))
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="safetensors"):
        small_model(torn)
    half = Path(copy_of(clip, tmp_path / "half"))
    cast(Any, AutoModel).from_pretrained(str(clip)).vision_model.save_pretrained(
        str(tmp_path / "v")
    )
    (half / "model.safetensors").write_bytes((tmp_path / "v/model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"got none for .* more"):
        small_model(half)


def test_load_of_other_preprocessing_or_without_tokenizer_is_refused(
    clip: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "000001", small_model(clip), None)
    config = tmp_path / "000001/pretrained_model/config.json"
    whole = config.read_text()
    config.write_text(whole.replace('"bicubic"', '"bilinear"'))
    with pytest.raises(CheckpointError, match="preprocessed in another way"):
        load_model(tmp_path / "000001", build_model)
    config.write_text(whole)
    (tmp_path / "000001/pretrained_model/tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        load_model(tmp_path / "000001", build_model)


@pytest.mark.parametrize(("tower", "way_out"), [("frozen", "smaller"), ("trained", "leave out")])
def test_dual_encoder_too_large_for_memory_is_refused(
    clip: Path, monkeypatch: pytest.MonkeyPatch, tower: Any, way_out: str
) -> None:
    settings = VLMConfig(tower=tower)
    needed = dual_bytes_needed(num_parameters(clip), settings)
    monkeypatch.setattr("nearer.models.vlm.memory_check.free_memory", lambda settings: needed - 1)
    with pytest.raises(ConfigError, match=way_out):
        small_model(clip, settings)
    monkeypatch.setattr("nearer.models.vlm.memory_check.free_memory", lambda settings: needed)
    small_model(clip, settings)


def test_new_model_of_a_dual_encoders_folder_is_a_dual_encoder(clip: Path) -> None:
    model = new_model(str(clip), VLMConfig(), SPACES, INSTRUCTIONS, seed=0)
    assert isinstance(model, DualEncoder)
