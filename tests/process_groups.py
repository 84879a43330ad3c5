"""Robots for processes of their own, which import this module by its name."""

import time
from typing import Any

from nearer.algorithm.model import Detector, FoundationModel
from nearer.core.errors import EnvError
from nearer.evaluation.ground_truth import GroundTruthRecorder
from nearer.fleets.gym import make_fleet
from nearer.fleets.processes import RobotGroup
from nearer.fleets.wrapper import FleetWrapper
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig

ENV, MAX_STEPS = "nearer/PointMass-v0", 12


def model() -> FoundationModel:
    fleet = make_fleet(ENV, 1)
    spaces = fleet.spaces
    fleet.close()
    return new_model("mlp", MLPConfig(hidden=16), spaces, (), seed=0).eval()


class Slow(FleetWrapper):
    """A fleet that takes its time."""

    def step(self, robots: Any, actions: Any) -> Any:
        time.sleep(0.01)
        return super().step(robots, actions)


class Failing(FleetWrapper):
    """A fleet whose env fails in the third step."""

    steps = 0

    def step(self, robots: Any, actions: Any) -> Any:
        self.steps += 1
        if self.steps == 3:
            raise EnvError("motor must turn, got smoke; mend the env")
        return super().step(robots, actions)


def group(robots: int, kind: str = "") -> RobotGroup:
    """Return robots of a process with an untrained policy."""
    wrapper = {"slow": Slow, "failing": Failing, "": FleetWrapper}[kind]
    own = model()
    recorder = GroundTruthRecorder(wrapper(make_fleet(ENV, robots)))
    return RobotGroup(
        policy=own,
        fleet=recorder,
        termination=Detector(model=own, threshold_steps=0.0),
        max_steps=MAX_STEPS,
        recorded=recorder,
    )
