"""Stage 1, supervised fine-tuning: two or three objectives on demonstrations, in one loop.

    L = L_BC + L_steps-to-go [+ L_instruction]              (paper, section 3.1; LanguageTable)

The checkpoint with the best held-out BC loss (or the last) starts the policy; the one with the
best held-out steps-to-go loss (or the last) becomes reward and success detector. Every minibatch
is a function of the seed and the update's number, so a resumed run continues bit for bit, and each
of several processes draws all rows and takes its share.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nearer.algorithm.demonstrations import Demonstrations, split_by_episode
from nearer.algorithm.distributed import ONE, Processes, started_as
from nearer.algorithm.model import FoundationModel
from nearer.algorithm.sft_objectives import Objectives, Rows
from nearer.algorithm.sft_settings import SFTTraining
from nearer.core.callbacks import Progress, ProgressCallback, graceful_interrupt, ignore_progress
from nearer.core.errors import NearerError
from nearer.core.seeds import Purpose, episode_seed, generator
from nearer.runs.checkpoint import TrainingState, restore
from nearer.runs.run import Record

_VALIDATION_FRAMES = 16384
_VALIDATION_EPISODES = 1024


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


@runtime_checkable
class RunWriter(Protocol):
    """What the loop needs of a run: where its metrics and checkpoints go."""

    root: Path

    def log(self, record: Record) -> None:
        """Write a record of metrics."""
        ...

    def save(
        self,
        step: int,
        model: FoundationModel,
        training: TrainingState,
        names: Mapping[str, int],
        keep: Sequence[int] = (),
    ) -> None:
        """Write checkpoint `step`, and name it."""
        ...

    def name(self, last: int, names: Mapping[str, int], keep: Sequence[int] = ()) -> None:
        """Let links name checkpoints."""
        ...

    def last_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint, or None before the first."""
        ...


