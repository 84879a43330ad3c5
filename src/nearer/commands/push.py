"""nearer push and nearer card: a run's policy and reward on the hub, and its model card."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from nearer.configs.push import CardConfig, PushConfig
from nearer.core.errors import ConfigError
from nearer.evaluation.eval_info import read_eval_info, write_eval_info
from nearer.evaluation.reward_model import run_of
from nearer.models.factory import build_model
from nearer.reporting.model_card import model_card
from nearer.reporting.model_facts import ModelFacts, read_model_facts
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.documents import read_header
from nearer.runs.files import write_text
from nearer.runs.hub import CALIBRATION, EVALUATION, REWARD, upload
from nearer.runs.links import leads_out


def main_card(config: CardConfig, console: Console) -> None:
    """Print the model card, or the name of the file that it was written to."""
    card = run_card(config)
    print(f"card: {config.out}" if config.out else card)  # as it is, not wrapped by the console


def main_push(config: PushConfig, console: Console) -> None:
    """Upload, and print the model's address on the hub."""
    console.print(f"uploaded: {run_push(config)}", soft_wrap=True)


def run_card(config: CardConfig) -> str:
    """Return a run's model card; it is written too if the config names a file."""
    card = model_card(read_model_facts(config.run, config.evaluation), config.name, config.license)
    if config.out is not None:
        write_text(config.out, card)
    return card


def run_push(config: PushConfig) -> str:
    """Upload a run's model and return its address on the hub."""
    facts = read_model_facts(config.run, config.evaluation)
    _check_whole(config.run, facts)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stage(facts, folder)
        write_text(folder / "README.md", model_card(facts, config.name, config.license))
        return upload(folder, config.name, private=config.private)


def stage(facts: ModelFacts, folder: Path) -> None:
    """Lay a model out as it is on the hub: policy at the root, reward in a folder of its own."""
    _copy(facts.policy, folder)
    if facts.reward is not None:
        _copy(facts.reward, folder / REWARD)
    if facts.calibration_file is not None:
        _copy_file(facts.calibration_file, folder / CALIBRATION, facts.calibration_file.parent)
    if facts.evaluation_file is not None:
        # Paths of this machine stay here.
        info = replace(read_eval_info(facts.evaluation_file), checkpoint=".")
        write_eval_info(folder / EVALUATION, info)


def _copy(model: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    run = run_of(model) or model
    for path in model.iterdir():
        if path.is_file() and path.suffix in (".json", ".safetensors"):
            _copy_file(path, folder / path.name, run)


def _copy_file(path: Path, copy: Path, run: Path) -> None:
    """Copy a file of a run; one that a link brings in from elsewhere is not to be published."""
    if leads_out(path, run):
        raise ConfigError(
            f"{path} must lie in {run} to be pushed, got a link to {path.resolve()}; replace it by "
            "the file"
        )
    shutil.copyfile(path, copy)


def _check_whole(run: Path, facts: ModelFacts) -> None:
    """Raise unless both models load, and the reward is the one that the run practised with."""
    load_model(facts.policy, build_model)
    if facts.reward is None:
        return
    reward = load_model(facts.reward, build_model, REWARD)
    frozen = read_header(run).inputs.frozen_sha256
    if frozen is not None and weights_hash(reward) != frozen:
        raise ConfigError(
            f"{facts.reward} must hold the reward that {run} practised with, got another; "
            "restore its Stage-1 run"
        )
