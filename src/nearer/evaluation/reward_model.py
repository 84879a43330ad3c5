"""Which frozen reward model belongs to a checkpoint, and at which threshold it detects success."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nearer.algorithm.model import FoundationModel, inputs_of
from nearer.algorithm.score import FrameLabels, frame_labels, predict_steps_to_go
from nearer.core.episode import Observation
from nearer.core.errors import ConfigError
from nearer.core.observation_checks import as_rows, check_observation
from nearer.evaluation.calibration import read_calibration
from nearer.fleets.encoded import encode_episode
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model, pretrained_folder
from nearer.runs.documents import HEADER, read_header
from nearer.runs.hub import CALIBRATION, local_run

CALIBRATE = "run nearer sft to the end, or pass --threshold STEPS"
"""What to do where no threshold is known."""
_ADVICE = "pass --reward RUN, the Stage-1 run whose reward model is wanted"


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardModel:
    """A frozen steps-to-go model and its success threshold.

        reward_model = nearer.RewardModel.load("RUN or user/name")
        labels = reward_model.score(observations, "touch the goal")

    Attributes:
        model: frozen, as Stage 1 left it.
        weights: the folder its weights lie in.
        threshold_steps: s of the detector, in the model's own steps; None: it was not calibrated.
    """

    model: FoundationModel
    weights: Path
    threshold_steps: float | None

    @classmethod
    def load(cls, source: str | Path, *, threshold: float | None = None) -> "RewardModel":
        """Return the reward model of a run, a checkpoint or a model on the hub.

        Args:
            source: a run of either stage, a checkpoint of it, or a hub id (user/name).
            threshold: s of success, in the model's own steps (control steps, or chunks); None: as
                calibrated, if it was.

        Raises:
            CheckpointError: no model is there, or its files are damaged.
            ConfigError: the Stage-1 run that a practised policy came from is not there any more.
        """
        return load_reward_model(Path(source), None, threshold)

    def score(
        self, observations: Observation, instruction: str, *, discount: float = 0.9
    ) -> FrameLabels:
        """Return steps-to-go, rewards, returns and success along an episode (paper, eqs. 1-4).

        Args:
            observations: of one episode from its start, one row a control step.
            instruction: what the robot was asked to do.
            discount: gamma of the returns, a control step.

        Raises:
            EnvError: the observations have other sizes or cameras than the model was trained with.
            ConfigError: no threshold is known, or the model does not know the instruction.
        """
        if self.threshold_steps is None:
            raise ConfigError(
                f"the threshold must be given where Stage 1 calibrated none, got none for "
                f"{self.weights}; load it with threshold=STEPS, or from a finished run of sft"
            )
        observations = as_rows(observations)
        encoder, spaces = self.model.vision_encoder, self.model.spaces
        check_observation(observations, spaces, spaces.cameras if encoder else ())
        encoded = encode_episode(encoder, observations, instruction)
        inputs = inputs_of(encoded, [instruction] * len(encoded.agent_pos))
        return frame_labels(
            self.model,
            predict_steps_to_go(self.model, inputs),
            np.array([len(encoded.agent_pos)]),
            threshold_steps=self.threshold_steps,
            discount=discount,
        )


def load_policy_and_reward(
    checkpoint: Path, reward: Path | None, threshold: float | None
) -> tuple[FoundationModel, RewardModel]:
    """Return a policy and its reward model; one model in memory where they are one.

    Args:
        checkpoint: a run, a checkpoint of one, a folder with a model, or a hub id.
        reward: see `load_reward_model`.
        threshold: see `load_reward_model`.

    Raises:
        ConfigError: the reward model reads other observations than the policy.
        CheckpointError: no model is there, or its files are damaged.
    """
    reward_model = load_reward_model(checkpoint, reward, threshold)
    folder = pretrained_folder(checkpoint, "policy")
    if folder.resolve() == reward_model.weights.resolve():
        return reward_model.model, reward_model
    policy = load_model(checkpoint, build_model, "policy").requires_grad_(False)
    needed, offered = reward_model.model.spaces, policy.spaces
    mismatch = offered.mismatch(needed, "--reward", actions=False) or needed.mismatch(
        offered, "the policy", actions=False
    )
    if mismatch is not None:
        raise ConfigError(
            f"--reward must read what the policy reads, which {mismatch.text}; take it from a run "
            "on the same demonstrations"
        )
    return policy, reward_model


def load_reward_model(
    checkpoint: Path, reward: Path | None, threshold: float | None
) -> RewardModel:
    """Return the reward model of a checkpoint.

    Args:
        checkpoint: a run, a checkpoint of one, a folder with a model, or a hub id.
        reward: the same, of another reward model; None: that of the Stage-1 run that `checkpoint`
            is or came from, or the model itself where there is no run.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _PractisedWith:
    """The settings of a Stage-2 run that name its reward model.

    Attributes:
        run: Stage-1 run whose policy practised.
        reward: run or checkpoint with another reward model; None: that of `run`.
    """

    run: str
    reward: str | None


def _stage_one(checkpoint: Path) -> Path:
    """Return the run whose reward model a policy practised with; else the checkpoint itself."""
    run = run_of(checkpoint)
    header = read_header(run) if run else None
    if run is None or header is None or header.command != "improve":
        return checkpoint
    practised_with = header.part(_PractisedWith, run)
    named = practised_with.reward or practised_with.run
    if not os.path.isdir(local_run(Path(named))):
        raise ConfigError(
            f"the Stage-1 run that {run} practised with must be there, got {named!r}; {_ADVICE}"
        )
    return Path(named)


def run_of(path: Path) -> Path | None:
    """Return the run that a path is, or that a checkpoint belongs to; None without one."""
    return next((folder for folder in _folders(path) if (folder / HEADER).is_file()), None)


def calibration_of(path: Path) -> Path:
    """Return where the calibration.json of a run is, or of the run that a checkpoint belongs to."""
    paths = (folder / CALIBRATION for folder in _folders(path))
    return next((file for file in paths if file.is_file()), path / CALIBRATION)


def _folders(path: Path) -> tuple[Path, ...]:
    """Return RUN of RUN, RUN/checkpoints/NAME or RUN/checkpoints/NAME/pretrained_model."""
    return (path, *path.absolute().parents[:3])


def calibrated_threshold(source: Path) -> float | None:
    """Return s as a run was calibrated, in the model's own steps; None if it was not.

    Raises:
        ConfigError: its calibration.json is damaged.
    """
    path = calibration_of(source)
    return read_calibration(path, CALIBRATE).threshold_steps if path.is_file() else None
