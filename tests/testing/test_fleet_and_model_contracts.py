"""The contract tests that users run on their own fleets and models find what is broken."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nearer.algorithm.model import Inputs
from nearer.core.spaces import Spaces
from nearer.models.mlp import MLP
from nearer.models.settings import MLPConfig
from nearer.testing.fakes import CountingFleet
from nearer.testing.fleet_contract import check_fleet
from nearer.testing.model_contract import check_model


class UnseededFleet(CountingFleet):
    def reset(self, robots: Any, seeds: Any) -> Any:
        return super().reset(robots, [int(robot) for robot in robots])


class DriftingFleet(CountingFleet):
    def step(self, robots: Any, actions: Any) -> Any:
        self._position[:, 1] += 1
        return super().step(robots, actions)


class RandomFleet(CountingFleet):
    def step(self, robots: Any, actions: Any) -> Any:
        sensed = super().step(robots, actions)
        noise = np.random.default_rng().normal(size=sensed.observation.agent_pos.shape)
        moved = sensed.observation.agent_pos + noise.astype(np.float32)
        return replace(sensed, observation=replace(sensed.observation, agent_pos=moved))


class WideFleet(CountingFleet):
    def __init__(self, num_robots: int, goal_steps: int) -> None:
        super().__init__(num_robots, goal_steps)
        self.spaces = Spaces(agent_pos=3, environment_state=0, action=1)


class MuteFleet(CountingFleet):
    def reset(self, robots: Any, seeds: Any) -> Any:
        return replace(super().reset(robots, seeds), instructions=[])


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (UnseededFleet, "the same seed must give the same start in every slot"),
        (DriftingFleet, "a robot that is not stepped must stand still"),
        (RandomFleet, "the same seed and actions must give the same episode"),
        (WideFleet, "observations must have the sizes of spaces"),
        (MuteFleet, "reset must give an instruction a robot"),
    ],
)
def test_check_fleet_names_the_broken_rule(broken: type[CountingFleet], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_fleet(broken(3, 4))


def test_check_fleet_passes_a_fleet_that_keeps_the_contract() -> None:
    check_fleet(CountingFleet(3, 4))
    check_fleet(CountingFleet(1, 4))


SPACES = Spaces(agent_pos=2, environment_state=1, action=2)


def model_of(kind: type[MLP] = MLP) -> MLP:
    torch.manual_seed(0)
    return kind(MLPConfig(hidden=8, num_bins=5), SPACES)


def inputs_of_rows(rows: int) -> Inputs:
    state = torch.linspace(-1, 1, 3 * rows).reshape(rows, 3)
    return Inputs(state=state, features=torch.zeros(rows, 0), instructions=[""] * rows)


class AmbientRandomness(MLP):
    def sample(self, inputs: Any, rngs: Any) -> Any:
        return super().sample(inputs, [np.random.default_rng() for _ in rngs])


class WrongLogProb(MLP):
    def sample(self, inputs: Any, rngs: Any) -> Any:
        actions, log_prob = super().sample(inputs, rngs)
        return actions, log_prob + 1


class NotFinite(MLP):
    def steps_to_go_logits(self, inputs: Any) -> Any:
        return super().steps_to_go_logits(inputs) / 0


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (AmbientRandomness, "the same generators must give the same actions"),
        (WrongLogProb, "sample and log_prob must agree"),
        (NotFinite, "logits must be finite"),
    ],
)
def test_check_model_names_the_broken_rule(broken: type[MLP], sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_model(model_of(broken), inputs_of_rows(4))


def test_check_model_passes_a_model_that_keeps_the_contract() -> None:
    check_model(model_of(), inputs_of_rows(4))
