"""Stage 1, supervised fine-tuning: two or three objectives on demonstrations, in one loop.

    L = L_BC + L_steps-to-go [+ L_instruction]              (paper, section 3.1; LanguageTable)

The checkpoint with the best held-out BC loss (or the last) starts the policy; the one with the
best held-out steps-to-go loss (or the last) becomes reward and success detector. Every minibatch
is a function of the seed and the update's number, so a resumed run continues bit for bit.
"""

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nearer.checkpoint import TrainingState, restore
from nearer.demonstrations import Demonstrations, split_by_episode
from nearer.errors import NearerError
from nearer.limits import check_settings
from nearer.losses import behavioural_cloning_loss, instruction_loss, steps_to_go_loss
from nearer.model import FoundationModel
from nearer.progress import Progress, Watch, graceful_interrupt, unwatched
from nearer.run import Run
from nearer.seeds import Purpose, episode_seed, generator

_VALIDATION_FRAMES = 16384
_VALIDATION_EPISODES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTTraining:
    """How Stage 1 trains.

    Attributes:
        updates: gradient updates.
        batch_size: frames an objective and update.
        learning_rate: AdamW's peak, after warm-up; falls to 0 on a half cosine.
        warmup_updates: updates over which the rate rises from 0.
        weight_decay: AdamW's.
        max_gradient_norm: gradients are scaled down to this norm.
        held_out_share: of the episodes, for validation and calibration.
        validate_every: updates between validations; each is also a checkpoint.
        policy_checkpoint: best held-out BC loss, or last: a late one may act better.
        reward_checkpoint: the same by steps-to-go loss; late is exact near the goal.
        other_instructions: wrong ones beside its own in the third objective; 0: off.
        seed: of split, minibatches and initial weights.
    """

    updates: int = 6144
    batch_size: int = 256
    learning_rate: float = 1e-3
    warmup_updates: int = 128
    weight_decay: float = 1e-4
    max_gradient_norm: float = 10.0
    held_out_share: float = 0.1
    validate_every: int = 512
    policy_checkpoint: Literal["best", "last"] = "best"
    reward_checkpoint: Literal["best", "last"] = "best"
    other_instructions: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(
            self,
            updates="[1, inf)",
            batch_size="[1, inf)",
            learning_rate="(0, inf)",
            warmup_updates="[0, inf)",
            weight_decay="[0, inf)",
            max_gradient_norm="(0, inf)",
            held_out_share="(0, 1)",
            validate_every="[1, inf)",
            other_instructions="[0, inf)",
            seed="[0, inf)",
        )

    def rate(self, update: int) -> float:
        """Return the learning rate of an update (0 is the first)."""
        warm = min(1.0, (update + 1) / max(1, self.warmup_updates))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * update / self.updates))


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best held-out losses so far and the checkpoints that had them."""

    loss_bc: float = math.inf
    loss_steps_to_go: float = math.inf
    policy: int = 0
    reward: int = 0

    @property
    def links(self) -> dict[str, int]:
        """Return the links to these checkpoints; none before the first validation."""
        return {"policy": self.policy, "reward": self.reward} if self.policy else {}


def sft(
    training: SFTTraining,
    demonstrations: Demonstrations,
    model: FoundationModel,
    run: Run,
    watch: Watch = unwatched,
) -> Best:
    """Fine-tune `model` in place; leave the checkpoints `policy`, `reward` and `last` in `run`.

    Continues after the run's last checkpoint, if it has one.

    Raises:
        NearerError: a loss is no longer finite; earlier checkpoints are unharmed.
        Interrupted: Ctrl-C; a checkpoint has been written.
    """
    train, held_out = split_by_episode(demonstrations, training.held_out_share, training.seed)
    acted = train.acted_frames()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, weight_decay=training.weight_decay, fused=True
    )
    update, best = _restore(run, model, optimizer)
    with graceful_interrupt() as stop:
        while update < training.updates:
            losses = _minibatch_losses(training, model, train, acted, update)
            optimizer.param_groups[0]["lr"] = training.rate(update)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(model.parameters(), training.max_gradient_norm)
            optimizer.step()
            update += 1
            if update % training.validate_every == 0 or update == training.updates:
                record = {
                    "step": update,
                    **{f"sft/{name}": loss.item() for name, loss in losses.items()},
                    "sft/learning_rate": training.rate(update - 1),
                    **validate(model, held_out),
                }
                best = _save(training, run, model, optimizer, record, best)
                watch(_progress(update, training, record))
            elif stop.asked:
                # Not validated: who stops must not change which checkpoint turns out best.
                _checkpoint(run, model, optimizer, update, best)
            elif update % 32 == 0:
                watch(_progress(update, training, {}))
            stop.obey(f"continue with nearer sft --resume --out {run.root}")
    return best


def _minibatch_losses(
    training: SFTTraining,
    model: FoundationModel,
    train: Demonstrations,
    acted: Int64[Tensor, "rows"],
    update: int,
) -> dict[str, Float[Tensor, ""]]:
    """Return the mean loss of every objective, each on as many frames of its own."""
    draw, size = generator(Purpose.SFT_BATCH, training.seed, update), training.batch_size
    cloned = acted[_draw(draw, len(acted), size)]
    labelled = _draw(draw, len(train.state), size)
    with _dropping_out(model, training.seed, update):
        losses = {
            "loss_bc": bc_loss(model, train, cloned).mean(),
            "loss_steps_to_go": time_loss(model, train, labelled).mean(),
        }
        if train.candidates is not None:
            # An episode is two frames, each seen with every candidate in mind.
            num_episodes = max(1, size // (2 * len(train.candidates.instructions[0])))
            episodes = _draw(draw, len(train.episode_lengths), num_episodes)
            scores = candidate_scores(model, train, episodes)
            losses["loss_instruction"] = instruction_loss(scores).mean()
    return losses


def bc_loss(
    model: FoundationModel, demonstrations: Demonstrations, rows: Int64[Tensor, "rows"]
) -> Float[Tensor, "rows"]:
    """Return the behavioural-cloning loss of these frames."""
    log_prob = model.log_prob(demonstrations.inputs(rows), demonstrations.actions[rows])
    return behavioural_cloning_loss(log_prob)


def time_loss(
    model: FoundationModel, demonstrations: Demonstrations, rows: Int64[Tensor, "rows"]
) -> Float[Tensor, "rows"]:
    """Return the steps-to-go loss of these frames."""
    logits = model.steps_to_go_logits(demonstrations.inputs(rows))
    return steps_to_go_loss(logits, model.bins.index(demonstrations.steps_to_go[rows]))


def candidate_scores(
    model: FoundationModel, demonstrations: Demonstrations, episodes: Int64[Tensor, "rows"]
) -> Float[Tensor, "rows candidates"]:
    """Return how well each candidate fits what happened in these episodes, their own one first."""
    scores = model.instruction_scores(*demonstrations.ends(episodes))
    return scores.reshape(len(episodes), -1)


def validate(model: FoundationModel, held_out: Demonstrations) -> dict[str, float]:
    """Return the losses on held-out frames: all of them, or evenly spread ones of a large set."""
    every = max(1, len(held_out.state) // _VALIDATION_FRAMES)
    rows = torch.arange(0, len(held_out.state), every)
    acted = held_out.acted_frames()[::every]
    with torch.inference_mode():
        record = {
            "sft/held_out_loss_bc": bc_loss(model, held_out, acted).mean().item(),
            "sft/held_out_loss_steps_to_go": time_loss(model, held_out, rows).mean().item(),
        }
        if held_out.candidates is not None:
            every = max(1, len(held_out.episode_lengths) // _VALIDATION_EPISODES)
            episodes = torch.arange(0, len(held_out.episode_lengths), every)
            scores = candidate_scores(model, held_out, episodes)
            record["sft/held_out_loss_instruction"] = instruction_loss(scores).mean().item()
            found = scores[:, 0] > scores[:, 1:].max(dim=1).values
            record["sft/held_out_accuracy_instruction"] = found.float().mean().item()
    return record


@contextmanager
def _dropping_out(model: FoundationModel, seed: int, update: int) -> Generator[None, None, None]:
    """Let the model leave out what its dropout says, by a seed of this update's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.SFT_DROPOUT, seed, update))
        model.train()
        yield
        model.eval()


