"""Stage 2, Self-Improvement: algorithm 1 of the paper, in one loop.

    pi <- Stage-1 policy; d, success <- frozen Stage-1 model          line 1
    repeat
        until N * B steps are collected:                              line 2
            sample an instruction g, run pi until success(o_t, g),
            the time limit or the operator; label d, r, R; push (o_t, a_t, g, R_t)
        N updates on minibatches of B, without replacement            line 3
        clear the buffer
    until the plateau

No environment reward, no value network, no importance weights, no return normalisation. What an
option changes of this is said in `Deviations`. Source: Ghasemipour et al. 2025, arXiv:2509.15155.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nearer.algorithm.batch import Batch, join, make_batch, minibatches
from nearer.algorithm.early_stopping import PlateauRule
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.losses import ppo_loss, reinforce_loss
from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.rollout import actions_outside, collect
from nearer.algorithm.score import progress_of, score
from nearer.algorithm.value_baseline import less_expected
from nearer.core.callbacks import Progress, ProgressCallback, graceful_interrupt, ignore_progress
from nearer.core.episode import Ended, Episode, ScoredEpisode
from nearer.core.errors import NearerError
from nearer.core.interfaces import Fleet, TerminationRule
from nearer.core.seeds import Purpose, episode_seeds, generator
from nearer.runs.checkpoint import TrainingState, restore
from nearer.runs.run import Run, read_metrics

_VALUE_ITERATIONS = 8  # that a value baseline learns from: older ones were another policy's
_STARTS_DONE_AT_ONCE = 1000  # in a row; a detector this eager would let practice go on for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What an audit tells the loop: metrics to write down, and a sentence if something is wrong."""

    record: Mapping[str, Any]
    alarm: str | None


@runtime_checkable
class Audits(Protocol):
    """Compares the detector with the truth; practice writes its findings down, nothing else."""

    def check(self, iteration: int, scored: Sequence[ScoredEpisode]) -> AuditReport:
        """Audit an iteration's episodes if that is due."""
        ...


@runtime_checkable
class Store(Protocol):
    """Keeps practised episodes; they are durable when `append` returns."""

    def read(self, iteration: int) -> list[ScoredEpisode]:
        """Return what an earlier process stored of an iteration; empty if nothing."""
        ...

    def append(self, iteration: int, scored: Sequence[ScoredEpisode]) -> None:
        """Store the episodes of an iteration."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Where practice happens: robots, who ends and scores their episodes, where these are kept.

    Attributes:
        termination: the detector of the frozen model, unless a deviation says otherwise.
        reward: the frozen model; never changed.
        threshold_steps: s of the detector, in control steps.
    """

    fleet: Fleet
    termination: TerminationRule
    reward: FoundationModel
    threshold_steps: float
    store: Store
    audits: Audits


