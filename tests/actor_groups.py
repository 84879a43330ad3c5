"""Robots for actors, whose processes import this module by its name."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nearer.algorithm.model import Detector, FoundationModel, ModelPolicy
from nearer.core.errors import EnvError, NearerError
from nearer.core.interfaces import Fleet
from nearer.evaluation.ground_truth import GroundTruthRecorder
from nearer.fleets.actors.actor import RobotGroup, load_weights
from nearer.fleets.actors.messages import Ask
from nearer.fleets.actors.remote_models import RemoteModels
from nearer.fleets.actors.served_models import ServedModels
from nearer.fleets.gym import make_fleet
from nearer.fleets.wrapper import FleetWrapper
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig

ENV, MAX_STEPS = "nearer/PointMass-v0", 12


def model() -> FoundationModel:
    """Return an untrained model of the point mass."""
    fleet = make_fleet(ENV, 1)
    spaces = fleet.spaces
    fleet.close()
    return new_model("mlp", MLPConfig(hidden=16), spaces, (), seed=0).eval()


class Slow(FleetWrapper):
    """A fleet that takes its time."""

    def step(self, robots: Any, actions: Any) -> Any:
        time.sleep(0.01)
        return super().step(robots, actions)


class Faulty(FleetWrapper):
    """A fleet that fails in its third step, in one way, so often as a folder says.

    Args:
        fleet: robots.
        kind: raises, hangs, exits, or refuses (to reset); "broken" is no fault of a robot's.
        folder: counts the faults in its files, so that all incarnations know.
        times: faults.
    """

    def __init__(self, fleet: Fleet, kind: str, folder: Path, times: int) -> None:
        super().__init__(fleet)
        self._kind, self._folder, self._times = kind, folder, times
        self._steps = 0

    def reset(self, robots: Any, seeds: Any) -> Any:
        if self._kind == "refuses" and self._due():
            time.sleep(3600)
        return super().reset(robots, seeds)

    def step(self, robots: Any, actions: Any) -> Any:
        self._steps += 1
        if self._steps >= 3 and self._kind != "refuses" and self._due():
            if self._kind == "raises":
                raise EnvError("motor must turn, got smoke; mend the env")
            if self._kind == "broken":
                raise NearerError("weights must be finite, got nan; train again")
            if self._kind == "exits":
                os._exit(7)
            time.sleep(3600)
        return super().step(robots, actions)

    def _due(self) -> bool:
        faults = len(list(self._folder.iterdir()))
        if faults >= self._times:
            return False
        (self._folder / f"{faults}-{time.time()}").touch()
        return True


class Tired(FleetWrapper):
    """A fleet whose process ends with an error that is none of nearer's."""

    def step(self, robots: Any, actions: Any) -> Any:
        raise MemoryError("no memory is left")


def group(
    robots: int,
    kind: str = "",
    folder: Path | None = None,
    times: int = 1,
    ask: Ask | None = None,
) -> RobotGroup:
    """Return robots of an actor with an untrained policy."""
    own = model()
    fleet: Fleet = make_fleet(ENV, robots)
    if kind == "slow":
        fleet = Slow(fleet)
    elif kind == "tired":
        fleet = Tired(fleet)
    elif kind:
        assert folder is not None, "faults are counted in a folder"
        fleet = Faulty(fleet, kind, folder, times)
    recorder = GroundTruthRecorder(fleet)
    return RobotGroup(
        policy=ModelPolicy(own),
        load=partial(load_weights, own),
        fleet=recorder,
        termination=Detector(model=own, threshold_steps=0.0),
        max_steps=MAX_STEPS,
        recorded=recorder,
    )


def served_group(robots: int, first: int, ask: Ask | None = None) -> RobotGroup:
    """Return robots of an actor that asks a server."""
    assert ask is not None, "there must be a server"
    recorder = GroundTruthRecorder(make_fleet(ENV, robots))
    remote = RemoteModels(recorder, ask, first)
    return RobotGroup(
        policy=remote,
        load=nothing,
        fleet=remote,
        termination=remote,
        max_steps=MAX_STEPS,
        recorded=recorder,
    )


def nothing(weights: Any) -> None:
    """Do nothing with the weights."""


def models(robots: int) -> ServedModels:
    """Return an untrained policy for a server."""
    own = model()
    return ServedModels(own, None, Detector(model=own, threshold_steps=0.0), robots)


def same_bits(ours: Any, theirs: Any) -> bool:
    """Tell whether two episodes are the same."""
    return (
        (ours.robot, ours.seed) == (theirs.robot, theirs.seed)
        and np.array_equal(ours.actions, theirs.actions)
        and np.array_equal(ours.log_prob, theirs.log_prob)
    )
