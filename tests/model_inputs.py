"""Inputs for pretrained models in tests, from six robots with a camera and two joints."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nearer.algorithm.action_tokens import NUM_TOKENS
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.core.arrays import Array
from nearer.core.spaces import Camera, Spaces
from nearer.models.pointing.tracking import NUM_HYPOTHESES
from nearer.models.vlm.tower_model import TowerModel

SPACES = Spaces(
    agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 24, 40),), control_hz=5
)
INSTRUCTIONS = ("move the red moon", "push the blue cube", "slide it") * 2
ROBOTS = len(INSTRUCTIONS)


def noise_images(count: int = ROBOTS) -> dict[str, Array]:
    """Return uniform noise as the camera's images."""
    rng = np.random.default_rng(0)
    return {"top": rng.integers(0, 256, (count, 24, 40, 3), dtype=np.uint8)}


def model_inputs(model: FoundationModel, instructions: Sequence[str] = INSTRUCTIONS) -> Inputs:
    """Return inputs whose present frames differ from the frames before."""
    vision_encoder = model.vision_encoder
    assert vision_encoder is not None
    encodings = vision_encoder.encode(noise_images(), instructions)
    features = vision_encoder.track(vision_encoder.track(None, encodings), encodings[::-1].copy())
    state = torch.linspace(-1, 1, 2 * ROBOTS).reshape(ROBOTS, 2)
    return Inputs(state=state, features=torch.from_numpy(features), instructions=instructions)


def point_features(points: torch.Tensor) -> torch.Tensor:
    """Return features of the built-in vision encoder that is sure of each slot's point.

    Args:
        points: u, v of the three slots, (..., 3, 2).
    """
    beliefs = torch.zeros(*points.shape[:-1], NUM_HYPOTHESES, 3)
    beliefs[..., 0, :2], beliefs[..., 0, 2] = points, 1
    return beliefs.flatten(-3)


def robot_rngs() -> list[np.random.Generator]:
    """Return a seeded generator for each robot's actions."""
    return [np.random.default_rng(robot) for robot in range(ROBOTS)]


def fine_tune(model: FoundationModel, inputs: Inputs, updates: int) -> list[float]:
    """Fine-tune on arbitrary targets and return the losses."""
    actions = torch.randn(ROBOTS, 2, generator=torch.Generator().manual_seed(0))
    model.normalise_by(inputs, actions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(updates):
        logits = model.train().steps_to_go_logits(inputs)
        steps_to_go_loss = torch.nn.functional.cross_entropy(logits, torch.arange(ROBOTS))
        loss = steps_to_go_loss - model.log_prob(inputs, actions).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


def changed_inputs(model: FoundationModel, inputs: Inputs) -> dict[str, Inputs]:
    """Return inputs of which one part each differs: the frame before, instruction or state."""
    assert model.vision_encoder is not None
    width = model.vision_encoder.encoding_width
    features = inputs.features.clone()
    features[:, :width] = features[:1, :width]
    return {
        "the frame before": replace(inputs, features=features),
        "instruction": replace(inputs, instructions=INSTRUCTIONS[::-1]),
        "state": replace(inputs, state=inputs.state.flip(0)),
    }


def probability_of_all_actions(model: TowerModel) -> float:
    """Return the sum of the probabilities of every pair of action tokens, for one robot."""
    inputs = model_inputs(model).rows(torch.tensor([1] * NUM_TOKENS**2))
    tokens = torch.cartesian_prod(torch.arange(NUM_TOKENS), torch.arange(NUM_TOKENS))
    with torch.inference_mode():
        return model.log_prob(inputs, model.tokens.decode(tokens)).exp().sum().item()


def copy_model_folder(folder: Path, to: Path, **files: str | None) -> Path:
    """Return a copy of a model's folder with some files replaced, or left out where None.

    Args:
        folder: of a model.
        to: the copy, a new folder.
        files: new text by name, such as config_json for config.json.
    """
    to.mkdir()
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    for name, text in files.items():
        path = to / name.replace("_json", ".json")
        path.unlink() if text is None else path.write_text(text)
    return to
