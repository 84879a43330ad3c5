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
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import Protocol, runtime_checkable

import torch

from nearer.algorithm.batch import Batch, join, make_batch
from nearer.algorithm.distributed import ONE, Processes
from nearer.algorithm.early_stopping import AlarmStop, OnAlarm, PlateauRule
from nearer.algorithm.improve_metrics import Audits, IterationMetrics, iteration_metrics
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.learner import Learner, new_optimizer
from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.algorithm.rollout import EpisodeSource, actions_outside
from nearer.algorithm.run_writer import RunWriter, TrainingState, count_in
from nearer.algorithm.score import score
from nearer.algorithm.value_baseline import subtract_expected_returns
from nearer.core.callbacks import Progress, ProgressCallback, graceful_interrupt, ignore_progress
from nearer.core.episode import Ended, Episode, ScoredEpisode
from nearer.core.errors import NearerError
from nearer.core.seeds import Purpose, generator

_STARTS_DONE_AT_ONCE = 1000  # in a row; a detector this eager would let practice go on for ever


@runtime_checkable
class EpisodeStore(Protocol):
    """Keeps practised episodes; they are durable when `append` returns."""

    def read(self, iteration: int) -> list[ScoredEpisode]:
        """Return what an earlier process stored of an iteration; empty if nothing."""
        ...

    def append(self, iteration: int, scored: Sequence[ScoredEpisode]) -> None:
        """Store the episodes of an iteration."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Where practice happens: who acts, who scores the episodes, and where these are kept.

    Attributes:
        source: robots that act, and the rule that ends their episodes: the detector of the frozen
            model, unless a deviation says otherwise.
        reward_model: frozen.
        threshold_steps: s of the detector, in decisions.
        store: of practised episodes.
        audits: of the detector.
        on_alarm: what an alarm of theirs does.
        max_staleness: updates that the weights of a sample may be old; 0: on-policy.
    """

    source: EpisodeSource
    reward_model: FoundationModel
    threshold_steps: float
    store: EpisodeStore
    audits: Audits
    on_alarm: OnAlarm = "stop"
    max_staleness: int = 0


def improve(
    practice: Practice,
    deviations: Deviations,
    rule: PlateauRule,
    policy: FoundationModel,
    setup: Setup,
    run: RunWriter,
    on_progress: ProgressCallback = ignore_progress,
    processes: Processes = ONE,
) -> AlarmStop | None:
    """Let `policy` practise, in place; leave the checkpoints `policy` (the best) and `last`.

    Continues after the run's last checkpoint; stored iterations are not practised again. Returns
    how an alarm ended practice, or None after its own end. No checkpoint is written at an alarm, so
    a run that is continued meets the same one again.

    With several processes this is what the first one does; the others run `Learner.follow`.

    Raises:
        NearerError: the loss is no longer finite, or the detector takes every start for done.
        Interrupted: Ctrl-C; everything in flight has been written.
    """
    optimizer = new_optimizer(practice, policy)
    history = [IterationMetrics.from_record(record) for record in run.records()]
    chunk = setup.source.spaces.chunking.chunk
    first, over = _restore(run, policy, optimizer, rule, history)
    saved = first
    past = _past_batches(setup.store, first, deviations)
    learning = Learner(practice, deviations, policy, optimizer, processes)
    with graceful_interrupt() as stop, closing(learning) as learner:
        for iteration in count(first):
            if over:
                return None
            stored = setup.store.read(iteration)
            scored = stored or practise(practice, deviations, policy, setup, iteration)
            audit = setup.audits.check(iteration, scored)
            if not stored:
                setup.store.append(iteration, scored)
            fresh = make_batch(scored)
            learned = learner.learn(
                _buffer(practice, deviations, policy, fresh, past, iteration), iteration
            )
            past.append(fresh)
            metrics = iteration_metrics(
                history[-1] if history else None,
                scored,
                chunk=chunk,
                learned=learned,
                actions_outside=actions_outside(
                    setup.source.spaces, [episode.episode for episode in scored]
                ),
                audit=audit,
            )
            history.append(metrics)
            run.log(metrics.to_record())
            room = practice.has_room(metrics.total_env_steps, setup.source.num_robots, chunk)
            over = rule.over(history) or not room
            on_progress(_progress(practice, metrics, over))
            if metrics.audit.alarm and setup.on_alarm != "continue":
                return _ended_by_alarm(metrics, setup.on_alarm, saved, rule, history, run)
            if over or stop.requested or (iteration + 1) % rule.block_iterations == 0:
                counters = {"iterations": iteration + 1, "over": over}
                state = TrainingState(optimizer=optimizer, counters=counters)
                best = {"policy": rule.best_step(history)}
                saved = iteration + 1
                run.save(saved, policy, state, best, rule.kept_steps(history))
            if not over:
                stop.obey(run.how_to_resume)
    return None


