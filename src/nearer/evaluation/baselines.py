"""Other rewards and detectors, trained as steps-to-go is: which tells success best?

    steps-to-go     p(k | o, g) over bins, cross-entropy; its expectation         (paper, eq. 1)
    success head    is this an episode's last frame? cross-entropy, both classes weighing alike
    progress        t / T, squared error                    as SARM and other progress models do
    goal distance   of an embedding in which later frames are nearer to a last frame than earlier
                    ones, time-contrastive (after Nair et al. 2022, R3M, arXiv:2203.12601)

All read the same normalised inputs and words of the same demonstrations, have the same two layers,
and take the same updates. Each predicts one number that falls on the way to the goal. The paper
found a binary success head worse than thresholding steps-to-go.
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
from nearer.evaluation.baseline_settings import BaselineSettings

STEPS_TO_GO, SUCCESS_HEAD, PROGRESS, GOAL_DISTANCE = BASELINES = (
    "steps-to-go",
    "success head",
    "progress",
    "goal distance",
)
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineTrainingSet:
    """Frames of demonstrations as baselines learn from them.

    Attributes:
        inputs: normalised inputs and words of every frame, see `InputEncoder`.
        steps_to_go: true ones of every frame, in the model's own steps.
        ends: row of the last frame of every frame's episode.
        progress: t / T of every frame.
        bins: of the model they are compared with.
    """

    inputs: Float[Tensor, "frames width"]
    steps_to_go: Int64[Tensor, "frames"]
    ends: Int64[Tensor, "frames"]
    progress: Float[Tensor, "frames"]
    bins: StepsToGoBins


class InputEncoder:
    """Joins a frame's normalised inputs and how often each word of the training set is said."""

    def __init__(self, instructions: Sequence[str]) -> None:
        words = {word for instruction in instructions for word in instruction.split()}
        self.words = tuple(sorted(words))

    def encode(
        self,
        normalised_inputs: Float32[Array, "frames inputs"],
        instructions: Sequence[str],
    ) -> Float[Tensor, "frames width"]:
        """Return the inputs of baselines, a row a frame; other words are left out.

        Args:
            normalised_inputs: that a model makes of each frame.
            instructions: one a frame.
        """
        counts = {text: self._word_counts(text) for text in dict.fromkeys(instructions)}
        words = torch.stack([counts[text] for text in instructions])
        return torch.cat([torch.from_numpy(normalised_inputs), words], dim=1)

    def _word_counts(self, instruction: str) -> Float[Tensor, "words"]:
        said = instruction.split()
        counts = torch.tensor([float(said.count(word)) for word in self.words])
        return counts / max(1, len(said))


def baseline_training_set(
    data: Demonstrations,
    normalised_inputs: Float32[Array, "frames inputs"],
    encoder: InputEncoder,
    bins: StepsToGoBins,
) -> BaselineTrainingSet:
    """Return demonstrations as baselines learn from them.

    Args:
        data: episodes, and their steps-to-go.
        normalised_inputs: that the compared model makes of each frame.
        encoder: of inputs and words.
        bins: of the compared model.
    """
    lengths = torch.from_numpy(data.episode_lengths)
    ends = torch.repeat_interleave(lengths.cumsum(0) - 1, lengths)
    longest = torch.repeat_interleave(data.steps_to_go[lengths.cumsum(0) - lengths], lengths)
    instructions = np.repeat(np.array(data.instructions, dtype=object), data.episode_lengths)
    return BaselineTrainingSet(
        inputs=encoder.encode(normalised_inputs, instructions.tolist()),
        steps_to_go=data.steps_to_go,
        ends=ends,
        progress=1 - data.steps_to_go / longest,
        bins=bins,
    )


