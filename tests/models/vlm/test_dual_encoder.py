"""Dual encoders: every kind trains, saves, loads and acts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model_inputs import (
    INSTRUCTIONS,
    ROBOTS,
    SPACES,
    changed_inputs,
    fine_tune,
    model_inputs,
    noise_images,
    probability_of_all_actions,
    robot_rngs,
)
from nearer.algorithm.model import Inputs
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera
from nearer.models.factory import build_model
from nearer.models.settings import VLMConfig
from nearer.models.vlm.dual_encoder import DualEncoder
from nearer.runs.checkpoint import load_model, save_checkpoint, weights_hash
from nearer.testing import check_model
from tiny_duals import LONGEST, small_dual_encoder


def test_dual_encoder_trained_and_saved_loads_with_the_same_outputs(
    dual_encoder_folder: Path, tmp_path: Path
) -> None:
    model = small_dual_encoder(dual_encoder_folder)
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
        saved, restored = (m.sample_and_steps_to_go(inputs, robot_rngs()) for m in (model, loaded))
    assert all(torch.equal(a, b) for a, b in zip(saved, restored, strict=True))


def test_dual_encoder_keeps_the_contract_of_a_model(clip_or_siglip2: Path) -> None:
    model = small_dual_encoder(clip_or_siglip2).eval()
    inputs = model_inputs(model)
    check_model(model, inputs)
    with torch.inference_mode():
        actions, log_prob = model.sample(inputs, robot_rngs())
        both = model.sample_and_steps_to_go(inputs, robot_rngs())
        assert torch.equal(both[0], actions)
        assert torch.equal(both[1], log_prob)
        assert torch.equal(both[2], model.steps_to_go_logits(inputs))
    assert log_prob.std() > 0.01


def test_dual_encoder_probabilities_of_all_actions_sum_to_one(clip: Path) -> None:
    model = small_dual_encoder(clip).eval()
    assert probability_of_all_actions(model) == pytest.approx(1, abs=1e-4)


def test_dual_encoder_steps_to_go_depend_on_their_own_row_of_inputs_only(
    clip_or_siglip2: Path,
) -> None:
    model = small_dual_encoder(clip_or_siglip2).eval()
    inputs = model_inputs(model)
    with torch.inference_mode():
        logits = model.steps_to_go_logits(inputs)
        for part, changed in changed_inputs(model, inputs).items():
            assert (model.steps_to_go_logits(changed) - logits).abs().max() > 1e-3, part
        alone = [model.steps_to_go_logits(inputs.rows(slice(i, i + 1))) for i in range(ROBOTS)]
    torch.testing.assert_close(torch.cat(alone), logits, rtol=1e-4, atol=1e-4)


def test_dual_encoder_text_vector_cached_in_inference_mode_serves_training(clip: Path) -> None:
    model = small_dual_encoder(clip)
    calls: list[Any] = []
    model.network.text_model.register_forward_hook(lambda *_: calls.append(None))
    inputs = model_inputs(model)
    with torch.inference_mode():
        model.eval().sample(inputs, robot_rngs())
    model.train().steps_to_go_logits(inputs).square().mean().backward()
    assert len(calls) == len(set(INSTRUCTIONS))


@pytest.mark.parametrize("tower", ["frozen", "trained"])
def test_dual_encoder_gradients_reach_trainable_weights_only(
    clip_or_siglip2: Path, tower: Any
) -> None:
    settings = VLMConfig(tower=tower, checkpointing=tower == "trained", precision="bfloat16")
    model = small_dual_encoder(clip_or_siglip2, settings)
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


def test_dual_encoder_gradients_of_an_image_of_one_colour_are_finite(clip_or_siglip2: Path) -> None:
    model = small_dual_encoder(clip_or_siglip2, VLMConfig(tower="trained"))
    encodings = model.vision_encoder.encode(
        {"top": np.zeros((ROBOTS, 24, 40, 3), np.uint8)}, INSTRUCTIONS
    )
    features = torch.from_numpy(model.vision_encoder.track(None, encodings))
    inputs = replace(model_inputs(model), features=features)
    model.steps_to_go_logits(inputs).square().mean().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_dual_encoder_with_two_cameras_and_no_state_keeps_the_contract(
    clip_or_siglip2: Path,
) -> None:
    spaces = replace(SPACES, agent_pos=0, cameras=(Camera("top", 24, 40), Camera("wrist", 16, 16)))
    model = small_dual_encoder(clip_or_siglip2, spaces=spaces).eval()
    images = noise_images() | {"wrist": np.zeros((ROBOTS, 16, 16, 3), dtype=np.uint8)}
    encodings = model.vision_encoder.encode(images, INSTRUCTIONS)
    images["wrist"] += 200
    changed = model.vision_encoder.encode(images, INSTRUCTIONS)
    first = model.widths[0]
    assert np.array_equal(encodings[:, :first], changed[:, :first])
    assert not np.array_equal(encodings[:, first:], changed[:, first:])
    features = torch.from_numpy(model.vision_encoder.track(None, encodings))
    inputs = Inputs(state=torch.zeros(ROBOTS, 0), features=features, instructions=INSTRUCTIONS)
    model.normalise_by(inputs, torch.randn(ROBOTS, 2))
    check_model(model, inputs)
    assert model.normalised_inputs(inputs).shape == (ROBOTS, 4 * model.towers.width)


def test_text_tokenizer_long_or_injected_instruction_is_refused(
    dual_encoder_folder: Path,
) -> None:
    model = small_dual_encoder(dual_encoder_folder)
    most_tokens = LONGEST - 1 - (dual_encoder_folder.name == "clip")
    with pytest.raises(ConfigError, match=f"at most {most_tokens} tokens"):
        model.vectors(["go " * 50])
    if dual_encoder_folder.name == "siglip":  # it strips punctuation, and special tokens with it
        return
    end = "<|endoftext|>" if dual_encoder_folder.name == "clip" else "<eos>"
    with pytest.raises(ConfigError, match="must be words"):
        model.vectors([f"push it {end} or not"])
