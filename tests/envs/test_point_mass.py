"""The point mass: physics by hand, both forms equal, the contracts of Gymnasium and of fleets."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from nearer.algorithm.rollout import collect
from nearer.core.episode import Ended
from nearer.core.seeds import Purpose, episode_seeds
from nearer.envs import register_envs
from nearer.envs.point_mass import ENV_ID, PointMass, PointMassVector, advance
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.fleets.gym import SingleEnvFleet, make_demonstrator, make_fleet
from nearer.testing import check_fleet

register_envs()


def test_one_step_is_ten_substeps() -> None:
    position, velocity, acceleration = np.array([0.1, -0.2]), np.array([0.01, 0.0]), 1e-3
    stepped = advance(position, velocity, np.array([acceleration, -acceleration]))
    for _ in range(10):
        velocity = velocity + np.array([acceleration, -acceleration])
        position = position + velocity
    assert np.allclose(stepped[0], position)
    assert np.allclose(stepped[1], velocity)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")  # advice on unbounded spaces: by design here
def test_gymnasium_accepts_it() -> None:
    check_env(gymnasium.make(ENV_ID).unwrapped, skip_render_check=False)
    picture = gymnasium.make(ENV_ID, render_mode="rgb_array")
    picture.reset(seed=0)
    assert picture.render().shape == (128, 128, 3)


def test_vectorised_and_single_agree_bit_for_bit() -> None:
    many = PointMassVector(num_envs=3)
    singles = [PointMass() for _ in range(3)]
    seen, _ = many.reset(seed=[5, 6, 7])
    alone = [env.reset(seed=5 + i)[0] for i, env in enumerate(singles)]
    draw = np.random.default_rng(0)
    for _ in range(20):
        for key in seen:
            assert np.array_equal(seen[key], np.stack([one[key] for one in alone]))
        actions = draw.normal(0, 1e-3, (3, 2)).astype(np.float32)
        seen, _, _, _, info = many.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        alone = [step[0] for step in steps]
        assert info["is_success"].tolist() == [step[4]["is_success"] for step in steps]


def test_both_fleets_keep_the_contract() -> None:
    check_fleet(make_fleet(ENV_ID, 4))
    check_fleet(SingleEnvFleet([gymnasium.make(ENV_ID) for _ in range(3)]))


def test_starts_are_where_the_notebook_has_them() -> None:
    starts = make_fleet(ENV_ID, 500).reset(np.arange(500), list(range(500))).observation
    assert np.abs(starts.agent_pos[:, :2]).max() <= 1
    assert np.abs(starts.environment_state).max() <= 0.9
    assert np.abs(starts.agent_pos[:, :2]).max() > 0.99
    assert not starts.agent_pos[:, 2:].any()


def test_the_demonstrator_succeeds_and_takes_its_time() -> None:
    fleet = make_fleet(ENV_ID, 100)
    demonstrator = make_demonstrator(ENV_ID, fleet)
    seeds = (
        seed for _, seed in zip(range(300), episode_seeds(Purpose.DEMONSTRATION, 0), strict=False)
    )
    episodes = list(
        collect(fleet, demonstrator, GroundTruthTermination(fleet), seeds=seeds, max_steps=150)
    )
    assert len(episodes) == 300
    solved = [episode.ended is Ended.SUCCESS_TRUE for episode in episodes]
    assert np.mean(solved) > 0.99
    # the notebook's 10,000 demonstrations have mean length 77.4 +- 30.1
    assert 60 < np.mean([episode.num_steps for episode in episodes]) < 85