def improve(
    practice: Practice,
    deviations: Deviations,
    rule: PlateauRule,
    policy: FoundationModel,
    cell: Setup,
    run: Run,
    on_progress: ProgressCallback = ignore_progress,
) -> None:
    """Let `policy` practise, in place; leave the checkpoints `policy` (the best) and `last`.

    Continues after the run's last checkpoint; iterations on disk are not practised again.

    Raises:
        NearerError: the loss is no longer finite, or the detector takes every start for done.
        Interrupted: Ctrl-C; everything in flight has been written.
    """
    optimizer = torch.optim.AdamW(
        policy.parameters(), practice.learning_rate, weight_decay=practice.weight_decay, fused=True
    )
    history = read_metrics(run.root)
    chunk = cell.fleet.spaces.chunking.chunk
    first, over = _restore(run, policy, optimizer, rule, history)
    past = _past_batches(cell.store, first, deviations)
    with graceful_interrupt() as stop:
        for iteration in count(first):
            if over:
                return
            stored = cell.store.read(iteration)
            scored = stored or practise(practice, deviations, policy, cell, iteration)
            report = cell.audits.check(iteration, scored)
            if not stored:
                cell.store.append(iteration, scored)
            fresh = make_batch(scored)
            buffer = _buffer(practice, deviations, policy, fresh, past, iteration)
            draw = generator(Purpose.PRACTICE_BATCH, practice.seed, iteration)
            updates = practice.updates_per_iteration
            losses = [
                update(practice, deviations, policy, optimizer, samples)
                for _ in range(deviations.epochs)
                for samples in minibatches(buffer, updates, practice.batch_size, draw)
            ]
            past.append(fresh)
            outside = actions_outside(cell.fleet, [one.episode for one in scored])
            record = _record(iteration, scored, history, losses, report, chunk)
            history.append(record | {"practice/actions_outside": outside})
            run.log(history[-1])
            taken = history[-1]["practice/env_steps"]
            room = practice.has_room(taken, cell.fleet.num_robots, chunk)
            over = rule.over(history) or not room
            on_progress(_progress(practice, history[-1], over))
            if over or stop.asked or (iteration + 1) % rule.block_iterations == 0:
                numbers = {"iterations": iteration + 1, "over": over}
                best = {"policy": rule.best_step(history)}
                state = TrainingState(optimizer, numbers)
                run.save(iteration + 1, policy, state, best, rule.kept_steps(history))
            if not over:
                stop.obey(f"continue with nearer improve --resume --out {run.root}")


def practise(
    practice: Practice,
    deviations: Deviations,
    policy: FoundationModel,
    cell: Setup,
    iteration: int,
) -> list[ScoredEpisode]:
    """Return the episodes of one iteration with d, r and R: line 2 of algorithm 1.

    Episodes that look done at their very first observation hold no action and are left out.
    """
    acted: list[Episode] = []
    done_at_once = 0
    for episode in collect(
        cell.fleet,
        ModelPolicy(policy),
        cell.termination,
        seeds=episode_seeds(Purpose.PRACTICE, practice.seed, iteration),
        max_steps=practice.max_steps,
        enough_steps=practice.samples_per_iteration,
        policy_version=iteration,
    ):
        done_at_once = 0 if episode.num_steps else done_at_once + 1
        if done_at_once == _STARTS_DONE_AT_ONCE:
            raise NearerError(
                f"the detector must leave something to practise, got {done_at_once} starts in a "
                f"row that look done at a threshold of {cell.threshold_steps} steps; "
                "lower --threshold"
            )
        if episode.num_steps:
            acted.append(episode)
    return score(
        cell.reward,
        acted,
        threshold_steps=cell.threshold_steps,
        discount=practice.discount,
        success_bonus=deviations.success_bonus,
    )


def update(
    practice: Practice,
    deviations: Deviations,
    policy: FoundationModel,
    optimizer: torch.optim.Optimizer,
    samples: Batch,
) -> Float[Tensor, ""]:
    """Take one policy update on a minibatch, line 3 of algorithm 1, and return its loss."""
    optimizer.zero_grad()
    losses: list[Tensor] = []
    for part in samples.parts(practice.accumulate):
        log_prob = policy.log_prob(part.inputs, part.actions)
        returns, scale = part.returns, practice.return_scale
        if deviations.ppo_clip:
            loss = ppo_loss(log_prob, part.log_prob, returns, scale, deviations.ppo_clip)
        else:
            loss = reinforce_loss(log_prob, returns, scale)
        share = loss.mean() * (len(part) / len(samples))
        share.backward()
        losses.append(share.detach())
    nn.utils.clip_grad_norm_(policy.parameters(), practice.max_gradient_norm)
    optimizer.step()
    return torch.stack(losses).sum()


