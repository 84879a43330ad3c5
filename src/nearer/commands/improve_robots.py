"""The robots of `nearer improve`, in this process, in others or on Ray, and what moves them.

open_robots              where a run gets its episodes from
robots_of_actor          made in each process that has its own copies of the models
served_robots_of_actor   made in each process that asks the server of the models
served_models            made in that server
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from gymnasium.envs.registration import EnvSpec

from nearer.algorithm.model import Detector, FoundationModel, ModelPolicy
from nearer.algorithm.rollout import EpisodeSource, LockstepSource
from nearer.algorithm.threads import threads_worth
from nearer.configs.improve import ImproveConfig
from nearer.core.control_clock import ControlClock
from nearer.core.interfaces import Fleet, RecordedSuccess, TerminationRule
from nearer.evaluation.ground_truth import GroundTruthRecorder, GroundTruthTermination
from nearer.fleets.actors.actor import MakeGroup, RobotGroup, load_weights
from nearer.fleets.actors.background_check import BackgroundCheck, ReportedResets
from nearer.fleets.actors.control_log import CONTROL, ControlLog
from nearer.fleets.actors.faults import FAULTS, FaultLog
from nearer.fleets.actors.messages import ActorPool, Ask, Weights
from nearer.fleets.actors.model_process import ModelProcess
from nearer.fleets.actors.processes import ProcessPool
from nearer.fleets.actors.ray_cluster import RayPool
from nearer.fleets.actors.remote_models import RemoteEncoders, RemoteModels
from nearer.fleets.actors.served_models import ServedModels
from nearer.fleets.actors.source import ActorSource
from nearer.fleets.cameras import WatchedCameras
from nearer.fleets.chunked import encoded_in_chunks, in_chunks
from nearer.fleets.decide_ahead import AheadFleet, whole_chunks
from nearer.fleets.encoded import Encodes, encoders_of
from nearer.fleets.find_env import portable_spec, register_here
from nearer.fleets.for_model import ModelNeeds, Needs, unencoded_fleet
from nearer.fleets.instructions import ChosenInstructions
from nearer.fleets.live import LiveFleet, LiveSource, LiveTermination
from nearer.fleets.live_link import LiveFolder, LiveLink
from nearer.fleets.live_robots import LiveRobots
from nearer.fleets.paced import PacedFleet
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model
from nearer.runs.live import start_live


@dataclass(frozen=True, slots=True, kw_only=True)
class Robots:
    """Where episodes come from, and what the simulator says of them.

    Attributes:
        source: of episodes.
        recorded: ground truth, for audits alone.
        close: ends it.
    """

    source: EpisodeSource
    recorded: RecordedSuccess
    close: Callable[[], None]


def open_robots(
    config: ImproveConfig, threshold: float, models: tuple[FoundationModel, FoundationModel]
) -> Robots:
    """Return the robots of a run.

    Args:
        config: of the run; its fleet is no longer "auto".
        threshold: s of the detector, in decisions.
        models: policy and frozen reward model.

    Raises:
        NearerError: they cannot be made.
    """
    start_live(config.out, range(config.num_envs))
    if config.fleet == "lockstep":
        group = robots_of_actor(config, threshold, config.num_envs, models=models)
        source = LockstepSource(
            fleet=group.fleet,
            termination=group.termination,
            max_steps=group.max_steps,
            seed=config.practice.seed,
        )
        watched = LiveSource(source, group.live.live) if group.live else source
        return Robots(source=watched, recorded=group.recorded, close=group.fleet.close)
    settings = config.fleet_settings
    is_served = settings.policy == "served"
    make_models = partial(served_models, config, threshold) if is_served else None
    groups = _groups(config, threshold, _ModelFacts.of(*models) if is_served else None)
    seed = config.practice.seed
    pool: ActorPool
    if config.fleet == "ray":
        pool = RayPool(groups, seed, settings.address, make_models, config.out)
    else:
        pool = ProcessPool(groups, seed, ModelProcess(make_models) if make_models else None)
    actors = ActorSource(
        pool,
        settings.faults,
        FaultLog(config.out / FAULTS),
        ControlLog(config.out / CONTROL),
        settings.max_staleness,
    )
    return Robots(source=actors, recorded=actors, close=actors.close)


def _groups(
    config: ImproveConfig, threshold: float, facts: "_ModelFacts | None"
) -> list[MakeGroup]:
    """Return what makes the robots of each actor: an actor a robot on Ray, else a process each."""
    num_actors = config.fleet_settings.processes or config.num_envs
    shared, left = divmod(config.num_envs, num_actors)
    spec = portable_spec(config.env)
    groups: list[MakeGroup] = []
    first = 0
    for actor in range(num_actors):
        size = shared + (actor < left)
        if facts is None:
            groups.append(partial(robots_of_actor, config, threshold, size, first, spec))
        else:
            groups.append(
                partial(served_robots_of_actor, config, threshold, facts, size, first, spec)
            )
        first += size
    return groups


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelFacts:
    """What robots must know of models that are served.

    Attributes:
        policy: its spaces and instruction.
        reward: those of the reward model.
        has_encoder: one of them has a vision encoder.
    """

    policy: ModelNeeds
    reward: ModelNeeds
    has_encoder: bool

    @classmethod
    def of(cls, policy: FoundationModel, reward: FoundationModel) -> "_ModelFacts":
        needs = [
            ModelNeeds(spaces=model.spaces, only_instruction=model.only_instruction)
            for model in (policy, reward)
        ]
        has_encoder = bool(policy.vision_encoder or reward.vision_encoder)
        return cls(policy=needs[0], reward=needs[1], has_encoder=has_encoder)


def load_models(config: ImproveConfig) -> tuple[FoundationModel, FoundationModel]:
    """Return the policy and the frozen reward model of a run."""
    policy = load_model(config.run, build_model, "policy")
    reward = load_model(config.reward or config.run, build_model, "reward")
    return policy, reward.requires_grad_(False)


def robots_of_actor(
    config: ImproveConfig,
    threshold: float,
    num_robots: int,
    first_robot: int = 0,
    spec: EnvSpec | None = None,
    ask: Ask | None = None,
    models: tuple[FoundationModel, FoundationModel] | None = None,
    link: LiveLink | None = None,
) -> RobotGroup:
    """Return robots of a run that act in one process, with its own copies of the models.

    Args:
        config: of the run.
        threshold: s of the detector, in decisions.
        num_robots: in this process.
        first_robot: number of the first of them in the whole fleet.
        spec: of the env, where this process may not know it.
        ask: None: there is no server.
        models: policy and frozen reward model; None: they are loaded.
        link: to the console, where this process does not see the run's folder.
    """
    assert ask is None, "these robots ask no server"
    if spec is not None:
        register_here(spec)
    policy, reward = models or load_models(config)
    encoders = encoders_of(policy.vision_encoder, reward.vision_encoder, num_robots)
    recorded = _recorded_robots(config, first_robot, num_robots, policy, reward, encoders, link)
    robots: Fleet = recorded.recorder
    termination: TerminationRule = Detector(model=reward, threshold_steps=threshold)
    if config.deviate.end_on_ground_truth:
        termination = GroundTruthTermination(recorded.recorder)
    elif config.fleet_settings.background_check:
        termination = BackgroundCheck(termination, num_robots)
        robots = ReportedResets(recorded.recorder, termination)
    return RobotGroup(
        policy=ModelPolicy(policy),
        load=partial(load_weights, policy),
        fleet=robots,
        termination=recorded.watched(termination, threshold),
        max_steps=recorded.max_steps,
        recorded=recorded.recorder,
        clock=recorded.clock,
        live=recorded.live,
    )


def served_robots_of_actor(
    config: ImproveConfig,
    threshold: float,
    facts: _ModelFacts,
    num_robots: int,
    first_robot: int,
    spec: EnvSpec,
    ask: Ask | None,
    link: LiveLink | None = None,
) -> RobotGroup:
    """Return robots of a run that act in one process, by the models of a server.

    Args:
        config: of the run.
        threshold: s of the detector, in decisions.
        facts: of these models.
        num_robots: in this process.
        first_robot: number of the first of them in the whole fleet.
        spec: of the env.
        ask: the server.
        link: to the console, where this process does not see the run's folder.
    """
    assert ask is not None, "these robots ask a server"
    register_here(spec)
    encoders = RemoteEncoders(ask, first_robot) if facts.has_encoder else None
    recorded = _recorded_robots(
        config, first_robot, num_robots, facts.policy, facts.reward, encoders, link
    )
    remote = RemoteModels(recorded.recorder, ask, first_robot)
    return RobotGroup(
        policy=remote,
        load=_ignore,
        fleet=remote,
        termination=recorded.watched(remote, threshold),
        max_steps=recorded.max_steps,
        recorded=recorded.recorder,
        clock=recorded.clock,
        live=recorded.live,
    )


def served_models(config: ImproveConfig, threshold: float) -> ServedModels:
    """Return the models of a run that answer all its robots."""
    policy, reward = load_models(config)
    torch.set_num_threads(threads_worth(policy))  # the cores are shared with the robots
    encoders = encoders_of(policy.vision_encoder, reward.vision_encoder, config.num_envs)
    rule = Detector(model=reward, threshold_steps=threshold)
    return ServedModels(policy, encoders, rule, config.num_envs)


def _ignore(weights: Weights) -> None:
    """Do nothing: the server has the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _RecordedRobots:
    """Robots of one process, whatever moves them.

    Attributes:
        recorder: the fleet, as the models want it, and its ground truth.
        max_steps: control steps an episode may take, in whole chunks.
        clock: that paces the robots.
        live: what a person sees of them; None where the run's folder is on another machine.
    """

    recorder: GroundTruthRecorder
    max_steps: int
    clock: ControlClock | None
    live: LiveFleet | None

    def watched(self, rule: TerminationRule, threshold: float) -> TerminationRule:
        """Return a rule whose predictions a person sees, and who ends episodes besides."""
        return LiveTermination(rule, self.live.live, threshold) if self.live else rule


