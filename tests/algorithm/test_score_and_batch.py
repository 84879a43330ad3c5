"""From episodes to samples: labels by the frozen model, nothing lost on the way to a minibatch."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from nearer.algorithm.batch import Batch, join, make_batch, minibatches
from nearer.algorithm.improve import update
from nearer.algorithm.improve_settings import Deviations, Practice, ValueBaseline
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


class Ruler(FoundationModel):
    """Reads d off the first number of the state: all probability on that bin."""

    bins = StepsToGoBins(count=20)
    spaces = Spaces(agent_pos=1, environment_state=0, action=1)

    def config(self) -> dict[str, object]:
        return {}

    def normalise_by(self, inputs: Inputs, actions: torch.Tensor) -> None:
        raise AssertionError("a ruler has no scale")

    def sample(self, inputs: Inputs, rngs: Rngs) -> tuple[torch.Tensor, torch.Tensor]:
        raise AssertionError("a ruler does not act")

    def log_prob(self, inputs: Inputs, actions: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a ruler does not act")

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


def test_labels_by_hand() -> None:
    one, two, three = score(Ruler(), EPISODES, threshold_steps=1, discount=0.5)
    assert one.steps_to_go.tolist() == [9, 7, 8, 0]
    assert one.rewards.tolist() == [2, -1, 8]
    assert one.returns.tolist() == [2 - 0.5 + 2, -1 + 4, 8]
    assert one.solved.tolist() == [False, False, False, True]
    assert two.returns.tolist() == [0]
    assert three.rewards.tolist() == [1, 1, 0, -3]
    assert progress_of([one, two, three]).tolist() == [9, 0, -1]
    assert one.quantiles[0].tolist() == [9, 9, 9]


def test_a_bonus_is_paid_for_detected_success_alone() -> None:
    plain = score(Ruler(), EPISODES, threshold_steps=1, discount=0.5)
    paid = score(Ruler(), EPISODES, threshold_steps=1, discount=0.5, success_bonus=10)
    assert (paid[0].rewards - plain[0].rewards).tolist() == [0, 0, 10]
    assert paid[1].rewards.tolist() == plain[1].rewards.tolist()
    assert paid[2].rewards.tolist() == plain[2].rewards.tolist()


def test_a_batch_holds_every_step_once() -> None:
    scored = score(Ruler(), EPISODES, threshold_steps=1, discount=0.5)
    batch = make_batch(scored)
    assert batch.actions[:, 0].tolist() == [100, 101, 102, 200, 300, 301, 302, 303]
    assert batch.inputs.state[:, 0].tolist() == [9, 7, 8, 5, 3, 2, 1, 1]
    assert list(batch.inputs.instructions) == ["task 1"] * 3 + ["task 2"] + ["task 3"] * 4
    assert batch.log_prob.tolist() == [-1] * 3 + [-2] + [-3] * 4
    assert batch.returns.tolist() == [r for one in scored for r in one.returns.tolist()]
    assert len(join([batch, batch])) == 16


def test_minibatches_draw_without_replacement() -> None:
    batch = make_batch(score(Ruler(), EPISODES, threshold_steps=1, discount=0.5))
    drawn = list(minibatches(batch, count=3, size=2, rngs=np.random.default_rng(0)))
    assert [len(one) for one in drawn] == [2, 2, 2]
    actions = [action for one in drawn for action in one.actions[:, 0].tolist()]
    assert len(set(actions)) == 6
    for one in drawn:
        # the columns of a sample stay together
        seeds = (one.actions[:, 0] // 100).long().tolist()
        assert list(one.inputs.instructions) == [f"task {seed}" for seed in seeds]
        assert one.log_prob.tolist() == [-seed for seed in seeds]


@pytest.mark.parametrize("count", [1, 4])
def test_minibatches_are_a_function_of_the_generator(count: int) -> None:
    batch = make_batch(score(Ruler(), EPISODES, threshold_steps=1, discount=0.5))
    first, second = (
        [m.actions.tolist() for m in minibatches(batch, count, 2, np.random.default_rng(3))]
        for _ in range(2)
    )
    assert first == second


def without_expected(fresh: Batch, past: Sequence[Batch], rng: np.random.Generator) -> Batch:
    return subtract_expected_returns(ValueBaseline(), Ruler(), fresh, past, rng)


def test_without_a_past_the_mean_return_is_expected() -> None:
    batch = make_batch(score(Ruler(), EPISODES, threshold_steps=0.5, discount=0.9))
    found = without_expected(batch, [], np.random.default_rng(0))
    assert torch.allclose(found.returns, batch.returns - batch.returns.mean())
    assert found.actions is batch.actions


def test_what_the_past_says_of_a_place_is_expected_there() -> None:
    """Returns that are a function of the place leave nothing; what is not so is left."""
    rng = np.random.default_rng(0)

    def samples(places: list[int], extra: float) -> Batch:
        state = torch.tensor(places, dtype=torch.float32)[:, None]
        return Batch(
            inputs=Inputs(
                state=state, features=torch.zeros(len(places), 0), instructions=[""] * len(places)
            ),
            actions=torch.zeros(len(places), 1),
            log_prob=torch.zeros(len(places)),
            returns=4 * state[:, 0] - 3 + extra,
        )

    past = [samples(rng.integers(-1, 2, 400).tolist(), 0.0) for _ in range(3)]
    found = subtract_expected_returns(
        ValueBaseline(), Ruler(), samples([-1, 0, 1], 0.0), past, np.random.default_rng(1)
    )
    assert found.returns.abs().max() < 0.5
    better = subtract_expected_returns(
        ValueBaseline(), Ruler(), samples([-1, 0, 1], 2.0), past, np.random.default_rng(1)
    )
    assert torch.allclose(better.returns, found.returns + 2.0, atol=1e-5)


@pytest.mark.parametrize("ppo_clip", [0.0, 0.2])
def test_a_batch_in_parts_moves_the_policy_as_a_whole_one_does(ppo_clip: float) -> None:
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
    moved: list[torch.Tensor] = []
    for accumulate in (1, 4):
        practice = Practice(batch_size=10, accumulate=accumulate)
        policy = new_model("mlp", MLPConfig(hidden=8), spaces, (), seed=0)
        optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
        loss = update(practice, Deviations(ppo_clip=ppo_clip), policy, optimizer, samples)
        moved.append(
            torch.cat([loss[None], *(one.detach().flatten() for one in policy.parameters())])
        )
    torch.testing.assert_close(moved[1], moved[0])
    with pytest.raises(ConfigError, match="--accumulate must lie in"):
        Practice(batch_size=10, accumulate=11)


class Unasked(Ruler):
    """A reward model that must not run: every episode brings its prediction."""

    def steps_to_go_logits(self, inputs: Inputs) -> torch.Tensor:
        raise AssertionError("the termination rule has run the model already")


def predicted(unlabelled: Episode) -> Episode:
    probabilities = steps_to_go_probabilities(
        Ruler(),
        inputs_of(unlabelled.observations, [unlabelled.instruction] * (unlabelled.num_steps + 1)),
    )
    return replace(unlabelled, prediction=summary(probabilities, Ruler.bins))


def test_score_episodes_with_predictions_does_not_run_the_model() -> None:
    expected = score(Ruler(), EPISODES, threshold_steps=0.5, discount=0.9)
    labelled = [predicted(unlabelled) for unlabelled in EPISODES]
    for first, second in zip(
        expected, score(Unasked(), labelled, threshold_steps=0.5, discount=0.9), strict=True
    ):
        assert np.array_equal(first.steps_to_go, second.steps_to_go)
        assert np.array_equal(first.steps_to_go_std, second.steps_to_go_std)
        assert np.array_equal(first.quantiles, second.quantiles)
        assert np.array_equal(first.returns, second.returns)
        assert np.array_equal(first.solved, second.solved)


def test_score_some_episodes_with_predictions_keeps_their_order() -> None:
    mixed = [EPISODES[0], predicted(EPISODES[1]), EPISODES[2]]
    scored = score(Ruler(), mixed, threshold_steps=0.5, discount=0.9)
    assert [one.steps_to_go.tolist() for one in scored] == [[9, 7, 8, 0], [5, 5], [3, 2, 1, 1, 4]]
