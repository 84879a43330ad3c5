"""From episodes to samples: labels by the frozen model, nothing lost on the way to a minibatch."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from nearer.algorithm.batch import Batch, join, make_batch, minibatches
from nearer.algorithm.improve_settings import Deviations, Practice, ValueBaseline
from nearer.algorithm.learner import Learner
from nearer.algorithm.model import FoundationModel, Inputs, inputs_of
from nearer.algorithm.score import progress_of, score, steps_to_go_probabilities
from nearer.algorithm.steps_to_go import StepsToGoBins, summary
from nearer.algorithm.value_baseline import subtract_expected_returns
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Rngs
from nearer.core.spaces import Spaces
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig


class StateReadingModel(FoundationModel):
    """Reads steps-to-go from the first number of the state: all probability is on that bin."""

    bins = StepsToGoBins(count=20)
    spaces = Spaces(agent_pos=1, environment_state=0, action=1)

    def config(self) -> dict[str, object]:
        return {}

    def normalise_by(self, inputs: Inputs, actions: torch.Tensor) -> None:
        raise AssertionError("this model has no scale")

    def sample(self, inputs: Inputs, rngs: Rngs) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("this model does not act")

    def log_prob(self, inputs: Inputs, actions: torch.Tensor) -> torch.Tensor:
        raise AssertionError("this model does not act")

    def normalised_inputs(self, inputs: Inputs) -> torch.Tensor:
        return inputs.state

    def steps_to_go_logits(self, inputs: Inputs) -> torch.Tensor:
        return 1000.0 * torch.nn.functional.one_hot(inputs.state[:, 0].long(), 20).float()


def episode(d: list[int], seed: int, ended: Ended = Ended.TIME_LIMIT) -> Episode:
    steps = len(d) - 1
    return Episode(
        robot=0,
        seed=seed,
        instruction=f"task {seed}",
        policy_version=0,
        observations=EncodedObservation.without_features(
            Observation(
                agent_pos=np.array(d, dtype=np.float32)[:, None],
                environment_state=np.zeros((len(d), 0), dtype=np.float32),
            )
        ),
        actions=np.arange(steps, dtype=np.float32)[:, None] + 100 * seed,
        log_prob=np.full(steps, -seed, dtype=np.float32),
        ended=ended,
    )


EPISODES = [
    episode([9, 7, 8, 0], 1, Ended.SUCCESS_DETECTED),
    episode([5, 5], 2),
    episode([3, 2, 1, 1, 4], 3),
]


def test_score_three_episodes_equals_labels_by_hand() -> None:
    first, second, third = score(StateReadingModel(), EPISODES, threshold_steps=1, discount=0.5)
    assert first.steps_to_go.tolist() == [9, 7, 8, 0]
    assert first.rewards.tolist() == [2, -1, 8]
    assert first.returns.tolist() == [2 - 0.5 + 2, -1 + 4, 8]
    assert first.solved.tolist() == [False, False, False, True]
    assert second.returns.tolist() == [0]
    assert third.rewards.tolist() == [1, 1, 0, -3]
    assert progress_of([first, second, third]).tolist() == [9, 0, -1]
    assert first.quantiles[0].tolist() == [9, 9, 9]


@pytest.mark.parametrize("ended", [Ended.SUCCESS_DETECTED, Ended.SUCCESS_TRUE])
def test_score_bonus_is_paid_for_success_alone(ended: Ended) -> None:
    episodes = [replace(EPISODES[0], ended=ended), *EPISODES[1:]]
    plain = score(StateReadingModel(), episodes, threshold_steps=1, discount=0.5)
    paid = score(StateReadingModel(), episodes, threshold_steps=1, discount=0.5, success_bonus=10)
    assert (paid[0].rewards - plain[0].rewards).tolist() == [0, 0, 10]
    assert paid[1].rewards.tolist() == plain[1].rewards.tolist()
    assert paid[2].rewards.tolist() == plain[2].rewards.tolist()


def test_make_batch_holds_every_step_once() -> None:
    scored = score(StateReadingModel(), EPISODES, threshold_steps=1, discount=0.5)
    batch = make_batch(scored)
    assert batch.actions[:, 0].tolist() == [100, 101, 102, 200, 300, 301, 302, 303]
    assert batch.inputs.state[:, 0].tolist() == [9, 7, 8, 5, 3, 2, 1, 1]
    assert list(batch.inputs.instructions) == ["task 1"] * 3 + ["task 2"] + ["task 3"] * 4
    assert batch.log_prob.tolist() == [-1] * 3 + [-2] + [-3] * 4
    assert batch.returns.tolist() == np.concatenate([s.returns for s in scored]).tolist()
    assert len(join([batch, batch])) == 16


def test_minibatches_draw_without_replacement() -> None:
    batch = make_batch(score(StateReadingModel(), EPISODES, threshold_steps=1, discount=0.5))
    drawn = list(minibatches(batch, count=3, size=2, rngs=np.random.default_rng(0)))
    assert [len(minibatch) for minibatch in drawn] == [2, 2, 2]
    actions = torch.cat([minibatch.actions[:, 0] for minibatch in drawn])
    assert len(actions.unique()) == 6
    for minibatch in drawn:
        # the columns of a sample stay together
        seeds = (minibatch.actions[:, 0] // 100).long().tolist()
        assert list(minibatch.inputs.instructions) == [f"task {seed}" for seed in seeds]
        assert minibatch.log_prob.tolist() == [-seed for seed in seeds]


@pytest.mark.parametrize("count", [1, 4])
def test_minibatches_of_equal_generators_are_equal(count: int) -> None:
    batch = make_batch(score(StateReadingModel(), EPISODES, threshold_steps=1, discount=0.5))
    first, second = (
        [m.actions.tolist() for m in minibatches(batch, count, 2, np.random.default_rng(3))]
        for _ in range(2)
    )
    assert first == second


def subtract_value_baseline(fresh: Batch, past: Sequence[Batch], rng: np.random.Generator) -> Batch:
    return subtract_expected_returns(ValueBaseline(), StateReadingModel(), fresh, past, rng)


def test_value_baseline_without_a_past_is_the_mean_return() -> None:
    batch = make_batch(score(StateReadingModel(), EPISODES, threshold_steps=0.5, discount=0.9))
    fresh = subtract_value_baseline(batch, [], np.random.default_rng(0))
    assert torch.allclose(fresh.returns, batch.returns - batch.returns.mean())
    assert fresh.actions is batch.actions


def test_value_baseline_with_a_past_is_the_return_of_the_state() -> None:
    """Returns that are a function of the state become 0; what is not such a function stays."""
    rng = np.random.default_rng(0)

    def samples(states: list[int], extra: float) -> Batch:
        state = torch.tensor(states, dtype=torch.float32)[:, None]
        return Batch(
            inputs=Inputs(
                state=state, features=torch.zeros(len(states), 0), instructions=[""] * len(states)
            ),
            actions=torch.zeros(len(states), 1),
            log_prob=torch.zeros(len(states)),
            returns=4 * state[:, 0] - 3 + extra,
        )

    past = [samples(rng.integers(-1, 2, 400).tolist(), 0.0) for _ in range(3)]
    expected = subtract_expected_returns(
        ValueBaseline(),
        StateReadingModel(),
        samples([-1, 0, 1], 0.0),
        past,
        np.random.default_rng(1),
    )
    assert expected.returns.abs().max() < 0.5
    better = subtract_expected_returns(
        ValueBaseline(),
        StateReadingModel(),
        samples([-1, 0, 1], 2.0),
        past,
        np.random.default_rng(1),
    )
    assert torch.allclose(better.returns, expected.returns + 2.0, atol=1e-5)


@pytest.mark.parametrize("ppo_clip", [0.0, 0.2])
def test_update_batch_in_parts_equals_update_of_the_whole_batch(ppo_clip: float) -> None:
    draw = torch.Generator().manual_seed(0)
    spaces = Spaces(agent_pos=2, environment_state=2, action=2)
    inputs = Inputs(
        state=torch.rand(10, 4, generator=draw),
        features=torch.zeros(10, 0),
        instructions=["go"] * 10,
    )
    samples = Batch(
        inputs=inputs,
        actions=torch.randn(10, 2, generator=draw),
        log_prob=torch.randn(10, generator=draw) - 5,
        returns=torch.randn(10, generator=draw),
    )
    assert [len(part) for part in samples.parts(4)] == [3, 3, 2, 2]
    losses_and_weights: list[torch.Tensor] = []
    for accumulate in (1, 4):
        practice = Practice(batch_size=10, accumulate=accumulate, updates_per_iteration=1)
        policy = new_model("mlp", MLPConfig(hidden=8), spaces, (), seed=0)
        optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
        learner = Learner(practice, Deviations(ppo_clip=ppo_clip), policy, optimizer)
        loss = torch.tensor([learner.learn(samples, 0).loss])
        losses_and_weights.append(
            torch.cat([loss, *(weights.detach().flatten() for weights in policy.parameters())])
        )
    torch.testing.assert_close(losses_and_weights[1], losses_and_weights[0])
    with pytest.raises(ConfigError, match="--accumulate must lie in"):
        Practice(batch_size=10, accumulate=11)


class NeverRunModel(StateReadingModel):
    """A reward model that must not run, since every episode has its prediction already."""

    def steps_to_go_logits(self, inputs: Inputs) -> torch.Tensor:
        raise AssertionError("the episodes have predictions already")


def with_prediction(unlabelled: Episode) -> Episode:
    probabilities = steps_to_go_probabilities(
        StateReadingModel(),
        inputs_of(unlabelled.observations, [unlabelled.instruction] * (unlabelled.num_steps + 1)),
    )
    return replace(unlabelled, prediction=summary(probabilities, StateReadingModel.bins))


def test_score_episodes_with_predictions_does_not_run_the_model() -> None:
    expected = score(StateReadingModel(), EPISODES, threshold_steps=0.5, discount=0.9)
    labelled = [with_prediction(unlabelled) for unlabelled in EPISODES]
    for first, second in zip(
        expected, score(NeverRunModel(), labelled, threshold_steps=0.5, discount=0.9), strict=True
    ):
        assert np.array_equal(first.steps_to_go, second.steps_to_go)
        assert np.array_equal(first.steps_to_go_std, second.steps_to_go_std)
        assert np.array_equal(first.quantiles, second.quantiles)
        assert np.array_equal(first.returns, second.returns)
        assert np.array_equal(first.solved, second.solved)


def test_score_of_partly_predicted_episodes_keeps_their_order() -> None:
    mixed = [EPISODES[0], with_prediction(EPISODES[1]), EPISODES[2]]
    scored = score(StateReadingModel(), mixed, threshold_steps=0.5, discount=0.9)
    assert [episode.steps_to_go.tolist() for episode in scored] == [
        [9, 7, 8, 0],
        [5, 5],
        [3, 2, 1, 1, 4],
    ]
