"""nearer improve: a Stage-1 run and an env -> a better policy and its practised episodes."""

from pathlib import Path

from nearer.audit import Auditor, WitnessedFleet
from nearer.checkpoint import load_model, weights_hash
from nearer.chunking import Chunking
from nearer.commands.collect import DEFAULT_HZ
from nearer.commands.runs import as_saved, fitting_fleet, open_run
from nearer.configs import ImproveConfig
from nearer.data.store import PracticeStore
from nearer.errors import CheckpointError, ConfigError
from nearer.evaluate import TruthJudge
from nearer.improve import Cell, improve
from nearer.model import Detector, FoundationModel
from nearer.models.build import build_model
from nearer.progress import Watch, unwatched
from nearer.protocols import Judge
from nearer.run import is_finished, read_json


def run_improve(config: ImproveConfig, watch: Watch = unwatched) -> Path:
    """Let the policy of a Stage-1 run practise, and return the new run's folder."""
    config = as_saved(config) if config.resume else config
    if config.resume and is_finished(config.out):
        return config.out
    if not config.env:
        raise ConfigError("--env must name a Gymnasium env, got none; pass --env ID")
    if config.run == Path():
        raise ConfigError("--run must name a Stage-1 run, got none; make one with nearer sft")
    policy = load_model(config.run, build_model, "policy")
    reward = load_model(config.run, build_model, "reward").requires_grad_(False)
    _check_same_sight(policy, reward)
    chunking = policy.spaces.chunking
    config.practice.check_room(config.robots, chunking.chunk)
    threshold = _threshold(config, chunking)
    witnessed = WitnessedFleet(fitting_fleet(config.env, config.robots, policy))
    detector = Detector(model=reward, threshold_steps=threshold)
    judge: Judge = TruthJudge(witnessed) if config.deviate.end_on_truth else detector
    frozen = weights_hash(reward)
    robot_type = config.env.rpartition("/")[2]
    with open_run(config, "improve", frozen_sha256=frozen, threshold_steps=str(threshold)) as run:
        features = policy.sight.width if policy.sight else 0
        fps = chunking.decision_rate(policy.spaces.control_hz or DEFAULT_HZ)
        store = PracticeStore.open(run.root / "practice", policy.spaces, fps, robot_type, features)
        log = run.root / "audits.jsonl"
        cell = Cell(
            fleet=witnessed,
            judge=judge,
            reward=reward,
            threshold_steps=threshold,
            store=store,
            audits=Auditor(config.audits, witnessed, config.practice.seed, log),
        )
        improve(config.practice, config.deviate, config.plateau, policy, cell, run, watch)
        assert weights_hash(reward) == frozen, "the frozen model changed in Stage 2"
        run.finish()
    witnessed.close()
    return config.out


def _check_same_sight(policy: FoundationModel, reward: FoundationModel) -> None:
    """Raise unless both see alike, so that every frame has to be looked at once only."""
    seen = [model.sight.identity if model.sight else None for model in (policy, reward)]
    if seen[0] != seen[1]:
        raise CheckpointError(
            "policy and reward must have the same frozen sight, got two; take both from one "
            "Stage-1 run"
        )


def _threshold(config: ImproveConfig, chunking: Chunking) -> float:
    """Return s: the user's, or the one that Stage 1 calibrated."""
    limit = chunking.decisions_within(config.practice.max_steps)
    if config.threshold is not None:
        return config.threshold
    advice = "run nearer sft to the end, or pass --threshold STEPS"
    path = config.run / "calibration.json"
    threshold = read_json(path, advice).get("threshold_steps")
    if not isinstance(threshold, float):
        raise ConfigError(f"{path} must name threshold_steps, got {threshold}; {advice}")
    if threshold > limit:
        raise ConfigError(
            f"the calibrated threshold of {threshold} {chunking.unit} must be below the time limit "
            f"of {limit} {chunking.unit}; raise --max-steps or pass --threshold"
        )
    return threshold
