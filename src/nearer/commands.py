"""What each command does: it puts data, model, env and loop together, and has no logic of its own.

collect_demonstrations   env and its demonstrator   -> LeRobotDataset
run_sft                  data set                   -> run: policy, reward, calibration
run_improve              Stage-1 run and env        -> run: better policy, its episodes
run_eval                 checkpoint and env         -> eval_info.json
"""

import shutil
from collections.abc import Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from nearer.audit import Auditor, WitnessedFleet
from nearer.calibrate import LabelledEpisode, calibration_document, detector_curve, reliability
from nearer.checkpoint import load_model, weights_hash
from nearer.collect import collect
from nearer.configs import (
    CollectConfig,
    Config,
    EvalConfig,
    ImproveConfig,
    SFTConfig,
    from_json,
    resumed,
    to_json,
)
from nearer.data.reader import open_dataset, resolve_dataset
from nearer.data.store import PracticeStore, create_dataset, episode_frames, load_demonstrations
from nearer.demonstrations import Demonstrations, split_by_episode
from nearer.episode import Ended, Episode
from nearer.errors import ConfigError, EnvError
from nearer.evaluate import (
    Evaluation,
    LabelledRollouts,
    TruthJudge,
    eval_info,
    evaluate,
    evaluation_of,
    labelled_rollouts,
)
from nearer.fleet.in_process import make_demonstrator, make_fleet
from nearer.improve import Cell, improve
from nearer.model import Detector, FoundationModel, ModelPolicy, inputs_of
from nearer.models.build import build_model, new_model
from nearer.progress import Progress, Watch, graceful_interrupt, unwatched
from nearer.protocols import Fleet
from nearer.run import Run, is_finished, read_header, read_json, write_json, written
from nearer.score import steps_to_go_probabilities
from nearer.seeds import Purpose, episode_seeds
from nearer.sft import sft

_SHOWN_EPISODES = 10  # rollouts a row of the report
_CALIBRATION_ROBOTS = 100
_EXAMPLE_STEPS = 20


def collect_demonstrations(config: CollectConfig, watch: Watch = unwatched) -> int:
    """Write successful demonstrations as a LeRobotDataset and return how many.

    Success is the simulator's: these are demonstrations, nobody practises here.
    """
    fleet = make_fleet(config.env, config.robots)
    demonstrator = make_demonstrator(config.env, config.robots)
    robot_type = config.env.rpartition("/")[2]
    writer = create_dataset(config.out, fleet.spaces, config.fps, robot_type)
    all_seeds = islice(episode_seeds(Purpose.DEMONSTRATION, config.seed), config.episodes)
    judge = TruthJudge(fleet)
    kept: list[Episode] = []
    tried = 0
    with graceful_interrupt() as stop:
        seeds = takewhile(lambda _: not stop.asked, all_seeds)
        try:
            for episode in collect(
                fleet, demonstrator, judge, seeds=seeds, max_steps=config.max_steps
            ):
                tried += 1
                long_enough = episode.num_steps + 1 >= config.min_observations
                if episode.ended is Ended.SUCCESS_TRUE and long_enough:
                    kept.append(episode)
                if tried % 100 == 0 or tried == config.episodes:
                    watch(Progress(stage="demonstrations", done=tried, total=config.episodes))
        finally:  # also when an env fails: what was recorded is kept
            if kept:
                writer.append([episode_frames(episode) for episode in kept])
            fleet.close()
    stop.obey(f"{config.out} holds {len(kept)} demonstrations, collect more into another --out")
    if not kept:
        shutil.rmtree(config.out)
        raise EnvError(
            f"the demonstrator of {config.env} must succeed within --max-steps {config.max_steps}, "
            f"got 0 successes of {config.min_observations} observations or more in {tried} "
            "episodes; allow more steps"
        )
    return len(kept)


def run_sft(config: SFTConfig, watch: Watch = unwatched) -> Path:
    """Train Stage 1, calibrate its detector, and return the run's folder."""
    config = _resumed(config) if config.resume else config
    if config.resume and is_finished(config.out):
        return config.out
    if not config.data:
        raise ConfigError(
            "--data must name a data set, got none; make one with nearer collect --env ID"
        )
    dataset = open_dataset(resolve_dataset(config.data, config.revision))
    data = load_demonstrations(dataset)
    _, held_out = split_by_episode(data, config.training.held_out_share, config.training.seed)
    model = new_model(config.model, config.mlp, data, config.training.seed)
    if config.calibration.env is not None:
        # Known now, not after hours of training.
        fleet = make_fleet(config.calibration.env, 1)
        _check_fits(config.calibration.env, fleet, model)
        fleet.close()
    with _open_run(config, "sft") as run:
        sft(config.training, data, model, run, watch)
        run.write_json("demonstrations.json", {"episodes": _shown_demonstrations(held_out)})
        run.write_json("calibration.json", _calibrate(config, held_out, watch))
        run.finish()
    return config.out


