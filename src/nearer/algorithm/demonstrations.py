"""The training set of Stage 1: frames of successful episodes, and the steps that were left."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from jaxtyping import Float, Int64, Num
from torch import Tensor

from nearer.algorithm.model import Inputs
from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array
from nearer.core.chunk_actions import join_actions
from nearer.core.errors import ConfigError
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Spaces

_BYTES_A_NUMBER = 4
_MOST_BYTES = 2**28  # of features that are gathered at once, where nothing is learned


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Candidate instructions of each episode, with its first and last frame encoded for each.

    All candidates are treated alike: a frame is encoded for each of them on its own, without
    tracking from the frame before, which would betray the right one.

    Attributes:
        features: of first and last frame, encoded for each candidate.
        instructions: the same number an episode; its own one first.
    """

    features: Float[Tensor, "episodes 2 candidates features"]
    instructions: tuple[tuple[str, ...], ...]

    def episodes(self, rows: Int64[Array, "episodes"]) -> "Candidates":
        """Return those of these episodes, in that order."""
        return Candidates(
            features=self.features[torch.from_numpy(rows)],
            instructions=tuple(self.instructions[int(row)] for row in rows),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrations:
    """Frames of episodes, one after the other.

    The last frame of an episode is its final observation: steps-to-go 0, and its action is never
    trained on.

    Attributes:
        state: proprioception and environment state side by side, in the env's units.
        features: of the model's vision encoder, a row a frame; zero columns without one. Encodings
            of a `StackingVisionEncoder`, which `stacked_rows` combines.
        actions: decided on each frame, in the env's units.
        steps_to_go: t' - t, in control steps; in chunks once `chunked`.
        episode_lengths: frames an episode, at least two.
        instructions: one an episode.
        spaces: sizes of state and action.
        candidates: None unless the instruction is learned too, the paper's third objective.
        stacked_rows: rows of `features`, oldest first, that side by side are the features of a
            frame; None: its own row alone.
    """

    state: Float[Tensor, "frames state"]
    features: Num[Tensor, "encodings features"]
    actions: Float[Tensor, "frames action"]
    steps_to_go: Int64[Tensor, "frames"]
    episode_lengths: Int64[Array, "episodes"]
    instructions: tuple[str, ...]
    spaces: Spaces
    candidates: Candidates | None = None
    stacked_rows: Int64[Tensor, "frames stacked"] | None = None

    def episodes(self, rows: Int64[Array, "episodes"]) -> "Demonstrations":
        """Return these episodes, in that order."""
        lengths = self.episode_lengths[rows]
        starts = (np.cumsum(self.episode_lengths) - self.episode_lengths)[rows]
        return replace(
            self._of_frames(frame_rows(starts, lengths), lengths),
            instructions=tuple(self.instructions[int(row)] for row in rows),
            candidates=self.candidates and self.candidates.episodes(rows),
        )

    def decisions(self, every: int) -> "Demonstrations":
        """Return the frames on which a policy decides: see `decision_rows`.

        Args:
            every: control steps a decision.
        """
        return self._of_frames(*decision_rows(self.episode_lengths, every))

    def _of_frames(
        self, rows: Int64[Array, "rows"], lengths: Int64[Array, "episodes"]
    ) -> "Demonstrations":
        """Return these frames, of which each episode has so many."""
        frames = torch.from_numpy(rows)
        return replace(
            self,
            state=self.state[frames],
            features=self.features[frames] if self.stacked_rows is None else self.features,
            stacked_rows=None if self.stacked_rows is None else self.stacked_rows[frames],
            actions=self.actions[frames],
            steps_to_go=self.steps_to_go[frames],
            episode_lengths=lengths,
        )

    def inputs(self, rows: Int64[Tensor, "rows"] | slice) -> Inputs:
        """Return the model inputs of these frames; stacked features are gathered now."""
        if self.stacked_rows is None:
            features = self.features[rows]
        else:
            features = self.features[self.stacked_rows[rows]].flatten(1).float()
        return Inputs(
            state=self.state[rows], features=features, instructions=self._instructions_of(rows)
        )

    def statistics(self) -> Inputs:
        """Return every frame for statistics: without features where these are stacked."""
        if self.stacked_rows is None:
            return self.inputs(slice(None))
        none = torch.zeros(len(self.state), 0)
        return Inputs(
            state=self.state, features=none, instructions=self._instructions_of(slice(None))
        )

    def parts(self, most: int) -> list[slice]:
        """Return all frames in parts of at most so many, whose features fit the memory."""
        stacked = 1 if self.stacked_rows is None else self.stacked_rows.shape[1]
        bytes_a_frame = _BYTES_A_NUMBER * max(1, stacked * self.features.shape[1])
        size = max(1, min(most, _MOST_BYTES // bytes_a_frame))
        total = len(self.state)
        return [slice(first, min(first + size, total)) for first in range(0, total, size)]

    def _instructions_of(self, rows: Int64[Tensor, "rows"] | slice) -> list[str]:
        frames = np.arange(len(self.state))[rows] if isinstance(rows, slice) else rows.numpy()
        ends = np.cumsum(self.episode_lengths)
        episodes = cast(list[int], np.searchsorted(ends, frames, side="right").tolist())
        return [self.instructions[episode] for episode in episodes]

    def ends(self, episodes: Int64[Tensor, "rows"]) -> tuple[Inputs, Inputs]:
        """Return the first and the last frames of these episodes, a row a candidate."""
        candidates = self.candidates
        assert candidates is not None, "only the third objective reads the ends"
        drawn = candidates.episodes(episodes.numpy())
        instructions = [text for of_episode in drawn.instructions for text in of_episode]
        stops = torch.from_numpy(np.cumsum(self.episode_lengths))[episodes]
        starts = stops - torch.from_numpy(self.episode_lengths)[episodes]
        width = drawn.features.shape[2]
        first, last = (
            Inputs(
                state=self.state[frames].repeat_interleave(width, dim=0),
                features=drawn.features[:, end].flatten(0, 1),
                instructions=instructions,
            )
            for end, frames in enumerate((starts, stops - 1))
        )
        return first, last

    def acted_frames(self) -> Int64[Tensor, "rows"]:
        """Return the frames whose action is real: all but the last of every episode."""
        return torch.nonzero(self.steps_to_go > 0).squeeze(1)


def chunked(demonstrations: Demonstrations, chunking: Chunking) -> Demonstrations:
    """Return demonstrations for a policy that decides on several control steps at once.

    Every frame stays, whatever its t; its action becomes the next `chunk` actions side by side,
    and its steps-to-go the chunks that are left, rounded up:

        a_t, ..., a_(t + chunk - 1)        ceil((t' - t) / chunk)

    Where an episode ends within a chunk, its last action is repeated. Such frames are not left
    out: they are the ones near the goal, where a policy has to finish. For joint positions a
    repeated action means to stay; for velocities and accelerations it means to go on.

    Raises:
        ConfigError: actions are to be relative to joints that are not as many.
    """
    if chunking.is_plain:
        return demonstrations
    spaces = demonstrations.spaces.in_chunks(chunking)
    lengths = demonstrations.episode_lengths
    last_acted = np.repeat(np.cumsum(lengths) - 2, lengths)
    frames = np.arange(len(last_acted))
    rows = np.minimum(frames[:, None] + np.arange(chunking.chunk), last_acted[:, None])
    actions = demonstrations.actions.numpy()[rows]
    joints = demonstrations.state[:, : spaces.agent_pos].numpy()
    left = demonstrations.steps_to_go
    return replace(
        demonstrations,
        actions=torch.from_numpy(join_actions(chunking, actions, joints)),
        steps_to_go=(left + chunking.chunk - 1) // chunking.chunk,
        spaces=spaces,
    )


def frame_rows(
    starts: Int64[Array, "episodes"], lengths: Int64[Array, "episodes"]
) -> Int64[Array, "frames"]:
    """Return the rows of all frames of episodes that start at `starts`, in their order."""
    before = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)


def decision_rows(
    lengths: Int64[Array, "episodes"], every: int
) -> tuple[Int64[Array, "decisions"], Int64[Array, "episodes"]]:
    """Return the frames of episodes on which a policy decides, and how many each episode has.

    They are an episode's first frame, every so-many-th after it, and its last, in which nothing is
    left to do.

    Args:
        lengths: frames an episode, at least two; the episodes follow one another.
        every: control steps a decision.
    """
    counts = -(-(lengths - 1) // every) + 1
    number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    within = np.minimum(number * every, np.repeat(lengths - 1, counts))
    return np.repeat(np.cumsum(lengths) - lengths, counts) + within, counts


def draw_candidates(
    instructions: Sequence[str], others: int, rng: np.random.Generator
) -> list[tuple[str, ...]]:
    """Return each episode's own instruction and `others` different ones, of other episodes.

    An instruction is drawn as often as it is given, so that its words alone carry no information.

    Args:
        instructions: one an episode.
        others: how many an episode.
        rng: of the draws.

    Raises:
        ConfigError: there are not so many different instructions.
    """
    different = len(set(instructions))
    if different <= others:
        raise ConfigError(
            "--other-instructions must be less than the different instructions, both of the "
            f"demonstrations to train on and of those held out, got {others} where "
            f"{len(instructions)} demonstrations have {different}; lower it (0 leaves the third "
            "objective out), or raise --val-fraction"
        )
    drawn: list[tuple[str, ...]] = []
    for own in instructions:
        candidates = {own: None}
        while len(candidates) <= others:
            candidates[instructions[int(rng.integers(len(instructions)))]] = None
        drawn.append(tuple(candidates))
    return drawn


def draw_fraction(total: int, fraction: float, seed: int) -> Int64[Array, "episodes"]:
    """Return the rows of a random fraction of a data set's `total` episodes."""
    if fraction == 1:
        return np.arange(total)
    order = generator(Purpose.SFT_FRACTION, seed).permutation(total)
    return order[: max(1, round(total * fraction))]


def leave_out(
    episodes: Int64[Array, "episodes"], instructions: Sequence[str], phrases: Sequence[str]
) -> Int64[Array, "kept"]:
    """Return the episodes whose instruction holds none of the phrases, in their order.

    Args:
        episodes: rows of a data set's episodes.
        instructions: one for each of these rows.
        phrases: whole words, upper or lower case: "blue moon" is in "push the blue moon to it".

    Raises:
        ConfigError: none is left.
    """
    unwanted = [f" {' '.join(phrase.lower().split())} " for phrase in phrases]
    texts = [f" {' '.join(text.lower().split())} " for text in instructions]
    remains = [not any(phrase in text for phrase in unwanted) for text in texts]
    if not any(remains):
        raise ConfigError(
            f"--leave-out must leave episodes to learn from, got {list(phrases)} which all "
            f"{len(episodes)} hold; leave fewer phrases out"
        )
    return episodes[np.array(remains)]


def split_by_episode(
    demonstrations: Demonstrations, val_fraction: float, seed: int
) -> tuple[Demonstrations, Demonstrations]:
    """Return training and held-out demonstrations; no episode has frames in both.

    Raises:
        ConfigError: fewer than two episodes, so that one part would be empty.
    """
    total = len(demonstrations.episode_lengths)
    train, val = split_episodes(total, val_fraction, seed)
    return demonstrations.episodes(train), demonstrations.episodes(val)


def split_episodes(
    total: int, val_fraction: float, seed: int
) -> tuple[Int64[Array, "train"], Int64[Array, "val"]]:
    """Return which of `total` episodes are trained on and which are held out, in random order.

    Raises:
        ConfigError: fewer than two episodes, so that one part would be empty.
    """
    if total < 2:
        raise ConfigError(
            f"--data must hold at least 2 episodes, one to train on and one held out, got {total}; "
            "record more"
        )
    num_val = min(max(1, round(total * val_fraction)), total - 1)
    order = generator(Purpose.SFT_SPLIT, seed).permutation(total)
    return order[num_val:], order[:num_val]