def _draw(draw: np.random.Generator, total: int, size: int) -> Tensor:
    return torch.from_numpy(draw.integers(0, total, size))


def _restore(
    run: Run, model: FoundationModel, optimizer: torch.optim.Optimizer
) -> tuple[int, Best]:
    """Return the update to go on with and the best so far; 0 for a new run."""
    last = run.last_checkpoint()
    if last is None:
        return 0, Best()
    numbers = restore(last, model, optimizer)
    update, best = numbers["update"], Best(**numbers["best"])
    run.name(update, best.links)
    return update, best


def _save(
    training: SFTTraining,
    run: Run,
    model: FoundationModel,
    optimizer: torch.optim.Optimizer,
    record: Mapping[str, Any],
    best: Best,
) -> Best:
    """Write checkpoint and record, point `policy` and `reward` at the best; return the best."""
    _check_finite(record)
    update = record["step"]
    if training.policy_checkpoint == "last" or record["sft/held_out_loss_bc"] < best.loss_bc:
        best = replace(best, loss_bc=record["sft/held_out_loss_bc"], policy=update)
    loss = record["sft/held_out_loss_steps_to_go"]
    if training.reward_checkpoint == "last" or loss < best.loss_steps_to_go:
        best = replace(best, loss_steps_to_go=loss, reward=update)
    run.log(record)
    _checkpoint(run, model, optimizer, update, best)
    return best


def _checkpoint(
    run: Run, model: FoundationModel, optimizer: torch.optim.Optimizer, update: int, best: Best
) -> None:
    numbers = {"update": update, "best": asdict(best)}
    run.save(update, model, TrainingState(optimizer, numbers), best.links)


def _check_finite(record: Mapping[str, Any]) -> None:
    for name, value in record.items():
        if not math.isfinite(value):
            raise NearerError(
                f"{name} must be finite, got {value} at update {record['step']}; earlier "
                "checkpoints are unharmed, start again with a smaller --learning-rate"
            )


def _progress(update: int, training: SFTTraining, record: Mapping[str, float]) -> Progress:
    facts = {
        name.removeprefix("sft/held_out_loss_").replace("_", "-"): f"{value:.3f}"
        for name, value in record.items()
        if "held_out_loss" in name
    }
    return Progress(stage="SFT", done=update, total=training.updates, facts=facts)
