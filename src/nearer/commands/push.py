"""nearer push and nearer card: a run's policy and reward on the hub, and its model card."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from nearer.core.errors import ConfigError
from nearer.models.factory import build_model
from nearer.reporting.model_card import model_card
from nearer.reporting.model_facts import Published, read_published
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.files import write_json, write_text
from nearer.runs.hub import CALIBRATION, EVALUATION, REWARD, check_hub_id, upload
from nearer.runs.run import read_header, read_json


@dataclass(frozen=True, slots=True, kw_only=True)
class CardConfig:
    """Write the model card of a run, without a network.

    Attributes:
        run: of nearer sft or nearer improve.
        name: of the model on the hub.
        evaluation: eval_info.json of its policy; none: eval/ in the run.
        license: of the weights; none: apache-2.0, or left open if others' weights are in it.
        out: file; none: it is printed.
    """

    run: tyro.conf.Positional[Path]
    name: str = "user/name"
    evaluation: Path | None = None
    license: str | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        check_hub_id(self.name)
        _check_license(self.license)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """Upload a run's policy, reward, calibration and model card to the Hugging Face hub.

    Attributes:
        run: of nearer sft or nearer improve.
        name: of the model on the hub, user/name.
        private: only you see it, if it is new.
        evaluation: eval_info.json of its policy; none: eval/ in the run.
        license: of the weights; none: apache-2.0, or left open if others' weights are in it.
    """

    run: tyro.conf.Positional[Path]
    name: tyro.conf.Positional[str]
    private: bool = False
    evaluation: Path | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        check_hub_id(self.name)
        _check_license(self.license)


def run_card(config: CardConfig) -> str:
    """Return a run's model card; it is written too if the config names a file."""
    card = model_card(read_published(config.run, config.evaluation), config.name, config.license)
    if config.out is not None:
        write_text(config.out, card)
    return card


def run_push(config: PushConfig) -> str:
    """Upload a run's model and return its address on the hub."""
    published = read_published(config.run, config.evaluation)
    _check_whole(config.run, published)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        stage(published, folder)
        write_text(folder / "README.md", model_card(published, config.name, config.license))
        return upload(folder, config.name, private=config.private)


def stage(published: Published, folder: Path) -> None:
    """Lay a model out as it is on the hub: policy at the root, reward in a folder of its own."""
    _copy(published.policy, folder)
    if published.reward is not None:
        _copy(published.reward, folder / REWARD)
    if published.calibration is not None:
        shutil.copyfile(published.calibration, folder / CALIBRATION)
    if published.evaluation is not None:
        info = read_json(published.evaluation, "evaluate again")
        # Where it lay on this machine is nobody's business.
        write_json(folder / EVALUATION, {**info, "checkpoint": "."})


def _copy(model: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for path in model.iterdir():
        if path.is_file() and path.suffix in (".json", ".safetensors"):
            shutil.copyfile(path, folder / path.name)


def _check_whole(run: Path, published: Published) -> None:
    """Raise unless both models load, and the reward is the one that the run practised with."""
    load_model(published.policy, build_model)
    if published.reward is None:
        return
    reward = load_model(published.reward, build_model, REWARD)
    frozen = read_header(run).get("frozen_sha256")
    if frozen is not None and weights_hash(reward) != frozen:
        raise ConfigError(
            f"{published.reward} must hold the reward that {run} practised with, got another; "
            "restore its Stage-1 run"
        )


def _check_license(name: str | None) -> None:
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,60}", name):
        raise ConfigError(
            "--license must be an identifier of the hub's such as apache-2.0, mit or other, got "
            f"{name!r}; see the list in the hub's documentation"
        )
