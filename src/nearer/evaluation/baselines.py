"""Other rewards and detectors, trained as steps-to-go is: which of them tells success best?

    steps-to-go     p(k | o, g) over bins, cross-entropy; its expectation         (paper, eq. 1)
    success head    is this an episode's last frame? cross-entropy, both classes weighing alike
    progress        t / T, squared error                    as SARM and other progress models do
    goal distance   of an embedding in which later frames are nearer to a last frame than earlier
                    ones, time-contrastive (after Nair et al. 2022, R3M, arXiv:2203.12601)

All read the same facts and words of the same demonstrations, have the same two layers, and take
the same updates. Each answers with one number that falls on the way to the goal. The paper found a
binary success head worse than thresholding steps-to-go.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional

from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.losses import steps_to_go_loss
from nearer.algorithm.steps_to_go import StepsToGoBins, expected_steps
from nearer.core.arrays import Array
from nearer.core.seeds import Purpose, episode_seed, generator

STEPS_TO_GO, SUCCESS_HEAD, PROGRESS, GOAL_DISTANCE = RIVALS = (
    "steps-to-go",
    "success head",
    "progress",
    "goal distance",
)
_HIDDEN, _WORD_WIDTH, _DROPOUT = 256, 4, 0.2  # as small-vla's two trunks
_EMBEDDING = 32
_BATCH, _RATE, _WEIGHT_DECAY, _MAX_GRADIENT_NORM = 256, 1e-3, 0.1, 10.0
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """Frames of demonstrations as rivals learn from them.

    Attributes:
        questions: facts and words of every frame, see `Reader`.
        left: true steps-to-go of every frame, in the model's own steps.
        ends: row of the last frame of every frame's episode.
        progress: t / T of every frame.
        bins: of the model they are compared with.
    """

    questions: Float[Tensor, "frames width"]
    left: Int64[Tensor, "frames"]
    ends: Int64[Tensor, "frames"]
    progress: Float[Tensor, "frames"]
    bins: StepsToGoBins


class Reader:
    """Turns frames into the numbers rivals read: facts, then how often each known word is said."""

    def __init__(self, instructions: Sequence[str]) -> None:
        self.words = tuple(sorted({word for one in instructions for word in one.split()}))

    def read(
        self, facts: Float32[Array, "frames facts"], asked: Sequence[str]
    ) -> Float[Tensor, "frames width"]:
        """Return a row a question; words that no lesson had are left out.

        Args:
            facts: that a model makes of each frame.
            asked: the instruction of each.
        """
        said = {one: self._said(one) for one in dict.fromkeys(asked)}
        words = torch.stack([said[one] for one in asked])
        return torch.cat([torch.from_numpy(facts), words], dim=1)

    def _said(self, instruction: str) -> Float[Tensor, "words"]:
        given = instruction.split()
        counts = torch.tensor([float(given.count(word)) for word in self.words])
        return counts / max(1, len(given))


def lessons_of(
    data: Demonstrations, facts: Float32[Array, "frames facts"], reader: Reader, bins: StepsToGoBins
) -> Lessons:
    """Return demonstrations as rivals learn from them.

    Args:
        data: episodes, and their steps-to-go.
        facts: that the compared model makes of each frame.
        reader: knows the words.
        bins: of the compared model.
    """
    lengths = torch.from_numpy(data.episode_lengths)
    ends = torch.repeat_interleave(lengths.cumsum(0) - 1, lengths)
    longest = torch.repeat_interleave(data.steps_to_go[lengths.cumsum(0) - lengths], lengths)
    asked = np.repeat(np.array(data.instructions, dtype=object), data.episode_lengths)
    return Lessons(
        questions=reader.read(facts, asked.tolist()),
        left=data.steps_to_go,
        ends=ends,
        progress=1 - data.steps_to_go / longest,
        bins=bins,
    )


class Network(nn.Module):
    """Two hidden layers on facts and a few numbers for the words."""

    def __init__(self, words: int, width: int, answers: int) -> None:
        super().__init__()
        self.words = words
        self.embed = nn.Linear(words, _WORD_WIDTH, bias=False) if words else None
        self.trunk = nn.Sequential(
            nn.Linear(width - words + (_WORD_WIDTH if words else 0), _HIDDEN),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, _HIDDEN),
            nn.ReLU(),
            nn.Dropout(_DROPOUT),
            nn.Linear(_HIDDEN, answers),
        )

    def forward(
        self, questions: Float[Tensor, "samples width"]
    ) -> Float[Tensor, "samples answers"]:
        """Return the answers to a batch of questions."""
        if self.embed is None:
            return self.trunk(questions)
        facts, said = questions[:, : -self.words], questions[:, -self.words :]
        return self.trunk(torch.cat([facts, self.embed(said)], dim=1))


Loss = Callable[[Network, Lessons, Int64[Tensor, "rows"], np.random.Generator], Tensor]
"""The mean loss of a network on some rows; chance is for what an objective draws besides."""


def _steps_loss(
    network: Network, lessons: Lessons, rows: Tensor, draw: np.random.Generator
) -> Tensor:
    target = lessons.bins.index(lessons.left[rows])
    return steps_to_go_loss(network(lessons.questions[rows]), target).mean()


def _success_loss(
    network: Network, lessons: Lessons, rows: Tensor, draw: np.random.Generator
) -> Tensor:
    is_last = (lessons.left == 0).float()
    rarity = (1 - is_last.mean()) / is_last.mean()
    logits = network(lessons.questions[rows]).squeeze(1)
    return functional.binary_cross_entropy_with_logits(logits, is_last[rows], pos_weight=rarity)


def _progress_loss(
    network: Network, lessons: Lessons, rows: Tensor, draw: np.random.Generator
) -> Tensor:
    share = network(lessons.questions[rows]).squeeze(1).sigmoid()
    return functional.mse_loss(share, lessons.progress[rows])


def _contrastive_loss(
    network: Network, lessons: Lessons, rows: Tensor, draw: np.random.Generator
) -> Tensor:
    """A later frame is nearer to a last frame than an earlier one is.

    The last frame is another episode's: at work nobody has a picture of the own goal, and an
    embedding that learns from its own is of no use there (docs/log.md).
    """
    rows = rows[lessons.left[rows] > 0]
    ahead = torch.from_numpy(draw.random(len(rows), dtype=np.float32))
    frames = lessons.ends[rows] - rows
    later = rows + 1 + (ahead * frames).long().clamp(max=frames - 1)
    others = lessons.ends[rows].roll(1)
    goal, near, far = network(lessons.questions[torch.cat([others, later, rows])]).chunk(3)
    nearness = torch.stack([-_distance(goal, one) for one in (near, far)], dim=1)
    return functional.cross_entropy(nearness, torch.zeros(len(rows), dtype=torch.long))


def _distance(first: Tensor, second: Tensor) -> Float[Tensor, "samples"]:
    return (first - second).square().sum(dim=1).add(1e-8).sqrt()


_LOSSES: Mapping[str, Loss] = {
    STEPS_TO_GO: _steps_loss,
    SUCCESS_HEAD: _success_loss,
    PROGRESS: _progress_loss,
    GOAL_DISTANCE: _contrastive_loss,
}


def train_baseline(name: str, lessons: Lessons, words: int, updates: int, seed: int) -> Network:
    """Return a network that has learned one of RIVALS.

    Args:
        name: which.
        lessons: what all of them learn from.
        words: how many of the questions' columns are words.
        updates: gradient updates.
        seed: of weights, minibatches and dropout.
    """
    answers = {STEPS_TO_GO: lessons.bins.count, GOAL_DISTANCE: _EMBEDDING}.get(name, 1)
    draw = generator(Purpose.BASELINES, seed, RIVALS.index(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.BASELINES, seed, RIVALS.index(name)))
        network = Network(words, lessons.questions.shape[1], answers)
        optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=_WEIGHT_DECAY)
        for _ in range(updates):
            rows = torch.from_numpy(draw.integers(0, len(lessons.left), _BATCH))
            loss = _LOSSES[name](network, lessons, rows, draw)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
            optimizer.step()
    return network.eval()


def distances(
    name: str, network: Network, lessons: Lessons, questions: Float[Tensor, "frames width"]
) -> Float32[Array, "frames"]:
    """Return the number of each frame that should fall on the way to the goal.

    The goal of the embedding is the mean of the lessons' last frames: facts are relative to what
    the instruction names, and nobody has a picture of the goal when the robot acts.
    """
    with torch.inference_mode():
        starts = range(0, len(questions), _ROWS_AT_ONCE)
        answers = torch.cat([network(questions[at : at + _ROWS_AT_ONCE]) for at in starts])
        if name == STEPS_TO_GO:
            return expected_steps(answers.softmax(dim=1), lessons.bins).numpy()
        if name == GOAL_DISTANCE:
            goal = network(lessons.questions[lessons.left == 0]).mean(dim=0, keepdim=True)
            return _distance(answers, goal).numpy()
        return -answers.squeeze(1).numpy()