def _restore(
    run: Run,
    policy: FoundationModel,
    optimizer: torch.optim.Optimizer,
    rule: PlateauRule,
    history: Sequence[Mapping[str, Any]],
) -> tuple[int, bool]:
    """Return the iteration to go on with, and whether the run is over; checkpoint 0 at first."""
    last = run.last_checkpoint()
    if last is None:
        start = TrainingState(optimizer, {"iterations": 0, "over": False})
        run.save(0, policy, start, {"policy": 0})
        return 0, False
    numbers = restore(last, policy, optimizer)
    iterations = numbers["iterations"]
    if len(history) != iterations:
        raise NearerError(
            f"{run.root}/metrics.jsonl must have a line for each of the {iterations} iterations up "
            f"to {last}, got {len(history)} that can be read; restore the file, or start a new run"
        )
    run.name(iterations, {"policy": rule.best_step(history)}, rule.kept_steps(history))
    return iterations, numbers["over"]


def _past_batches(store: Store, first: int, deviations: Deviations) -> deque[Batch]:
    learned_from = _VALUE_ITERATIONS if deviations.baseline == "value" else 0
    kept = max(deviations.past_iterations, learned_from)
    stored = [store.read(iteration) for iteration in range(max(0, first - kept), first)]
    return deque([make_batch(scored) for scored in stored], maxlen=kept)


def _buffer(
    practice: Practice,
    deviations: Deviations,
    policy: FoundationModel,
    fresh: Batch,
    past: Sequence[Batch],
    iteration: int,
) -> Batch:
    """Return what is learned from: the fresh samples, unless a deviation adds or subtracts."""
    again = deviations.past_iterations
    buffer = join([fresh, *(list(past)[-again:] if again else ())])
    if deviations.baseline == "none":
        return buffer
    known = list(past) if deviations.baseline == "value" else []
    draw = generator(Purpose.PRACTICE_BASELINE, practice.seed, iteration)
    return less_expected(policy, buffer, known, draw)


def _record(
    iteration: int,
    scored: Sequence[ScoredEpisode],
    history: Sequence[Mapping[str, Any]],
    losses: Sequence[Tensor],
    report: AuditReport,
    chunk: int,
) -> dict[str, Any]:
    """Return the metrics of an iteration; env steps are control steps, `chunk` a decision."""
    loss = torch.stack(list(losses)).mean().item()
    if not np.isfinite(loss):
        raise NearerError(
            f"the loss must be finite, got {loss} in iteration {iteration}; the checkpoints before "
            "it are unharmed, start again with a smaller --learning-rate"
        )
    before = history[-1] if history else {"practice/episodes": 0, "practice/env_steps": 0}
    episodes = [one.episode for one in scored]
    steps = chunk * sum(episode.num_steps for episode in episodes)
    detected = sum(episode.ended is Ended.SUCCESS_DETECTED for episode in episodes)
    record: dict[str, Any] = {
        "step": iteration + 1,
        "practice/episodes": before["practice/episodes"] + len(episodes),
        "practice/env_steps": before["practice/env_steps"] + steps,
        "practice/iteration_episodes": len(episodes),
        "practice/iteration_env_steps": steps,
        "practice/detected": detected,
        "practice/detected_success": detected / len(episodes),
        "practice/episode_length": steps / len(episodes),
        "practice/progress_steps": float(progress_of(scored).mean()),
        "practice/return": float(np.concatenate([one.returns for one in scored]).mean()),
        "practice/loss": loss,
        **report.record,
    }
    return record | ({"alarm": report.alarm} if report.alarm else {})


def _progress(practice: Practice, record: Mapping[str, Any], over: bool) -> Progress:
    facts = {
        "episodes": f"{record['practice/episodes']}",
        "detected": f"{record['practice/detected_success']:.2f}",
        "steps": f"{record['practice/episode_length']:.0f}",
    }
    if "alarm" in record:
        facts["ALARM"] = record["alarm"]
    return Progress(
        stage="practice",
        done=practice.max_env_steps if over else record["practice/env_steps"],
        total=practice.max_env_steps,
        facts=facts,
    )
