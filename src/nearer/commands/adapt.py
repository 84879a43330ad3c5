"""nearer adapt: a trained model and unlabelled episodes of another look -> the model, adapted.

The vision encoder trains itself on their frames (pseudo-labels), and the map from the image to the
robot's plane is fitted anew; the heads of policy and reward stay what they are. Images,
instructions and proprioception are read, actions and success are not.
"""

import shutil
from pathlib import Path

import numpy as np
from rich.console import Console

from nearer.commands.progress_bars import live
from nearer.configs.adapt import AdaptConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.errors import ConfigError
from nearer.core.vision import TrainableVisionEncoder
from nearer.datasets.caching.vision_encoder_training import train_vision_encoder
from nearer.datasets.demonstration_loading import load_demonstrations, open_demonstrations
from nearer.datasets.episodes import dataset_spaces
from nearer.models.factory import build_model
from nearer.models.small_vla import SmallVLA
from nearer.reporting.model_facts import read_model_facts
from nearer.runs.checkpoint import load_model, save_model
from nearer.runs.files import disk_errors_as_sentences, whole_folder
from nearer.runs.hub import CALIBRATION, REWARD
from nearer.runs.lock import alone
from nearer.runs.run import check_new


def main(config: AdaptConfig, console: Console) -> None:
    """Adapt with progress bars, and print what to do next."""
    with live(console) as on_progress:
        out = run_adapt(config, on_progress)
    console.print(
        f"the adapted model is in {out}; next: nearer eval --checkpoint {out} --env ID, or "
        f"nearer improve --run {out} --env ID",
        soft_wrap=True,
    )


def run_adapt(config: AdaptConfig, on_progress: ProgressCallback = ignore_progress) -> Path:
    """Adapt policy and reward of a run, and return the folder of the new model.

    Raises:
        ConfigError: the model has no vision encoder that trains itself, the data set is of another
            robot, or its frames do not determine the map to the robot's plane.
    """
    with alone(config.out):
        _adapt(config, on_progress)
    return config.out


def _adapt(config: AdaptConfig, on_progress: ProgressCallback) -> None:
    check_new(config.out)
    facts = read_model_facts(config.run)
    policy = load_model(facts.policy, build_model)
    encoder = policy.vision_encoder
    if not isinstance(policy, SmallVLA) or not isinstance(encoder, TrainableVisionEncoder):
        raise ConfigError(
            f"--run must be a model whose vision encoder trains itself, small-vla, got {facts.kind}"
            "; fine-tune other models on demonstrations with the other look, with nearer sft"
        )
    dataset = open_demonstrations(config.data, config.revision, config.rename)
    mismatch = dataset_spaces(dataset).mismatch(policy.spaces, "--run", actions=False)
    if mismatch is not None:
        raise ConfigError(f"{dataset.root} {mismatch.text}; name a data set of the same robot")
    episodes = np.arange(min(config.episodes, dataset.info.total_episodes))
    if config.updates:
        train_vision_encoder(
            dataset, encoder, episodes, config.updates, config.seed, config.cache, on_progress
        )
    seen = load_demonstrations(dataset, encoder, episodes, config.cache, on_progress)
    mapped = policy.maps_to_plane
    policy.fit_camera(seen.statistics())
    if mapped and not policy.maps_to_plane:
        raise ConfigError(
            f"{dataset.root} must show the effector where proprioception has it, got frames from "
            "which no map to the robot's plane can be fitted; name more episodes, or ones in which "
            "the effector moves and is seen"
        )
    with disk_errors_as_sentences(config.out), whole_folder(config.out) as folder:
        save_model(folder, policy)
        if facts.reward is not None:
            reward = load_model(facts.reward, build_model)
            assert isinstance(reward, SmallVLA), "policy and reward are of one kind"
            reward.see_as(policy)
            (folder / REWARD).mkdir()
            save_model(folder / REWARD, reward)
        if facts.calibration_file is not None:
            shutil.copyfile(facts.calibration_file, folder / CALIBRATION)
