"""Training of the vision encoder through both objectives of Stage 1, on demonstrations.

    image, instruction --tower--> softmax over the image --expectation--> (u, v) of three objects
    positions, proprioception --two layers--> action tokens, steps-to-go bins --> cross-entropies

The gradients of behavioural cloning and of steps-to-go prediction reach every trainable weight of
the tower, so it can learn without pretraining what a reward must see. The layers after it are
thrown away: Stage 1 trains its own on tracked positions.

Source: Levine et al. 2016, arXiv:1504.00702, for positions as expectations of a softmax.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.vision import Decisions
from nearer.models.pointing.frame_training import train_on_frames, trainable_parameters
from nearer.models.pointing.tower import NUM_SLOTS, PointingTower
from nearer.models.settings import SelfTrainingConfig

_HIDDEN = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class DecidedFrames:
    """Frames of demonstrations, and what was decided there.

    Attributes:
        images: may be larger than memory; only the rows of a batch's part are read.
        frames: rows of `images` that are trained on.
        sentences: the instruction of each frame.
        decisions: of each frame.
    """

    images: UInt8[Array, "all_frames h w 3"]
    frames: Int64[Array, "frames"]
    sentences: Sequence[str]
    decisions: Decisions


class ObjectiveHeads(nn.Module):
    """Action tokens and steps-to-go from the positions that a tower sees, and proprioception."""

    def __init__(self, decisions: Decisions) -> None:
        super().__init__()
        axes = decisions.actions.shape[1]
        self.hidden = nn.Sequential(
            nn.Linear(2 * NUM_SLOTS + decisions.state.shape[1], _HIDDEN),
            nn.ReLU(),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
        )
        self.actions = nn.Linear(_HIDDEN, axes * decisions.num_action_tokens)
        self.steps_to_go = nn.Linear(_HIDDEN, decisions.num_bins)

    def loss(
        self, tower: PointingTower, frames: DecidedFrames, rows: Int64[Array, "part"]
    ) -> Float[Tensor, ""]:
        """Return the mean of both losses' sum: behavioural cloning and steps-to-go prediction."""
        decisions = frames.decisions
        images = torch.from_numpy(frames.images[frames.frames[rows]])
        queries = tower.queries([frames.sentences[int(row)] for row in rows])
        points = expected_positions(tower.logits(tower.keys(images), queries))
        state = torch.from_numpy(decisions.state[rows])
        hidden = self.hidden(torch.cat([points.flatten(1), state], dim=1))
        tokens = torch.from_numpy(decisions.actions[rows])
        logits = self.actions(hidden).reshape(*tokens.shape, -1)
        acted = tokens[:, 0] >= 0
        cloning = cross_entropy(logits[acted].transpose(1, 2), tokens[acted], reduction="sum")
        bins = torch.from_numpy(decisions.steps_to_go[rows])
        return cloning / len(rows) + cross_entropy(self.steps_to_go(hidden), bins)


def expected_positions(
    logits: Float[Tensor, "frames slots rows columns"],
) -> Float[Tensor, "frames slots 2"]:
    """Return u and v, -1 to 1 across and down the image, in expectation over the softmax."""
    rows, columns = logits.shape[2:]
    probability = logits.flatten(2).softmax(dim=2).reshape(logits.shape)
    x, y = ((2 * torch.arange(n) + 1) / n - 1 for n in (columns, rows))
    u, v = (probability.sum(dim=2) * x).sum(dim=2), (probability.sum(dim=3) * y).sum(dim=2)
    return torch.stack([u, v], dim=2)


def train_through_objectives(
    tower: PointingTower,
    frames: DecidedFrames,
    config: SelfTrainingConfig,
    updates: int,
    rng: np.random.Generator,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Train the tower through both objectives, in place, and freeze it again.

    Args:
        tower: from `tower_of`.
        frames: of demonstrations.
        config: batch size, learning rate and so on, as in self-training.
        updates: steps of AdamW.
        rng: draws the minibatches, and the weights of the layers that are thrown away.
        on_progress: is called after every update.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**63)))
        heads = ObjectiveHeads(frames.decisions)

    def draw() -> list[Int64[Array, "part"]]:
        batch = rng.integers(len(frames.frames), size=config.batch_size)
        return list(batch.reshape(-1, config.part_size))

    train_on_frames(
        [*trainable_parameters(tower), *heads.parameters()],
        lambda rows: heads.loss(tower, frames, rows),
        draw,
        config,
        updates,
        on_progress,
        stage="vision encoder",
        loss_name="objectives",
    )