def practise(
    practice: Practice,
    deviations: Deviations,
    policy: FoundationModel,
    setup: Setup,
    iteration: int,
) -> list[ScoredEpisode]:
    """Return the episodes of one iteration with d, r and R: line 2 of algorithm 1.

    Episodes that look done at their very first observation hold no action and are left out, and
    those of which a person says that the robot's station is faulty.
    """
    acted: list[Episode] = []
    done_at_once = 0
    for episode in setup.source.episodes(
        ModelPolicy(policy), iteration, practice.samples_per_iteration
    ):
        done_at_once = 0 if episode.num_steps else done_at_once + 1
        if done_at_once == _STARTS_DONE_AT_ONCE:
            raise NearerError(
                f"the detector must leave something to practise, got {done_at_once} starts in a "
                f"row that look done at a threshold of {setup.threshold_steps} steps; "
                "choose a lower threshold"
            )
        staleness = iteration - episode.policy_version
        assert 0 <= staleness <= setup.max_staleness, f"{staleness} updates old"
        if episode.num_steps and episode.ended is not Ended.FAULT:
            acted.append(episode)
    return score(
        setup.reward_model,
        acted,
        threshold_steps=setup.threshold_steps,
        discount=practice.discount,
        success_bonus=deviations.success_bonus,
    )


def _restore(
    run: RunWriter,
    policy: FoundationModel,
    optimizer: torch.optim.Optimizer,
    rule: PlateauRule,
    history: Sequence[IterationMetrics],
) -> tuple[int, bool]:
    """Return the iteration to go on with, and whether the run is over; checkpoint 0 at first."""
    counters = run.restore(policy, optimizer)
    if counters is None:
        start = TrainingState(optimizer=optimizer, counters={"iterations": 0, "over": False})
        run.save(0, policy, start, {"policy": 0})
        return 0, False
    iterations = count_in(counters, "iterations", run.name)
    if len(history) != iterations:
        raise NearerError(
            f"{run.name} must have a record for each of the {iterations} iterations up to its last "
            f"checkpoint, got {len(history)} that can be read; restore its metrics, or start a new "
            "run"
        )
    run.link(iterations, {"policy": rule.best_step(history)}, rule.kept_steps(history))
    return iterations, bool(count_in(counters, "over", run.name))


def _ended_by_alarm(
    metrics: IterationMetrics,
    on_alarm: OnAlarm,
    saved: int,
    rule: PlateauRule,
    history: Sequence[IterationMetrics],
    run: RunWriter,
) -> AlarmStop:
    """Link to the policy to keep, and return what the alarm did.

    Args:
        metrics: of the iteration whose audit raised it.
        on_alarm: stop or keep.
        saved: the newest checkpoint; its policy is older than the alarm.
        rule: which checkpoints a run that is continued may yet need.
        history: of all iterations, this one included.
        run: has the checkpoints.
    """
    assert metrics.audit.alarm
    kept = on_alarm == "keep"
    if kept:
        run.link(saved, {"policy": saved}, rule.kept_steps(history[:saved]))
    return AlarmStop(
        iteration=metrics.iteration, alarm=metrics.audit.alarm, policy_step=saved, kept=kept
    )


def _past_batches(store: EpisodeStore, first: int, deviations: Deviations) -> deque[Batch]:
    learned_from = deviations.value_baseline.iterations if deviations.baseline == "value" else 0
    num_batches = max(deviations.past_iterations, learned_from)
    stored = [store.read(iteration) for iteration in range(max(0, first - num_batches), first)]
    return deque([make_batch(scored) for scored in stored], maxlen=num_batches)


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
    earlier = list(past) if deviations.baseline == "value" else []
    rng = generator(Purpose.PRACTICE_BASELINE, practice.seed, iteration)
    return subtract_expected_returns(deviations.value_baseline, policy, buffer, earlier, rng)


def _progress(practice: Practice, metrics: IterationMetrics, over: bool) -> Progress:
    shown = {
        "episodes": f"{metrics.total_episodes}",
        "detected": f"{metrics.detected_success:.2f}",
        "steps": f"{metrics.episode_length:.0f}",
    }
    if metrics.audit.alarm:
        shown["ALARM"] = metrics.audit.alarm
    return Progress(
        stage="practice",
        done=practice.max_env_steps if over else metrics.total_env_steps,
        total=practice.max_env_steps,
        values=shown,
    )