def run_improve(config: ImproveConfig, watch: Watch = unwatched) -> Path:
    """Let the policy of a Stage-1 run practise, and return the new run's folder."""
    config = _resumed(config) if config.resume else config
    if config.resume and is_finished(config.out):
        return config.out
    if not config.env:
        raise ConfigError("--env must name a Gymnasium env, got none; pass --env ID")
    if config.run == Path():
        raise ConfigError("--run must name a Stage-1 run, got none; make one with nearer sft")
    policy = load_model(config.run, build_model, "policy").train()
    reward = load_model(config.run, build_model, "reward").requires_grad_(False)
    threshold = _threshold(config)
    witnessed = WitnessedFleet(make_fleet(config.env, config.robots))
    _check_fits(config.env, witnessed, policy)
    truth = config.deviate.end_on_truth
    frozen = weights_hash(reward)
    robot_type = config.env.rpartition("/")[2]
    with _open_run(config, "improve", frozen_sha256=frozen, threshold_steps=str(threshold)) as run:
        store = PracticeStore.open(run.root / "practice", policy.spaces, config.fps, robot_type)
        log = run.root / "audits.jsonl"
        cell = Cell(
            fleet=witnessed,
            judge=TruthJudge(witnessed)
            if truth
            else Detector(model=reward, threshold_steps=threshold),
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


def run_eval(config: EvalConfig, watch: Watch = unwatched) -> Evaluation:
    """Evaluate a checkpoint, write eval_info.json and the first rollouts, and return the result."""
    policy = load_model(config.checkpoint, build_model, "policy")
    fleet = make_fleet(config.env, config.robots)
    _check_fits(config.env, fleet, policy)
    out = config.out or config.checkpoint / "eval"
    with written(out):
        out.mkdir(parents=True, exist_ok=True)
    evaluation, episodes = evaluate(
        fleet,
        ModelPolicy(policy),
        episodes=config.episodes,
        max_steps=config.max_steps,
        seed=config.seed,
        watch=watch,
    )
    fleet.close()
    info = {"env": config.env, "checkpoint": str(config.checkpoint), **eval_info(evaluation)}
    write_json(out / "eval_info.json", info)
    shown = [_shown(episode) for episode in episodes[:_SHOWN_EPISODES]]
    write_json(out / "rollouts.json", {"env": config.env, "episodes": shown})
    return evaluation


def read_evaluation(path: Path, env: str) -> Evaluation:
    """Return the evaluation of an eval_info.json, or of a run or folder that has one.

    Raises:
        ConfigError: there is none, or it is of another env.
    """
    candidates = [path, path / "eval_info.json", path / "eval/eval_info.json"]
    found = next((one for one in candidates if one.is_file()), candidates[-1])
    document = read_json(found, f"make it with nearer eval --checkpoint RUN --env {env}")
    if document.get("env") != env:
        raise ConfigError(
            f"{found} must be an evaluation in {env}, got one in {document.get('env')}; "
            f"evaluate both policies with --env {env}"
        )
    return evaluation_of(document)


def saved_config(config: Config) -> Config:
    """Return the settings that the run in `config.out` was started with.

    Raises:
        ConfigError: there is no such run, or it is one of another command or version.
    """
    header = read_header(config.out)
    command = "sft" if isinstance(config, SFTConfig) else "improve"
    if header.get("command") != command:
        raise ConfigError(
            f"{config.out} must be a run of nearer {command}, got one of nearer "
            f"{header.get('command')}; continue it with that command"
        )
    return from_json(type(config), header.get("config"))


def _resumed(config: Config) -> Config:
    return resumed(config, saved_config(config))


def _open_run(config: SFTConfig | ImproveConfig, command: str, **facts: str) -> Run:
    if config.resume:
        return Run.resume(config.out, **facts)
    return Run.create(config.out, command, to_json(config), **facts)


def _threshold(config: ImproveConfig) -> float:
    """Return s: the user's, or the one that Stage 1 calibrated."""
    if config.threshold is not None:
        return config.threshold
    advice = "run nearer sft to the end, or pass --threshold STEPS"
    path = config.run / "calibration.json"
    threshold = read_json(path, advice).get("threshold_steps")
    if not isinstance(threshold, float):
        raise ConfigError(f"{path} must name threshold_steps, got {threshold}; {advice}")
    if threshold > config.practice.max_steps:
        raise ConfigError(
            f"the calibrated threshold of {threshold} steps must be below the time limit of "
            f"{config.practice.max_steps} steps; raise --max-steps or pass --threshold"
        )
    return threshold


def _check_fits(env: str, fleet: Fleet, model: FoundationModel) -> None:
    if fleet.spaces != model.spaces:
        raise EnvError(
            f"{env} must have the spaces of the checkpoint, {model.spaces}, got {fleet.spaces}; "
            "use the env that the demonstrations came from"
        )


def _calibrate(config: SFTConfig, held_out: Demonstrations, watch: Watch) -> dict[str, Any]:
    """Choose s on held-out demonstrations, and on labelled rollouts where an env is given."""
    watch(Progress(stage="calibration", done=0, total=1))
    reward = load_model(config.out, build_model, "reward")
    probabilities = steps_to_go_probabilities(reward, held_out.inputs(slice(None))).numpy()
    edges = reward.bins.edges().numpy()
    true_steps = held_out.steps_to_go.numpy()
    cuts = np.cumsum(held_out.episode_lengths)[:-1]
    sources: dict[str, Sequence[LabelledEpisode]] = {
        "held-out demonstrations": [
            LabelledEpisode(steps_to_go=d, fulfilled=left == 0)
            for d, left in zip(
                np.split(probabilities @ edges, cuts), np.split(true_steps, cuts), strict=True
            )
        ]
    }
    examples: dict[str, Any] = {}
    settings = config.calibration
    if settings.env is not None:
        policy = load_model(config.out, build_model, "policy")
        fleet = make_fleet(settings.env, min(settings.rollouts, _CALIBRATION_ROBOTS))
        _check_fits(settings.env, fleet, policy)
        rollouts = labelled_rollouts(
            fleet,
            ModelPolicy(policy),
            reward,
            episodes=settings.rollouts,
            max_steps=settings.rollout_steps,
            seed=config.training.seed,
        )
        fleet.close()
        sources["labelled rollouts"] = rollouts.labelled
        examples = _examples(reward, rollouts)
    watch(Progress(stage="calibration", done=1, total=1))
    curves = {name: detector_curve(episodes) for name, episodes in sources.items()}
    measured = reliability(probabilities, edges, true_steps, reward.bins.width_steps)
    document = calibration_document(curves, settings.min_precision, measured)
    return document | {"examples": examples}


def _examples(reward: FoundationModel, rollouts: LabelledRollouts) -> dict[str, Any]:
    """Return p(k | o_t, g) along the first good and the first bad rollout, for the report.

    A good one must take some steps: an episode that is done at once shows nothing.
    """
    wanted: dict[str, int] = {}
    for index, one in enumerate(rollouts.labelled):
        if not one.fulfilled.any():
            wanted.setdefault("bad", index)
        elif one.fulfilled.argmax() >= _EXAMPLE_STEPS:
            wanted.setdefault("good", index)
    examples: dict[str, Any] = {}
    for name, index in wanted.items():
        episode, label = rollouts.episodes[index], rollouts.labelled[index]
        end = int(label.fulfilled.argmax()) + 1 if label.fulfilled.any() else len(label.fulfilled)
        inputs = inputs_of(episode.observations, [episode.instruction] * (episode.num_steps + 1))
        probabilities = steps_to_go_probabilities(reward, inputs)[:end]
        examples[name] = {
            "edges": reward.bins.edges().tolist(),
            "probabilities": probabilities.numpy().round(4).tolist(),
            "steps_to_go": label.steps_to_go[:end].tolist(),
        }
    return examples


def _shown(episode: Episode) -> dict[str, Any]:
    return {
        "agent_pos": episode.observations.agent_pos.tolist(),
        "environment_state": episode.observations.environment_state.tolist(),
        "ended": episode.ended.value,
    }


def _shown_demonstrations(held_out: Demonstrations) -> list[dict[str, Any]]:
    """Return the first held-out demonstrations in the form of `_shown`."""
    split = held_out.spaces.agent_pos
    cuts = np.cumsum(held_out.episode_lengths)[:-1]
    states = np.split(held_out.state.numpy(), cuts)[:_SHOWN_EPISODES]
    return [
        {
            "agent_pos": state[:, :split].tolist(),
            "environment_state": state[:, split:].tolist(),
            "ended": Ended.SUCCESS_TRUE.value,
        }
        for state in states
    ]
