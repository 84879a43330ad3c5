"""A small tabletop run: Stage 1 learns both predictions from a few dozen demonstrations."""

from dataclasses import replace

import numpy as np
import pytest

from nearer.algorithm.demonstrations import split_by_episode
from nearer.algorithm.score import steps_to_go_probabilities
from nearer.commands.collect import collect_demonstrations
from nearer.commands.sft import run_sft
from nearer.configs.sft import Calibration
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.lerobot.reader import open_dataset
from nearer.models.factory import build_model
from nearer.models.pointing.weights import UNET, load_pointing
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.metrics import read_metrics
from nearer.studies.recipe import Recipe
from nearer.studies.tabletop import tabletop


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Stage 1 on 32 demonstrations, its vision encoder trained for 4 updates."""
    whole = tabletop(tmp_path_factory.mktemp("tabletop"), seed=7, episodes=32)
    training = replace(whole.sft.training, updates=300, validate_every=100, val_fraction=0.25)
    small = replace(
        whole,
        sft=replace(
            whole.sft, vision_encoder_updates=4, training=training, calibration=Calibration()
        ),
    )
    collect_demonstrations(small.collect)
    run_sft(small.sft)
    return small


def test_sft_both_losses_fall_far_below_uniform_guessing(recipe: Recipe) -> None:
    first, *_, last = read_metrics(recipe.sft.out)
    assert last["sft/loss_bc"] < first["sft/loss_bc"] < 2 * np.log(21)
    assert last["sft/loss_steps_to_go"] < first["sft/loss_steps_to_go"] < np.log(80)


def test_sft_steps_to_go_correlates_on_validation_episodes(recipe: Recipe) -> None:
    reward = load_model(recipe.sft.out, build_model, "reward")
    data = load_demonstrations(open_dataset(recipe.collect.out), reward.vision_encoder)
    _, held_out = split_by_episode(data, 0.25, recipe.sft.training.seed)
    probabilities = steps_to_go_probabilities(reward, held_out.inputs(slice(None)))
    predicted = (probabilities @ reward.bins.edges()).numpy()
    ground_truth = held_out.steps_to_go.numpy()
    rank_correlation = np.corrcoef(
        np.argsort(np.argsort(predicted)), np.argsort(np.argsort(ground_truth))
    )[0, 1]
    assert rank_correlation > 0.5  # 0.8 with 300 demonstrations; guessing gives 0


def test_sft_checkpoints_hold_the_self_trained_vision_encoder(recipe: Recipe) -> None:
    policy = load_model(recipe.sft.out, build_model, "policy")
    reward = load_model(recipe.sft.out, build_model, "reward")
    towers = [model.get_submodule("tower") for model in (policy, reward)]
    assert weights_hash(towers[0]) == weights_hash(towers[1]) != weights_hash(load_pointing(UNET))