def sft(
    training: SFTTraining,
    demonstrations: Demonstrations,
    model: FoundationModel,
    run: RunWriter,
    on_progress: ProgressCallback = ignore_progress,
    processes: Processes = ONE,
) -> Best:
    """Fine-tune `model` in place; leave the checkpoints `policy`, `reward` and `last` in `run`.

    Continues after the run's last checkpoint, if it has one.

    Raises:
        NearerError: a loss is no longer finite; earlier checkpoints are unharmed.
        Interrupted: Ctrl-C; a checkpoint has been written.
    """
    train, held_out = split_by_episode(demonstrations, training.val_fraction, training.seed)
    acted = train.acted_frames()
    asked = processes.spread(Objectives(model), model.sharded_blocks)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, weight_decay=training.weight_decay, fused=True
    )
    update, best = _restore(run, model, optimizer)
    processes.check_agreed("the update to go on with", update)
    _held_out_rows(held_out).parts(processes.count)  # refused now, not after hours
    rows_a_part = held_out.parts(2 * _VALIDATION_FRAMES)[0].stop
    if training.accumulate > 1:
        in_training = -(-training.batch_size // (training.accumulate * processes.count))
        rows_a_part = min(rows_a_part, in_training)
    with graceful_interrupt() as stop:
        while update < training.updates:
            rows = _minibatch(training, train, acted, update)
            optimizer.param_groups[0]["lr"] = training.rate(update)
            optimizer.zero_grad()
            losses = _gradients(training, processes, asked, model, train, rows, update)
            nn.utils.clip_grad_norm_(model.parameters(), training.max_gradient_norm)
            optimizer.step()
            update += 1
            due = update % training.validate_every == 0 or update == training.updates
            if due:
                record = {
                    "step": update,
                    **{f"sft/{name}": loss for name, loss in processes.total(losses).items()},
                    "sft/learning_rate": training.rate(update - 1),
                    **validate(asked, held_out, rows_a_part, processes),
                }
                best = _save(training, run, model, optimizer, record, best)
                on_progress(_progress(update, training, record))
            elif update % 32 == 0:
                on_progress(_progress(update, training, {}))
            if processes.any(stop.asked):
                if not due:
                    # Not validated: who stops must not change which checkpoint turns out best.
                    _checkpoint(run, model, optimizer, update, best)
                stop.asked = True  # perhaps in another process
                stop.obey(f"continue with {started_as(processes.kind)} --resume --out {run.root}")
    return best


def _minibatch(
    training: SFTTraining, train: Demonstrations, acted: Int64[Tensor, "rows"], update: int
) -> Rows:
    """Return the rows of an update, as many of each objective's own."""
    draw, size = generator(Purpose.SFT_BATCH, training.seed, update), training.batch_size
    cloned = acted[_draw(draw, len(acted), size)]
    labelled = _draw(draw, len(train.state), size)
    if train.candidates is None:
        return Rows(cloned=cloned, labelled=labelled)
    # An episode is two frames, each seen with every candidate in mind.
    num_episodes = max(1, size // (2 * len(train.candidates.instructions[0])))
    episodes = _draw(draw, len(train.episode_lengths), num_episodes)
    return Rows(cloned=cloned, labelled=labelled, episodes=episodes)


def _gradients(
    training: SFTTraining,
    processes: Processes,
    asked: nn.Module,
    model: FoundationModel,
    train: Demonstrations,
    batch: Rows,
    update: int,
) -> dict[str, Float[Tensor, ""]]:
    """Leave an update's gradients in the parameters; return what this process adds to its losses.

    One part after the other: only what one part needs is in memory.
    """
    parts = processes.share(batch.parts(processes.count * training.accumulate))
    shares: list[dict[str, Tensor]] = []
    for number, part in parts:
        with processes.exchanging(asked, now=number == parts[-1][0]):
            with _dropping_out(model, training.seed, update, number):
                found = asked(train, part, batch)
            losses = {name: one for name, one in found.items() if name.startswith("loss")}
            # Gradients become the mean over the processes, and are to be the sum.
            (torch.stack(list(losses.values())).sum() * processes.count).backward()
        shares.append({name: loss.detach() for name, loss in losses.items()})
    return _sum(shares)


def _sum(shares: Sequence[Mapping[str, Tensor]]) -> dict[str, Float[Tensor, ""]]:
    return {name: torch.stack([one[name] for one in shares]).sum() for name in shares[0]}


def validate(
    asked: nn.Module,
    held_out: Demonstrations,
    rows_a_part: int | None = None,
    processes: Processes = ONE,
) -> dict[str, float]:
    """Return the losses on held-out frames: all of them, or evenly spread ones of a large set.

    Args:
        asked: `Objectives`, or what stands for them in several processes.
        held_out: what the model has not learned from.
        rows_a_part: so many frames at a time; None: as many as there are.
        processes: each takes a share.
    """
    batch = _held_out_rows(held_out)
    num_parts = 1
    if rows_a_part is not None:
        longest = -(-len(batch.labelled) // (processes.count * rows_a_part))
        num_parts = max(1, min(longest, batch.fewest // processes.count))
    parts = processes.share(batch.parts(processes.count * num_parts))
    with torch.no_grad():  # fsdp cannot train on what it gathered in inference mode
        found = processes.total(_sum([asked(held_out, part, batch) for _, part in parts]))
    return {f"sft/held_out_{name}": value for name, value in found.items()}


def _held_out_rows(held_out: Demonstrations) -> Rows:
    every = max(1, len(held_out.state) // _VALIDATION_FRAMES)
    cloned = held_out.acted_frames()[::every]
    labelled = torch.arange(0, len(held_out.state), every)
    if held_out.candidates is None:
        return Rows(cloned=cloned, labelled=labelled)
    every = max(1, len(held_out.episode_lengths) // _VALIDATION_EPISODES)
    episodes = torch.arange(0, len(held_out.episode_lengths), every)
    return Rows(cloned=cloned, labelled=labelled, episodes=episodes)


@contextmanager
def _dropping_out(
    model: FoundationModel, seed: int, update: int, part: int
) -> Generator[None, None, None]:
    """Let the model leave out what its dropout says, by a seed of this part's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(episode_seed(Purpose.SFT_DROPOUT, seed, update, part))
        model.train()
        yield
        model.eval()


def _draw(draw: np.random.Generator, total: int, size: int) -> Tensor:
    return torch.from_numpy(draw.integers(0, total, size))


def _restore(
    run: RunWriter, model: FoundationModel, optimizer: torch.optim.Optimizer
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
    run: RunWriter,
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
    run: RunWriter,
    model: FoundationModel,
    optimizer: torch.optim.Optimizer,
    update: int,
    best: Best,
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
