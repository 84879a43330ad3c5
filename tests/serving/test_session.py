"""Sessions: equal actions to practice, tracking, chunks, metadata."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nearer.algorithm.model import FoundationModel, ModelPolicy, inputs_of
from nearer.algorithm.score import steps_to_go_probabilities
from nearer.algorithm.steps_to_go import expected_steps
from nearer.core.action_chunks import Chunking
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Sensed, Starts
from nearer.core.seeds import Purpose, generator
from nearer.fleets.encoded import EncodedFleet, Encoders
from nearer.serving.client_format import ClientFormat
from nearer.serving.session import ServedPolicy
from nearer.testing import CountingFleet
from serving_helpers import (
    INSTRUCTIONS,
    OLD_CLIENT,
    POINT_MASS,
    SEED,
    client,
    image_message,
    mlp,
    observation_with_image,
    served,
    serving,
    small_vla,
)

pytestmark = OLD_CLIENT


@pytest.fixture(scope="module")
def vla() -> FoundationModel:
    return small_vla()


class ReplayedObservationsFleet(CountingFleet):
    """A fleet of given observations, so that practice and serving get the same."""

    def __init__(self, observations: list[Observation]) -> None:
        super().__init__(1, goal_steps=9)
        self._left = iter(observations)

    def reset(self, robots: Any, seeds: Any) -> Starts:
        return Starts(observation=next(self._left), instructions=[INSTRUCTIONS[0]])

    def step(self, robots: Any, actions: Any) -> Sensed:
        return Sensed(observation=next(self._left), env_ended=np.zeros(1, bool))


def practice_actions(
    model: FoundationModel, observations: list[Observation], rng: Any
) -> list[Any]:
    """Return actions as practice samples them: every frame is encoded and tracked."""
    fleet, robots = (
        EncodedFleet(
            ReplayedObservationsFleet(observations), Encoders(model.vision_encoder, None, 1)
        ),
        np.arange(1),
    )
    sensed = fleet.reset(robots, [0])
    actions: list[Any] = []
    for _ in observations[1:]:
        decision = ModelPolicy(model).act(sensed.observation, [INSTRUCTIONS[0]], robots, [rng])
        actions.append(decision.actions)
        sensed = fleet.step(robots, decision.actions)
    decision = ModelPolicy(model).act(sensed.observation, [INSTRUCTIONS[0]], robots, [rng])
    return [*actions, decision.actions]


def test_respond_images_are_tracked_as_in_practice_until_a_reset(
    vla: FoundationModel,
) -> None:
    observations = [observation_with_image(seed) for seed in range(3)]
    rng = generator(Purpose.SERVING, SEED, 0)
    expected = practice_actions(vla, observations, rng) + practice_actions(
        vla, observations[1:], rng
    )
    with serving(served(vla)) as port, client(port) as robot:
        actions = [
            robot.infer(image_message(observations[0], prompt=INSTRUCTIONS[0]))["actions"],
            robot.infer(image_message(observations[1]))["actions"],
            robot.infer(image_message(observations[2], prompt=INSTRUCTIONS[0]))["actions"],
            robot.infer(image_message(observations[1], reset=True))["actions"],
            robot.infer(image_message(observations[2]))["actions"],
        ]
    assert np.array_equal(np.stack(actions), np.stack(expected))


def test_respond_new_instruction_starts_an_episode(vla: FoundationModel) -> None:
    policy = served(vla)
    first, second = policy.new_session(0), policy.new_session(1)
    policy.respond(first, image_message(observation_with_image(0), prompt=INSTRUCTIONS[0]))
    changed = policy.respond(
        first, image_message(observation_with_image(1), prompt=INSTRUCTIONS[1])
    )
    fresh = policy.respond(second, image_message(observation_with_image(1), prompt=INSTRUCTIONS[1]))
    assert changed.steps_to_go == fresh.steps_to_go


def test_respond_without_act_draws_nothing(vla: FoundationModel) -> None:
    policy = served(vla)
    session = policy.new_session(0)
    before = session.agent.rng.bit_generator.state
    response = policy.respond(
        session, image_message(observation_with_image(0), prompt=INSTRUCTIONS[0], act=False)
    )
    assert response.actions is None
    assert response.steps_to_go >= 0
    assert session.agent.rng.bit_generator.state == before


def test_respond_policy_in_chunks_counts_control_steps() -> None:
    spaces = replace(POINT_MASS, agent_pos=2, action=2).in_chunks(Chunking(chunk=3, relative=True))
    model = mlp(spaces)
    policy = ServedPolicy(model, model, 2.0, SEED)
    session = policy.new_session(0)
    message = {"observation.state": [5.0, -5.0], "observation.environment_state": [0.0, 1.0]}
    response = policy.respond(session, message)
    assert np.shape(response.actions) == (3, 2)
    observation = EncodedObservation.without_features(
        Observation(
            agent_pos=np.array([[5, -5]], np.float32),
            environment_state=np.array([[0, 1]], np.float32),
        )
    )
    rng = generator(Purpose.SERVING, SEED, 0)
    decision = ModelPolicy(model).act(observation, [""], np.arange(1), [rng]).actions
    assert np.array_equal(response.actions, decision.reshape(3, 2) + observation.agent_pos)
    d = expected_steps(
        steps_to_go_probabilities(model, inputs_of(observation, [""])), model.bins
    ).item()
    assert response.steps_to_go == pytest.approx(3 * d)
    assert policy.metadata(session).threshold_steps == 6.0


def test_metadata_of_a_model_that_reads_images_names_its_cameras(vla: FoundationModel) -> None:
    policy = served(vla, threshold=None)
    metadata = policy.metadata(policy.new_session(5))
    assert metadata.images == {"front": (96, 128, 3)}
    assert metadata.threshold_steps is None
    assert (metadata.model, metadata.robot, metadata.seed) == ("small-vla", 5, SEED)


def test_respond_without_a_threshold_leaves_done_out() -> None:
    policy = served(mlp(), threshold=None)
    message = {"observation.state": [0.0] * 4, "observation.environment_state": [0.0] * 2}
    assert policy.respond(policy.new_session(0), message).done is None


def test_respond_without_a_prompt_uses_the_servers_instruction(vla: FoundationModel) -> None:
    message = image_message(observation_with_image(0))
    policy = ServedPolicy(vla, vla, 1.0, SEED, ClientFormat(instruction=INSTRUCTIONS[0]))
    told = served(vla)
    answer = policy.respond(policy.new_session(0), message)
    expected = told.respond(told.new_session(0), {**message, "prompt": INSTRUCTIONS[0]})
    assert np.array_equal(answer.actions, expected.actions)
    other = {**message, "prompt": INSTRUCTIONS[1]}
    assert policy.respond(policy.new_session(0), other).steps_to_go == (
        told.respond(told.new_session(0), other).steps_to_go
    )
