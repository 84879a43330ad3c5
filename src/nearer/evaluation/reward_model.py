"""Which frozen model judges for a checkpoint, and at which threshold: a run, or a part of one."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from nearer.algorithm.model import FoundationModel
from nearer.core.errors import ConfigError
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model, pretrained_folder
from nearer.runs.hub import CALIBRATION, local_run
from nearer.runs.run import read_header, read_json

CALIBRATE = "run nearer sft to the end, or pass --threshold STEPS"
"""What to do where no threshold is known."""
_ADVICE = "pass --reward RUN, the Stage-1 run whose reward model shall judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModel:
    """A model that tells steps-to-go.

    Attributes:
        model: frozen, as Stage 1 left it.
        weights: the folder its weights lie in.
        threshold_steps: s of the detector, in the model's own steps; None: it was not calibrated.
    """

    model: FoundationModel
    weights: Path
    threshold_steps: float | None


def load_reward_model(
    checkpoint: Path, reward: Path | None, threshold: float | None
) -> RewardModel:
    """Return the judge of a checkpoint.

    Args:
        checkpoint: a run, a checkpoint of one, a folder with a model, or a hub id.
        reward: the same, of the model that shall judge; None: the reward model of the Stage-1 run
            that `checkpoint` is or came from, or the model itself where there is no run.
        threshold: s, in the model's own steps; None: as it was calibrated, if it was.

    Raises:
        ConfigError: the Stage-1 run that a practised policy came from is not there any more.
        CheckpointError: no model is there, or its files are damaged.
    """
    source = local_run(reward or _stage_one(local_run(checkpoint)))
    if threshold is None:
        threshold = calibrated_threshold(source)
    return RewardModel(
        model=load_model(source, build_model, "reward").requires_grad_(False),
        weights=pretrained_folder(source, "reward"),
        threshold_steps=threshold,
    )


def _stage_one(checkpoint: Path) -> Path:
    """Return the run whose reward model a policy practised with; the checkpoint itself else."""
    # RUN, RUN/checkpoints/NAME or RUN/checkpoints/NAME/pretrained_model
    folders = (checkpoint, *checkpoint.absolute().parents[:3])
    run = next((one for one in folders if (one / "run.json").is_file()), None)
    header = read_header(run) if run else {}
    if header.get("command") != "improve":
        return checkpoint
    config = cast(dict[str, object], header.get("config") or {})
    named = config.get("reward") or config.get("run")
    if not isinstance(named, str) or not local_run(Path(named)).is_dir():
        raise ConfigError(
            f"the Stage-1 run that {run} practised with must be there, got {named!r}; {_ADVICE}"
        )
    return Path(named)


def calibration_of(path: Path) -> Path:
    """Return where the calibration.json of a run is, or of the run that a checkpoint belongs to."""
    # RUN, RUN/checkpoints/NAME or RUN/checkpoints/NAME/pretrained_model
    folders = (path, *path.absolute().parents[:3])
    found = (one / CALIBRATION for one in folders if (one / CALIBRATION).is_file())
    return next(found, path / CALIBRATION)


def calibrated_threshold(source: Path) -> float | None:
    """Return s as a run was calibrated, in the model's own steps; None if it was not.

    Raises:
        ConfigError: its calibration.json is damaged.
    """
    path = calibration_of(source)
    if not path.is_file():
        return None
    threshold = read_json(path, CALIBRATE).get("threshold_steps")
    number = threshold if isinstance(threshold, int | float) else math.nan
    if isinstance(threshold, bool) or not 0 <= number < math.inf:
        raise ConfigError(
            f"{path} must name threshold_steps, a finite number of 0 or more, got {threshold}; "
            f"{CALIBRATE}"
        )
    return float(number)