class Network(nn.Module):
    """Two hidden layers on normalised inputs and a few numbers for the words."""

    def __init__(self, words: int, width: int, outputs: int, settings: BaselineSettings) -> None:
        super().__init__()
        self.words = words
        word_width, hidden = settings.word_width, settings.hidden
        self.embed = nn.Linear(words, word_width, bias=False) if words else None
        self.trunk = nn.Sequential(
            nn.Linear(width - words + (word_width if words else 0), hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(hidden, outputs),
        )

    def forward(self, inputs: Float[Tensor, "samples width"]) -> Float[Tensor, "samples outputs"]:
        """Return the predictions of a batch."""
        if self.embed is None:
            return self.trunk(inputs)
        normalised, words = inputs[:, : -self.words], inputs[:, -self.words :]
        return self.trunk(torch.cat([normalised, self.embed(words)], dim=1))


Loss = Callable[[Network, BaselineTrainingSet, Int64[Tensor, "rows"], np.random.Generator], Tensor]
"""The mean loss of a network on some rows; the generator is for what an objective draws besides."""


def _steps_loss(
    network: Network, data: BaselineTrainingSet, rows: Tensor, rng: np.random.Generator
) -> Tensor:
    target = data.bins.index(data.steps_to_go[rows])
    return steps_to_go_loss(network(data.inputs[rows]), target).mean()


def _success_loss(
    network: Network, data: BaselineTrainingSet, rows: Tensor, rng: np.random.Generator
) -> Tensor:
    is_last = (data.steps_to_go == 0).float()
    rarity = (1 - is_last.mean()) / is_last.mean()
    logits = network(data.inputs[rows]).squeeze(1)
    return functional.binary_cross_entropy_with_logits(logits, is_last[rows], pos_weight=rarity)


def _progress_loss(
    network: Network, data: BaselineTrainingSet, rows: Tensor, rng: np.random.Generator
) -> Tensor:
    predicted = network(data.inputs[rows]).squeeze(1).sigmoid()
    return functional.mse_loss(predicted, data.progress[rows])


def _contrastive_loss(
    network: Network, data: BaselineTrainingSet, rows: Tensor, rng: np.random.Generator
) -> Tensor:
    """Return the loss under which a later frame is nearer to a last frame than an earlier one is.

    The last frame is another episode's: a robot at work has no image of its own goal, and an
    embedding that learns from its own is of no use there (docs/log.md).
    """
    rows = rows[data.steps_to_go[rows] > 0]
    ahead = torch.from_numpy(rng.random(len(rows), dtype=np.float32))
    frames = data.ends[rows] - rows
    later = rows + 1 + (ahead * frames).long().clamp(max=frames - 1)
    others = data.ends[rows].roll(1)
    goal, near, far = network(data.inputs[torch.cat([others, later, rows])]).chunk(3)
    nearness = torch.stack([-_distance(goal, frame) for frame in (near, far)], dim=1)
    return functional.cross_entropy(nearness, torch.zeros(len(rows), dtype=torch.long))


def _distance(first: Tensor, second: Tensor) -> Float[Tensor, "samples"]:
    return (first - second).square().sum(dim=1).add(1e-8).sqrt()


_LOSSES: Mapping[str, Loss] = {
    STEPS_TO_GO: _steps_loss,
    SUCCESS_HEAD: _success_loss,
    PROGRESS: _progress_loss,
    GOAL_DISTANCE: _contrastive_loss,
}


def train_baseline(
    name: str,
    data: BaselineTrainingSet,
    words: int,
    updates: int,
    seed: int,
    settings: BaselineSettings,
) -> Network:
    """Return a network that has learned one of BASELINES.

    Args:
        name: which.
        data: what all of them learn from.
        words: how many columns of the inputs are words.
        updates: gradient updates.
        seed: of weights, minibatches and dropout.
        settings: size and optimiser.
    """
    outputs = {STEPS_TO_GO: data.bins.count, GOAL_DISTANCE: settings.embedding}.get(name, 1)
    rng = generator(Purpose.BASELINES, seed, BASELINES.index(name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.BASELINES, seed, BASELINES.index(name)))
        network = Network(words, data.inputs.shape[1], outputs, settings)
        optimizer = torch.optim.AdamW(
            network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        for _ in range(updates):
            rows = rng.integers(0, len(data.steps_to_go), settings.batch_size)
            loss = _LOSSES[name](network, data, torch.from_numpy(rows), rng)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.max_gradient_norm)
            optimizer.step()
    return network.eval()


def distances(
    name: str,
    network: Network,
    data: BaselineTrainingSet,
    inputs: Float[Tensor, "frames width"],
) -> Float32[Array, "frames"]:
    """Return the number of each frame that should fall on the way to the goal.

    The goal of the embedding is the mean of the training set's last frames: normalised inputs are
    relative to what the instruction names, and a robot at work has no image of the goal.
    """
    with torch.inference_mode():
        starts = range(0, len(inputs), _ROWS_AT_ONCE)
        predicted = torch.cat([network(inputs[at : at + _ROWS_AT_ONCE]) for at in starts])
        if name == STEPS_TO_GO:
            return expected_steps(predicted.softmax(dim=1), data.bins).numpy()
        if name == GOAL_DISTANCE:
            goal = network(data.inputs[data.steps_to_go == 0]).mean(dim=0, keepdim=True)
            return _distance(predicted, goal).numpy()
        return -predicted.squeeze(1).numpy()
