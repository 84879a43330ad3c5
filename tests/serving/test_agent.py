"""One robot's agent: what it remembers, in which units it answers, what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nearer.algorithm.model import FoundationModel, inputs_of
from nearer.algorithm.steps_to_go import expected_steps, spread_steps
from nearer.core.action_chunks import Chunking
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.errors import CheckpointError, ConfigError, EnvError
from nearer.core.spaces import Spaces
from nearer.serving.agent import Agent
from serving_helpers import INSTRUCTIONS, mlp, observation_with_image, small_vla

JOINTS = Spaces(agent_pos=2, environment_state=1, action=2)
MOVE, PUSH = INSTRUCTIONS[1], INSTRUCTIONS[0]


@pytest.fixture(scope="module")
def vla() -> FoundationModel:
    return small_vla()


def agent_of(
    model: FoundationModel, threshold: float | None = 1.0, reward: FoundationModel | None = None
) -> Agent:
    return Agent(model, reward or model, threshold, np.random.default_rng(0))


def states(rows: int = 1) -> Observation:
    numbers = np.linspace(-1, 1, 3 * rows, dtype=np.float32).reshape(rows, 3)
    return Observation(agent_pos=numbers[:, :2], environment_state=numbers[:, 2:])


def probabilities(model: FoundationModel, observation: Observation) -> torch.Tensor:
    inputs = inputs_of(EncodedObservation.without_features(observation), [""])
    with torch.inference_mode():
        return model.steps_to_go_logits(inputs).softmax(dim=-1)


def test_observe_says_mean_and_spread_of_steps_to_go_and_success() -> None:
    model = mlp(JOINTS)
    steps = probabilities(model, states())
    mean = float(expected_steps(steps, model.bins))
    for threshold, success in ((mean + 0.1, True), (mean - 0.1, False), (None, None)):
        estimate = agent_of(model, threshold).observe(states())
        assert estimate.steps_to_go == pytest.approx(mean)
        assert estimate.steps_to_go_std == pytest.approx(float(spread_steps(steps, model.bins)))
        assert estimate.success is success


def test_observe_of_a_model_in_chunks_counts_control_steps() -> None:
    model = mlp(JOINTS.in_chunks(Chunking(chunk=4)))
    agent = agent_of(model, threshold=2.5)
    steps = expected_steps(probabilities(model, states()), model.bins)
    assert agent.threshold_steps == 10
    assert agent.observe(states()).steps_to_go == pytest.approx(4 * float(steps))


def test_threshold_steps_without_a_calibration_is_none() -> None:
    assert agent_of(mlp(JOINTS), threshold=None).threshold_steps is None


def test_act_in_relative_chunks_gives_a_row_a_control_step_in_the_envs_units() -> None:
    agent = agent_of(mlp(JOINTS.in_chunks(Chunking(chunk=3, relative=True))))
    answer = agent.act(states())
    assert answer.actions.shape == (3, 2)
    episode = states().rows(np.zeros(3, np.int64))
    recomputed = agent.log_prob(episode, answer.actions, "")
    assert recomputed.shape == (1,)
    assert recomputed[0] == pytest.approx(answer.log_prob, abs=1e-4)


def test_act_samples_with_the_agents_generator_alone() -> None:
    model = mlp(JOINTS)
    answers = [[agent.act(states()).actions.tolist() for _ in range(3)]
               for agent in (agent_of(model), agent_of(model))]  # fmt: skip
    assert answers[0] == answers[1]
    assert answers[0][0] != answers[0][1]


def test_act_of_a_policy_with_another_reward_model_asks_each_its_question() -> None:
    policy, reward = mlp(JOINTS, seed=0), mlp(JOINTS, seed=1)
    answer = agent_of(policy, reward=reward).act(states())
    alone = agent_of(policy).act(states())
    assert answer.actions.tolist() == alone.actions.tolist()
    assert answer.steps_to_go == agent_of(reward).observe(states()).steps_to_go
    assert answer.steps_to_go != alone.steps_to_go


def test_act_reads_what_a_gymnasium_env_returns() -> None:
    raw = {"agent_pos": np.array([-1.0, 0.0]), "environment_state": [1.0]}
    assert agent_of(mlp(JOINTS)).act(raw).steps_to_go == (
        agent_of(mlp(JOINTS)).act(states()).steps_to_go
    )


def test_observe_again_remembers_the_frame_before_until_a_reset(vla: FoundationModel) -> None:
    first, second = observation_with_image(0), observation_with_image(1)
    fresh = agent_of(vla).observe(second, MOVE).steps_to_go
    agent = agent_of(vla)
    agent.observe(first, MOVE)
    assert agent.observe(second).steps_to_go != fresh
    assert agent.observe(second, reset=True).steps_to_go == fresh
    assert agent.instruction == MOVE


def test_observe_with_another_instruction_starts_an_episode(vla: FoundationModel) -> None:
    first, second = observation_with_image(0), observation_with_image(1)
    agent = agent_of(vla)
    agent.observe(first, PUSH)
    assert agent.observe(second, MOVE).steps_to_go == (
        agent_of(vla).observe(second, MOVE).steps_to_go
    )


def test_observe_refused_instruction_leaves_the_agent_as_it_was(vla: FoundationModel) -> None:
    agent, undisturbed = agent_of(vla), agent_of(vla)
    for same in (agent, undisturbed):
        same.observe(observation_with_image(0), MOVE)
    with pytest.raises(ConfigError, match="wildly"):
        agent.observe(observation_with_image(2), "dance wildly")
    assert agent.instruction == MOVE
    following = observation_with_image(1)
    assert agent.observe(following) == undisturbed.observe(following)


def test_cameras_are_those_of_a_model_that_reads_images(vla: FoundationModel) -> None:
    assert [camera.name for camera in agent_of(vla).cameras] == ["front"]
    assert agent_of(mlp(replace(JOINTS, cameras=vla.spaces.cameras))).cameras == ()


def test_log_prob_of_an_episode_leaves_the_agents_own_robot_alone(vla: FoundationModel) -> None:
    agent, undisturbed = agent_of(vla), agent_of(vla)
    for same in (agent, undisturbed):
        same.observe(observation_with_image(0), MOVE)
    parts = [observation_with_image(seed) for seed in range(3)]
    episode = Observation(
        agent_pos=np.concatenate([part.agent_pos for part in parts]),
        environment_state=np.zeros((3, 0), np.float32),
        images={"front": np.concatenate([part.images["front"] for part in parts])},
    )
    actions = np.zeros((2, 2), np.float32)
    assert agent.log_prob(episode, actions, PUSH).shape == (2,)
    following = observation_with_image(1)
    assert agent.observe(following) == undisturbed.observe(following)


def test_log_prob_of_a_remainder_below_a_chunk_leaves_it_out() -> None:
    agent = agent_of(mlp(JOINTS.in_chunks(Chunking(chunk=3))))
    actions = np.zeros((7, 2), np.float32)
    assert agent.log_prob(states(8), actions, "").shape == (2,)


@pytest.mark.parametrize("count", [0, 2])
def test_log_prob_of_fewer_actions_than_a_chunk_is_empty(count: int) -> None:
    agent = agent_of(mlp(JOINTS.in_chunks(Chunking(chunk=3))))
    assert agent.log_prob(states(3), np.zeros((count, 2), np.float32), "").shape == (0,)


def test_log_prob_with_fewer_observations_than_actions_is_refused() -> None:
    with pytest.raises(ConfigError, match="each of the 4 actions, got 3; pass the whole episode"):
        agent_of(mlp(JOINTS)).log_prob(states(3), np.zeros((4, 2), np.float32), "")


def test_observation_without_the_models_image_is_refused(vla: FoundationModel) -> None:
    with pytest.raises(EnvError, match="must have the image front, uint8 RGB of shape"):
        agent_of(vla).act(replace(observation_with_image(0), images={}), MOVE)


def test_act_and_observe_never_answer_with_what_is_not_finite() -> None:
    policy, reward = mlp(JOINTS), mlp(JOINTS)
    agent = agent_of(policy, reward=reward)
    for model, sentence in ((policy, "every action must be finite"), (reward, "steps-to-go must")):
        kept = {name: values.clone() for name, values in model.state_dict().items()}
        with torch.no_grad():
            for weights in model.parameters():
                weights.fill_(torch.nan)
        with pytest.raises(CheckpointError, match=sentence):
            agent.act(states())
        model.load_state_dict(kept)
    assert np.isfinite(agent.act(states()).actions).all()
