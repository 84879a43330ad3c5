"""Stage 1, supervised fine-tuning: two or three objectives on demonstrations, in one loop.

    L = L_BC + L_steps-to-go [+ L_instruction]              (paper, section 3.1; LanguageTable)

The checkpoint with the best held-out BC loss (or the last) starts the policy; the one with the
best held-out steps-to-go loss (or the last) becomes reward and success detector. Every minibatch
is a function of the seed and the update's number, so a resumed run continues bit for bit, and each
of several processes draws all rows and takes its part.
"""

import math
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.distributed import ONE, Processes
from nearer.algorithm.model import FoundationModel
from nearer.algorithm.run_writer import RunWriter, TrainingState, count_in, loss_in
from nearer.algorithm.sft_objectives import Objectives, Rows
from nearer.algorithm.sft_settings import SFTTraining
from nearer.core.callbacks import Progress, ProgressCallback, graceful_interrupt, ignore_progress
from nearer.core.errors import NearerError
from nearer.core.seeds import Purpose, episode_seed, generator

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


def sft(
    training: SFTTraining,
    train: Demonstrations,
    val: Demonstrations,
    model: FoundationModel,
    run: RunWriter,
    on_progress: ProgressCallback = ignore_progress,
    processes: Processes = ONE,
) -> Best:
    """Fine-tune `model` in place; leave the checkpoints `policy`, `reward` and `last` in `run`.

    Continues after the run's last checkpoint, if it has one.

    Args:
        training: settings.
        train: demonstrations to train on.
        val: held-out demonstrations, whose losses decide which checkpoints are best.
        model: its weights are updated.
        run: where metrics and checkpoints are kept.
        on_progress: is called after validations, and now and then between them.
        processes: all of those that train this model.

    Raises:
        NearerError: a loss is no longer finite; earlier checkpoints are unharmed.
        Interrupted: Ctrl-C; a checkpoint has been written.
    """
    acted = train.acted_frames()
    objectives = processes.spread(Objectives(model), model.sharded_blocks)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, weight_decay=training.weight_decay, fused=True
    )
    update, best = _restore(run, model, optimizer)
    processes.check_agreed("the update to go on with", update)
    _val_rows(val).parts(processes.count)  # refused now, not after hours
    rows_a_part = val.parts(2 * _VALIDATION_FRAMES)[0].stop
    if training.accumulate > 1:
        in_training = -(-training.batch_size // (training.accumulate * processes.count))
        rows_a_part = min(rows_a_part, in_training)
    with graceful_interrupt() as stop:
        while update < training.updates:
            rows = _minibatch(training, train, acted, update)
            optimizer.param_groups[0]["lr"] = training.rate(update)
            optimizer.zero_grad()
            losses = _gradients(training, processes, objectives, model, train, rows, update)
            nn.utils.clip_grad_norm_(model.parameters(), training.max_gradient_norm)
            optimizer.step()
            update += 1
            due = update % training.validate_every == 0 or update == training.updates
            if due:
                metrics = {
                    **{f"sft/{name}": loss for name, loss in processes.total(losses).items()},
                    "sft/learning_rate": training.rate(update - 1),
                    **validate(objectives, val, rows_a_part, processes),
                }
                best = _save(training, run, model, optimizer, update, metrics, best)
                on_progress(_progress(update, training, metrics))
            elif update % 32 == 0:
                on_progress(_progress(update, training, {}))
            if processes.any(stop.requested):
                if not due:
                    # Not validated: who stops must not change which checkpoint turns out best.
                    _checkpoint(run, model, optimizer, update, best)
                stop.requested = True  # perhaps in another process
                stop.obey(run.how_to_resume)
    return best


def _minibatch(
    training: SFTTraining, train: Demonstrations, acted: Int64[Tensor, "rows"], update: int
) -> Rows:
    """Return the rows of an update, as many of each objective's own."""
    rng, size = generator(Purpose.SFT_BATCH, training.seed, update), training.batch_size
    cloned = acted[_draw(rng, len(acted), size)]
    labelled = _draw(rng, len(train.state), size)
    if train.candidates is None:
        return Rows(cloned=cloned, labelled=labelled)
    # An episode is two frames, each seen with every candidate in mind.
    num_episodes = max(1, size // (2 * len(train.candidates.instructions[0])))
    episodes = _draw(rng, len(train.episode_lengths), num_episodes)
    return Rows(cloned=cloned, labelled=labelled, episodes=episodes)


def _gradients(
    training: SFTTraining,
    processes: Processes,
    objectives: nn.Module,
    model: FoundationModel,
    train: Demonstrations,
    batch: Rows,
    update: int,
) -> dict[str, Float[Tensor, ""]]:
    """Leave an update's gradients in the parameters; return what this process adds to its losses.

    One part after the other: only what one part needs is in memory.
    """
    parts = processes.own_parts(batch.parts(processes.count * training.accumulate))
    parts_of_mean: list[dict[str, Tensor]] = []
    for number, part in parts:
        with processes.exchanging(objectives, now=number == parts[-1][0]):
            with _dropping_out(model, training.seed, update, number):
                values = objectives(train, part, batch)
            losses = {name: value for name, value in values.items() if name.startswith("loss")}
            # Gradients become the mean over the processes, and are to be the sum.
            (torch.stack(list(losses.values())).sum() * processes.count).backward()
        parts_of_mean.append({name: loss.detach() for name, loss in losses.items()})
    return _sum(parts_of_mean)


def _sum(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Float[Tensor, ""]]:
    return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


def validate(
    objectives: nn.Module,
    val: Demonstrations,
    rows_a_part: int | None = None,
    processes: Processes = ONE,
) -> dict[str, float]:
    """Return the losses on held-out frames: all of them, or evenly spread ones of a large set.

    Args:
        objectives: `Objectives`, or what stands for them in several processes.
        val: what the model has not learned from.
        rows_a_part: so many frames at a time; None: as many as there are.
        processes: each takes a part.
    """
    batch = _val_rows(val)
    num_parts = 1
    if rows_a_part is not None:
        longest = -(-len(batch.labelled) // (processes.count * rows_a_part))
        num_parts = max(1, min(longest, batch.fewest // processes.count))
    parts = processes.own_parts(batch.parts(processes.count * num_parts))
    with torch.no_grad():  # fsdp cannot train on what it gathered in inference mode
        values = processes.total(_sum([objectives(val, part, batch) for _, part in parts]))
    return {f"sft/val_{name}": value for name, value in values.items()}


def _val_rows(val: Demonstrations) -> Rows:
    every = max(1, len(val.state) // _VALIDATION_FRAMES)
    cloned = val.acted_frames()[::every]
    labelled = torch.arange(0, len(val.state), every)
    if val.candidates is None:
        return Rows(cloned=cloned, labelled=labelled)
    every = max(1, len(val.episode_lengths) // _VALIDATION_EPISODES)
    episodes = torch.arange(0, len(val.episode_lengths), every)
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


def _draw(rng: np.random.Generator, total: int, size: int) -> Tensor:
    return torch.from_numpy(rng.integers(0, total, size))


def _restore(
    run: RunWriter, model: FoundationModel, optimizer: torch.optim.Optimizer
) -> tuple[int, Best]:
    """Return the update to go on with and the best so far; 0 for a new run."""
    counters = run.restore(model, optimizer)
    if counters is None:
        return 0, Best()
    update, policy, reward = (
        count_in(counters, name, run.name) for name in ("update", "best_policy", "best_reward")
    )
    best = Best(
        loss_bc=loss_in(counters, "best_loss_bc", run.name),
        loss_steps_to_go=loss_in(counters, "best_loss_steps_to_go", run.name),
        policy=policy,
        reward=reward,
    )
    run.link(update, best.links)
    return update, best


def _save(
    training: SFTTraining,
    run: RunWriter,
    model: FoundationModel,
    optimizer: torch.optim.Optimizer,
    update: int,
    losses: Mapping[str, float],
    best: Best,
) -> Best:
    """Write checkpoint and record, link `policy` and `reward` to the best; return the best."""
    _check_finite(losses, update)
    loss_bc, loss_steps = losses["sft/val_loss_bc"], losses["sft/val_loss_steps_to_go"]
    if training.policy_checkpoint == "last" or loss_bc < best.loss_bc:
        best = replace(best, loss_bc=loss_bc, policy=update)
    if training.reward_checkpoint == "last" or loss_steps < best.loss_steps_to_go:
        best = replace(best, loss_steps_to_go=loss_steps, reward=update)
    run.log({"step": update, **losses})
    _checkpoint(run, model, optimizer, update, best)
    return best


def _checkpoint(
    run: RunWriter,
    model: FoundationModel,
    optimizer: torch.optim.Optimizer,
    update: int,
    best: Best,
) -> None:
    counters = {"update": update, **{f"best_{name}": v for name, v in asdict(best).items()}}
    run.save(update, model, TrainingState(optimizer=optimizer, counters=counters), best.links)


def _check_finite(losses: Mapping[str, float], update: int) -> None:
    for name, value in losses.items():
        if not math.isfinite(value):
            raise NearerError(
                f"{name} must be finite, got {value} at update {update}; earlier "
                "checkpoints are unharmed, start again with a smaller learning rate"
            )


def _progress(update: int, training: SFTTraining, record: Mapping[str, float]) -> Progress:
    shown = {
        name.removeprefix("sft/val_loss_").replace("_", "-"): f"{value:.3f}"
        for name, value in record.items()
        if "val_loss" in name
    }
    return Progress(stage="SFT", done=update, total=training.updates, values=shown)
