"""What pretrained models are asked in tests: six robots with a camera, two joints and words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nearer.algorithm.model import FoundationModel, Inputs
from nearer.core.spaces import Camera, Spaces

SPACES = Spaces(
    agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 24, 40),), control_hz=5
)
INSTRUCTIONS = ("move the red moon", "push the blue cube", "slide it") * 2
ROBOTS = len(INSTRUCTIONS)


def pictures(count: int = ROBOTS) -> dict[str, Any]:
    """Return noise, as a camera sees it."""
    draw = np.random.default_rng(0)
    return {"top": draw.integers(0, 256, (count, 24, 40, 3), dtype=np.uint8)}


def asked(model: FoundationModel, instructions: Sequence[str] = INSTRUCTIONS) -> Inputs:
    """Return questions whose frames differ from the frames before."""
    vision_encoder = model.vision_encoder
    assert vision_encoder is not None
    encodings = vision_encoder.encode(pictures(), instructions)
    features = vision_encoder.track(vision_encoder.track(None, encodings), encodings[::-1].copy())
    state = torch.linspace(-1, 1, 2 * ROBOTS).reshape(ROBOTS, 2)
    return Inputs(state=state, features=torch.from_numpy(features), instructions=instructions)


def chance() -> list[np.random.Generator]:
    """Return what each robot draws its actions with."""
    return [np.random.default_rng(robot) for robot in range(ROBOTS)]


def learn(model: FoundationModel, inputs: Inputs, updates: int) -> list[float]:
    """Fine-tune on arbitrary answers and return the losses."""
    actions = torch.randn(ROBOTS, 2, generator=torch.Generator().manual_seed(0))
    model.normalise_by(inputs, actions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses: list[float] = []
    for _ in range(updates):
        logits = model.train().steps_to_go_logits(inputs)
        right = torch.nn.functional.cross_entropy(logits, torch.arange(ROBOTS))
        loss = right - model.log_prob(inputs, actions).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses
