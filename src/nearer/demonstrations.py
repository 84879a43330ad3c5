"""What Stage 1 learns from: frames of successful episodes and the steps that were left."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nearer.errors import ConfigError
from nearer.model import Inputs
from nearer.protocols import Spaces
from nearer.seeds import Purpose, generator
from nearer.shapes import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """Frames of episodes, one after the other.

    The last frame of an episode is its final observation: steps-to-go 0, and its action is never
    trained on.

    Attributes:
        state: proprioception and environment state side by side, in the env's units.
        features: what the model's sight made of the pictures; zero columns without a sight.
        actions: taken on each frame, in the env's units.
        steps_to_go: t' - t, in control steps.
        episode_lengths: frames an episode, at least two.
        instructions: one an episode.
        spaces: sizes of state and action.
    """

    state: Float[Tensor, "frames state"]
    features: Float[Tensor, "frames features"]
    actions: Float[Tensor, "frames action"]
    steps_to_go: Int64[Tensor, "frames"]
    episode_lengths: Int64[Array, "episodes"]
    instructions: tuple[str, ...]
    spaces: Spaces

    def episodes(self, chosen: Int64[Array, "chosen"]) -> "Demonstrations":
        """Return the chosen episodes, in that order."""
        lengths = self.episode_lengths[chosen]
        starts = (np.cumsum(self.episode_lengths) - self.episode_lengths)[chosen]
        frames = torch.from_numpy(frame_rows(starts, lengths))
        return Demonstrations(
            state=self.state[frames],
            features=self.features[frames],
            actions=self.actions[frames],
            steps_to_go=self.steps_to_go[frames],
            episode_lengths=lengths,
            instructions=tuple(self.instructions[int(i)] for i in chosen),
            spaces=self.spaces,
        )

    def inputs(self, rows: Int64[Tensor, "rows"] | slice) -> Inputs:
        """Return the questions of these frames."""
        frames = np.arange(len(self.state))[rows] if isinstance(rows, slice) else rows.numpy()
        ends = np.cumsum(self.episode_lengths)
        episodes = cast(list[int], np.searchsorted(ends, frames, side="right").tolist())
        return Inputs(
            state=self.state[rows],
            features=self.features[rows],
            instructions=[self.instructions[episode] for episode in episodes],
        )

    def acted_frames(self) -> Int64[Tensor, "rows"]:
        """Return the frames whose action is real: all but the last of every episode."""
        return torch.nonzero(self.steps_to_go > 0).squeeze(1)


def frame_rows(
    starts: Int64[Array, "episodes"], lengths: Int64[Array, "episodes"]
) -> Int64[Array, "frames"]:
    """Return the rows of all frames of episodes that start at `starts`, in their order."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


def split_by_episode(
    demonstrations: Demonstrations, held_out_share: float, seed: int
) -> tuple[Demonstrations, Demonstrations]:
    """Return training and held-out demonstrations; no episode has frames in both.

    Raises:
        ConfigError: fewer than two episodes, so that one part would be empty.
    """
    total = len(demonstrations.episode_lengths)
    train, held_out = split_episodes(total, held_out_share, seed)
    return demonstrations.episodes(train), demonstrations.episodes(held_out)


def split_episodes(
    total: int, held_out_share: float, seed: int
) -> tuple[Int64[Array, "train"], Int64[Array, "held_out"]]:
    """Return which of `total` episodes are trained on and which are held out, in random order.

    Raises:
        ConfigError: fewer than two episodes, so that one part would be empty.
    """
    if total < 2:
        raise ConfigError(
            f"--data must hold at least 2 episodes, one to train on and one held out, got {total}; "
            "record more"
        )
    held_out = min(max(1, round(total * held_out_share)), total - 1)
    order = generator(Purpose.SFT_SPLIT, seed).permutation(total)
    return order[held_out:], order[:held_out]
