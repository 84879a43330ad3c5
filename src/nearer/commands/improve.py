"""nearer improve: a Stage-1 run and an env -> a better policy and its practised episodes."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from nearer.algorithm.distributed import Processes, started
from nearer.algorithm.early_stopping import AlarmStop
from nearer.algorithm.improve import Setup, improve
from nearer.algorithm.improve_metrics import Audits
from nearer.algorithm.learner import Learner, new_optimizer
from nearer.algorithm.model import FoundationModel
from nearer.algorithm.threads import threads_for
from nearer.commands.improve_robots import Robots, load_models, open_robots
from nearer.commands.progress_bars import live
from nearer.commands.runs import as_saved, open_run
from nearer.commands.watch import console_beside
from nearer.configs.fleet import resolved_fleet
from nearer.configs.improve import ImproveConfig
from nearer.core.action_chunks import Chunking
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.errors import Alarmed, ConfigError
from nearer.datasets.practice_store import PracticeStore
from nearer.evaluation.audit import AUDITS, Auditor
from nearer.evaluation.person_audit import PersonAuditor
from nearer.evaluation.reward_model import CALIBRATE, calibrated_threshold, calibration_of
from nearer.fleets.encoded import feature_widths
from nearer.fleets.env_spaces import stated_rate
from nearer.fleets.find_env import env_class
from nearer.fleets.for_model import check_same_chunks
from nearer.models.factory import build_model
from nearer.reporting.practice_summary import after_practice, before_practice
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.documents import RunInputs
from nearer.runs.hub import local_run
from nearer.runs.lock import alone
from nearer.runs.run import is_finished
from nearer.runs.trackers import check_trackers


def main(config: ImproveConfig, console: Console) -> None:
    """Practise with progress bars, and print what came of it and what to do next."""
    if config.run != Path():
        _print(before_practice(local_run(config.reward or config.run), config.threshold), console)
    watched = console_beside(config.out, partial(console.print, soft_wrap=True, markup=False))
    try:
        with watched if config.watch else nullcontext(), live(console) as on_progress:
            out = run_improve(config, on_progress)
    except Alarmed:
        _print(after_practice(config.out), console)
        raise
    _print(after_practice(out), console)
    console.print(
        f"Stage 2 is done: {out}; next: nearer eval --checkpoint {out} --env ID", soft_wrap=True
    )


def _print(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)


def run_improve(config: ImproveConfig, on_progress: ProgressCallback = ignore_progress) -> Path:
    """Let the policy of a Stage-1 run practise, and return the new run's folder.

    Raises:
        Alarmed: an alarm of the audits ended practice.
    """
    config = as_saved(config) if config.resume else config
    if config.resume and is_finished(config.out):
        return config.out
    check_trackers(config.track)
    if not config.env:
        raise ConfigError("--env must name a Gymnasium env, got none; pass --env ID")
    if config.run == Path():
        raise ConfigError("--run must name a Stage-1 run, got none; make one with nearer sft")
    with started(config.practice.processes, "improve") as processes:
        config.practice.check_parts(processes.count)
        if not processes.first:
            _follow(config, processes)
            return config.out
        with alone(config.out):
            _improve(config, processes, on_progress)
    return config.out


def _follow(config: ImproveConfig, processes: Processes) -> None:
    """Learn with the first process, which does everything else."""
    with processes.in_turn():
        policy = load_model(config.run, build_model, "policy")
    with threads_for(policy):
        optimizer = new_optimizer(config.practice, policy)
        Learner(config.practice, config.deviate, policy, optimizer, processes).follow()


def _improve(config: ImproveConfig, processes: Processes, on_progress: ProgressCallback) -> None:
    with processes.in_turn():
        policy, reward = models = load_models(config)
    chunking = policy.spaces.chunking
    check_same_chunks(chunking, reward.spaces.chunking)
    config = _with_fleet(config, renders=bool(policy.spaces.cameras))
    config.practice.check_room(config.num_envs, chunking.chunk)
    threshold = _threshold(config, chunking)
    with threads_for(policy):
        robots = open_robots(config, threshold, models)
        try:
            _practise(config, models, threshold, robots, processes, on_progress)
        finally:
            robots.close()


def _with_fleet(config: ImproveConfig, *, renders: bool) -> ImproveConfig:
    """Return the settings with a fleet and its size: what the run is continued with."""
    fleet = resolved_fleet(config.fleet, config.num_envs, renders=renders)
    settings = config.fleet_settings.resolved(fleet, config.num_envs)
    return replace(config, fleet=fleet, fleet_settings=settings)


def _practise(
    config: ImproveConfig,
    models: tuple[FoundationModel, FoundationModel],
    threshold: float,
    robots: Robots,
    processes: Processes,
    on_progress: ProgressCallback,
) -> None:
    policy, reward = models
    chunking = policy.spaces.chunking
    rate = stated_rate(config.env, policy.spaces.control_hz or robots.source.spaces.control_hz)
    fps = chunking.decision_rate(rate)
    frozen = weights_hash(reward)
    inputs = RunInputs(frozen_sha256=frozen, threshold_steps=threshold)
    with open_run(config, "improve", inputs) as run:
        widths = feature_widths(policy.vision_encoder, reward.vision_encoder)
        robot_type = env_class(config.env)
        store = PracticeStore.open(run.root / "practice", policy.spaces, fps, robot_type, *widths)
        plan, seed = config.audits, config.practice.seed
        audits: Audits = Auditor(plan, robots.recorded, seed, run.root / AUDITS)
        if plan.audits == "person":
            audits = PersonAuditor(plan, run.root, seed)
        setup = Setup(
            source=robots.source,
            reward_model=reward,
            threshold_steps=threshold,
            store=store,
            audits=audits,
            on_alarm=config.audits.on_alarm,
            max_staleness=config.fleet_settings.max_staleness,
        )
        stop = improve(
            config.practice,
            config.deviate,
            config.plateau,
            policy,
            setup,
            run,
            on_progress,
            processes,
        )
        assert weights_hash(reward) == frozen, "the frozen model changed in Stage 2"
        if stop is not None:
            run.note_alarm(stop)
            raise _alarmed(stop, config)
        run.finish()


def _alarmed(stop: AlarmStop, config: ImproveConfig) -> Alarmed:
    out = config.out
    by_person = config.audits.audits == "person"
    source = "which a person answered" if by_person else "which read ground truth"
    whose = "" if stop.policy_step else ", Stage 1's"
    kept = ", and the run keeps it" if stop.kept else ""
    return Alarmed(
        f"an alarm of the audits, {source}, ended practice in iteration "
        f"{stop.iteration}: {stop.alarm}. The last policy before it is "
        f"{out}/checkpoints/{stop.policy_step:06d}{whose}{kept}; see nearer report {out}, or go on "
        f"with nearer improve --resume --out {out} --on-alarm continue"
    )


def _threshold(config: ImproveConfig, chunking: Chunking) -> float:
    """Return s: the user's, or the one that Stage 1 calibrated."""
    limit = chunking.decisions_within(config.practice.max_steps)
    if config.threshold is not None:
        return config.threshold
    source = local_run(config.reward or config.run)
    threshold = calibrated_threshold(source)
    if threshold is None:
        path = calibration_of(source)
        raise ConfigError(f"{path} must be a JSON file of a run, got: no file; {CALIBRATE}")
    if threshold > limit:
        raise ConfigError(
            f"the calibrated threshold of {threshold} {chunking.unit} must be below the time limit "
            f"of {limit} {chunking.unit}; raise --max-steps or pass --threshold"
        )
    return threshold