def _recorded_robots(
    config: ImproveConfig,
    first_robot: int,
    num_robots: int,
    policy: Needs,
    reward: Needs,
    encoders: Encodes | None,
    link: LiveLink | None,
) -> _RecordedRobots:
    """Return robots, innermost first: checked cameras, control rate, what a person sees and stops,
    features, action chunks.
    """
    settings, env_settings = config.fleet_settings, config.env_settings
    max_steps, chunking = config.practice.max_steps, policy.spaces.chunking
    chosen = ChosenInstructions()
    fleet = unencoded_fleet(config.env, num_robots, policy, reward, env_settings, max_steps, chosen)
    if config.fleet != "lockstep" and settings.faults.frozen_steps and fleet.spaces.cameras:
        fleet = WatchedCameras(fleet, settings.faults.frozen_steps)
    clock = ControlClock(1 / settings.hz) if settings.hz else None
    fleet = PacedFleet(fleet, clock) if clock else fleet
    live: LiveFleet | None = None
    if config.out.is_dir():
        link = LiveFolder(config.out)
    if link is not None:
        shown = LiveRobots(
            link,
            first_robot,
            num_robots,
            chunking.unit,
            film_every=config.audits.audit_every if fleet.spaces.cameras else 0,
            clock=clock,
        )
        fleet = live = LiveFleet(fleet, shown, clock, chosen)
    recording, ahead = config.audits.by_ground_truth, settings.decide_ahead
    chunks = partial(AheadFleet, ahead=ahead, recording=recording) if ahead else in_chunks
    fleet = encoded_in_chunks(fleet, chunking, encoders, chunks)
    return _RecordedRobots(
        recorder=GroundTruthRecorder(fleet, recording=recording),
        max_steps=whole_chunks(max_steps, chunking, ahead),
        clock=clock,
        live=live,
    )
