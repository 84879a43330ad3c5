"""The point mass: physics by hand, both forms equal, the contracts of Gymnasium and of fleets."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from nearer.algorithm.rollout import rollout
from nearer.core.episode import Ended
from nearer.core.seeds import Purpose, episode_seeds
from nearer.envs.point_mass import ENV_ID, PointMass, PointMassVector, advance
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.fleets.gym import SingleEnvFleet, make_demonstrator, make_fleet
from nearer.testing import check_fleet


def test_advance_equals_ten_substeps() -> None:
    position, velocity, acceleration = np.array([0.1, -0.2]), np.array([0.01, 0.0]), 1e-3
    stepped = advance(position, velocity, np.array([acceleration, -acceleration]))
    for _ in range(10):
        velocity = velocity + np.array([acceleration, -acceleration])
        position = position + velocity
    assert np.allclose(stepped[0], position)
    assert np.allclose(stepped[1], velocity)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # advice on unbounded spaces: by design here
def test_point_mass_passes_gymnasium_check() -> None:
    check_env(gymnasium.make(ENV_ID).unwrapped, skip_render_check=False)
    env = gymnasium.make(ENV_ID, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (128, 128, 3)


def test_point_mass_vector_equals_single_envs_bit_for_bit() -> None:
    vector = PointMassVector(num_envs=3)
    singles = [PointMass() for _ in range(3)]
    observation, _ = vector.reset(seed=[5, 6, 7])
    single_observations = [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)]
    rng = np.random.default_rng(0)
    for _ in range(20):
        for key in observation:
            assert np.array_equal(
                observation[key], np.stack([single[key] for single in single_observations])
            )
        actions = rng.normal(0, 1e-3, (3, 2)).astype(np.float32)
        observation, _, _, _, info = vector.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        single_observations = [step[0] for step in steps]
        assert info["is_success"].tolist() == [step[4]["is_success"] for step in steps]


def test_point_mass_fleets_keep_the_contract_of_a_fleet() -> None:
    check_fleet(make_fleet(ENV_ID, 4))
    check_fleet(SingleEnvFleet([gymnasium.make(ENV_ID) for _ in range(3)]))


def test_point_mass_reset_draws_starts_in_the_notebooks_bounds() -> None:
    starts = make_fleet(ENV_ID, 500).reset(np.arange(500), list(range(500))).observation
    assert np.abs(starts.agent_pos[:, :2]).max() <= 1
    assert np.abs(starts.environment_state).max() <= 0.9
    assert np.abs(starts.agent_pos[:, :2]).max() > 0.99
    assert not starts.agent_pos[:, 2:].any()


def test_pd_demonstrator_succeeds_in_as_many_steps_as_the_notebooks() -> None:
    fleet = make_fleet(ENV_ID, 100)
    demonstrator = make_demonstrator(ENV_ID, fleet)
    seeds = (
        seed for _, seed in zip(range(300), episode_seeds(Purpose.DEMONSTRATION, 0), strict=False)
    )
    episodes = list(
        rollout(fleet, demonstrator, GroundTruthTermination(fleet), seeds=seeds, max_steps=150)
    )
    assert len(episodes) == 300
    successes = [episode.ended is Ended.SUCCESS_TRUE for episode in episodes]
    assert np.mean(successes) > 0.99
    # the notebook's 10,000 demonstrations have mean length 77.4 +- 30.1
    assert 60 < np.mean([episode.num_steps for episode in episodes]) < 85
