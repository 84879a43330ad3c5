"""Labelled episodes for nearer eval-reward: demonstrations, practised episodes, rollouts.

Labels come from the demonstrations (success at the last frame), from a simulator's ground truth,
or, where nothing better is known, from the detector's own detections: every source says which.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Int64

from nearer.algorithm.model import FoundationModel, Inputs, ModelPolicy
from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback
from nearer.core.episode import Ended, Episode
from nearer.core.errors import CheckpointError, DatasetError, EnvError
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Spaces
from nearer.datasets.caching.results import cached_columns, digest_of
from nearer.datasets.demonstration_loading import load_demonstrations, open_demonstrations
from nearer.datasets.episodes import dataset_spaces
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.reader import Dataset, open_dataset, resolve_dataset
from nearer.datasets.practice_store import read_practice
from nearer.datasets.split import read_split
from nearer.envs.tabletop.language import parse
from nearer.envs.tabletop.layout import BLOCKS
from nearer.evaluation.audit import pooled
from nearer.evaluation.person_audit import audits_of
from nearer.evaluation.predictions import (
    FRAMES_AT_ONCE,
    FramePredictions,
    LabelledPredictions,
    predict,
    predict_rollouts,
    reward_inputs,
)
from nearer.evaluation.reward_metrics import Evidence
from nearer.evaluation.reward_model import run_of
from nearer.evaluation.reward_report import SourceRemarks
from nearer.evaluation.success import replayed_ground_truth, rollouts_with_ground_truth
from nearer.fleets.chunked import in_chunks
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings
from nearer.fleets.for_model import check_same_chunks, fitting_fleet, robots_with_room
from nearer.fleets.gym import make_fleet
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.documents import HEADER, read_header

_ROBOTS = 50
DEMONSTRATED = "a demonstration succeeds at its last frame, and nowhere before"
GROUND_TRUTH = "the simulator's ground truth at every observation"
REPLAYED = (
    f"{GROUND_TRUTH}, replayed; practice ended them at its own s, so lower ones cannot be measured"
)
DETECTED = (
    "the practice detector's own detections, no ground truth: they cannot show how right it is; "
    "pass --env to replay the episodes against the simulator"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Labelled episodes with what the model predicts of them.

    Attributes:
        normalised_inputs: of every frame, as baselines read them.
        is_ground_truth: whether the labels are worth choosing a threshold by.
        remarks: what else is known.
    """

    evidence: Evidence
    normalised_inputs: Float32[Array, "frames inputs"]
    is_ground_truth: bool
    remarks: SourceRemarks

    @property
    def frame_instructions(self) -> list[str]:
        """Return the instruction of every frame."""
        names = np.array(self.evidence.instructions, dtype=object)
        return np.repeat(names, self.evidence.lengths).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingData:
    """What a checkpoint was trained on.

    Attributes:
        dataset: the demonstrations.
        train: rows of the episodes that it learned from.
        unseen: rows of all the others; held-out ones among them, which may have chosen a
            checkpoint and calibrated its detector.
    """

    dataset: Dataset
    train: Int64[Array, "train"]
    unseen: Int64[Array, "unseen"]

    @property
    def instructions(self) -> frozenset[str]:
        """Return the instructions that it learned from."""
        return frozenset(self.dataset.task_of_episode(int(row)) for row in self.train)


@dataclass(frozen=True, slots=True, kw_only=True)
class _DataSettings:
    """The settings of a Stage-1 run that name its data set."""

    data: str
    revision: str | None
    rename: tuple[str, ...] = ()
    completion_cutoff: int | None = None


def training_data_of(checkpoint: Path, demonstrations: str | None) -> TrainingData | str:
    """Return what a checkpoint was trained on, or the sentence that says why nobody knows.

    Args:
        checkpoint: a run of nearer sft, or a checkpoint of it.
        demonstrations: where its data set is now; None: where it was.

    Raises:
        DatasetError: --demonstrations names no data set, or another one.
    """
    run = run_of(checkpoint)
    header = read_header(run) if run else None
    if run is None or header is None or header.command != "sft":
        return "the checkpoint is of no run of nearer sft, so its demonstrations are not known"
    settings, split = header.part(_DataSettings, run), read_split(run)
    try:
        named = demonstrations or settings.data
        dataset = open_demonstrations(
            named, settings.revision, settings.rename, settings.completion_cutoff
        )
    except DatasetError as error:
        if demonstrations:
            raise
        return f"its demonstrations cannot be read ({error}); name them with --demonstrations"
    if split.data_sha256 != contents_hash(dataset):
        raise DatasetError(
            f"{dataset.root} must be the data set that {run} was trained on, got another; name it "
            "with --demonstrations"
        )
    return TrainingData(dataset=dataset, train=split.train, unseen=split.not_trained_on)


def things_of(instruction: str) -> tuple[str, ...] | None:
    """Return the things that a tabletop instruction names; None for other languages.

    In alphabetical order: which of two is pushed to the other does not matter.
    """
    try:
        return tuple(sorted(str(block) for block in parse(instruction, BLOCKS).blocks))
    except EnvError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelling:
    """How labelled episodes are made for one reward model.

    Attributes:
        reward: frozen; predicts.
        training_data: what it was trained on, or why nobody knows.
        episodes: of a data set, at most.
        seed: draws them, and the starts of rollouts.
        cache: folder of what was computed before; None for ~/.cache/nearer.
        on_progress: sees the progress.
        env_settings: how an env is made and read.
    """

    reward: FoundationModel
    training_data: TrainingData | str
    episodes: int
    seed: int
    cache: Path | None
    on_progress: ProgressCallback
    env_settings: EnvSettings = AS_IT_IS

    def data(self, named: str, env: str | None) -> Source:
        """Return a data set's episodes, drawn at random: demonstrations, or practised ones.

        Args:
            named: folder or hub id; the practice folder of a run for practised ones.
            env: where practised ones are replayed for their ground truth; None: it stays unknown.
        """
        dataset = open_dataset(resolve_dataset(named, None))
        if dataset.root.name == "practice" and (dataset.root.parent / HEADER).is_file():
            return self._practised(dataset.root, env)
        return self._demonstrations(dataset)

    def rollouts(self, env: str, policy: Path, episodes: int, max_steps: int) -> Source:
        """Return fresh rollouts of a policy to the time limit, labelled by the simulator."""
        actor = load_model(policy, build_model, "policy")
        check_same_chunks(actor.spaces.chunking, self.reward.spaces.chunking)
        made_of = {
            "env": [env, asdict(self.env_settings)],
            "policy": weights_hash(actor),
            "reward": weights_hash(self.reward),
            "numbers": [episodes, max_steps, self.seed],
        }

        def roll() -> dict[str, Array]:
            self.on_progress(Progress(stage="rollouts", done=0, total=episodes))
            robots = min(episodes, _ROBOTS)
            for model in (actor, self.reward):
                robots = robots_with_room(model, max_steps, robots)
            fleet = fitting_fleet(env, robots, actor, self.reward, self.env_settings)
            sizes = {"episodes": episodes, "max_steps": max_steps, "seed": self.seed}
            rollouts = rollouts_with_ground_truth(fleet, ModelPolicy(actor), **sizes)
            columns = predict_rollouts(self.reward, rollouts).columns()
            fleet.close()
            return columns

        foreign = _is_foreign(env)
        columns = roll() if foreign else cached_columns("rollouts", made_of, self.cache, roll)
        remarks = SourceRemarks(env=env, policy=str(policy), max_steps=max_steps)
        labelled = LabelledPredictions.of_columns(columns)
        return self._source("rollouts", GROUND_TRUTH, labelled, remarks)

    def _demonstrations(self, dataset: Dataset) -> Source:
        rows, name = np.arange(len(dataset.episode_lengths)), "demonstrations"
        training_data = self.training_data
        if isinstance(training_data, TrainingData) and contents_hash(dataset) == contents_hash(
            training_data.dataset
        ):
            rows, name = training_data.unseen, "demonstrations never trained on"
        check_data_fits(dataset, self.reward)
        vision_encoder = self.reward.vision_encoder
        data = load_demonstrations(
            dataset, vision_encoder, self._draw(rows), self.cache, self.on_progress
        )
        # Whole chunks before the end: where a policy decides that ends as the demonstration does.
        decided = data.steps_to_go % self.reward.spaces.chunking.chunk == 0
        frames, size = decided.nonzero().squeeze(1), data.parts(FRAMES_AT_ONCE)[0].stop
        parts = [frames[first : first + size] for first in range(0, len(frames), size)]
        predictions = self._predictions(data.instructions, lambda: map(data.inputs, parts))
        decisions = np.split(decided.numpy(), np.cumsum(data.episode_lengths)[:-1])
        labelled = LabelledPredictions(
            predictions=predictions,
            success=data.steps_to_go[decided].numpy() == 0,
            lengths=np.array([episode.sum() for episode in decisions]),
            instructions=data.instructions,
        )
        return self._source(name, DEMONSTRATED, labelled, SourceRemarks(data=str(dataset.root)))

    def _practised(self, root: Path, env: str | None) -> Source:
        stored, run = read_practice(root), root.parent
        drawn = [stored[int(row)] for row in self._draw(np.arange(len(stored)))]
        episodes = [scored.episode for scored in drawn]
        acted = load_model(run, build_model, "policy")
        _check_same_robot(run, acted.spaces, self.reward.spaces)
        check_same_chunks(acted.spaces.chunking, self.reward.spaces.chunking)
        _check_encoded_alike(self.reward, acted, run, episodes)
        labels, successes = DETECTED, list(map(_detections, episodes))
        if env is not None:
            labels, successes = REPLAYED, self._replayed(env, episodes, acted.spaces.chunking)
        audits = audits_of(run)
        remarks = SourceRemarks(run=str(run), audits=pooled(audits) if audits else None)
        instructions = tuple(episode.instruction for episode in episodes)
        predictions = self._predictions(instructions, lambda: map(reward_inputs, episodes))
        labelled = LabelledPredictions(
            predictions=predictions,
            success=np.concatenate(successes),
            lengths=np.array([len(success) for success in successes]),
            instructions=instructions,
        )
        return self._source("practised episodes", labels, labelled, remarks)

    def _replayed(
        self, env: str, episodes: Sequence[Episode], chunking: Chunking
    ) -> list[Bool[Array, "obs"]]:
        """Return success along episodes, which a simulator goes through once more."""

        def replay() -> dict[str, Array]:
            self.on_progress(Progress(stage="replaying practice", done=0, total=len(episodes)))
            robots = min(_ROBOTS, len(episodes))
            instruction = self.reward.only_instruction
            fleet = in_chunks(make_fleet(env, robots, self.env_settings, instruction), chunking)
            successes = replayed_ground_truth(fleet, episodes)
            fleet.close()
            return {"success": np.concatenate(successes)}

        recorded = [
            part for episode in episodes for part in (episode.observations.state, episode.actions)
        ]
        seeds = [episode.seed for episode in episodes]
        of_env = [env, asdict(self.env_settings)]
        made_of = {"env": of_env, "seeds": seeds, "recorded": digest_of(recorded)}
        made_of |= {} if chunking.is_plain else asdict(chunking)
        foreign = _is_foreign(env)
        columns = replay() if foreign else cached_columns("replays", made_of, self.cache, replay)
        ends = np.cumsum([episode.num_steps + 1 for episode in episodes])
        return np.split(columns["success"], ends[:-1])

    def _draw(self, rows: Int64[Array, "rows"]) -> Int64[Array, "drawn"]:
        order = generator(Purpose.LABELLED_EPISODES, self.seed).permutation(len(rows))
        return np.sort(rows[order[: self.episodes]])

    def _predictions(
        self, instructions: Sequence[str], parts: Callable[[], Iterable[Inputs]]
    ) -> FramePredictions:
        """Return what the model predicts of frames that come in parts; computed once, kept.

        Args:
            instructions: of the episodes.
            parts: begins with the first part again whenever it is called.
        """
        made_of = {
            "model": [self.reward.config(), weights_hash(self.reward)],
            "frames": digest_of(x.numpy() for part in parts() for x in (part.state, part.features)),
            "instructions": list(instructions),
        }
        columns = cached_columns(
            "predictions", made_of, self.cache, lambda: predict(self.reward, parts()).columns()
        )
        return FramePredictions.of_columns(columns)

    def _source(
        self, name: str, labels: str, labelled: LabelledPredictions, remarks: SourceRemarks
    ) -> Source:
        evidence = Evidence(
            name=name,
            labels=labels,
            instructions=labelled.instructions,
            lengths=labelled.lengths,
            probabilities=labelled.predictions.probabilities,
            edges=self.reward.bins.edges().numpy(),
            success=labelled.success,
        )
        return Source(
            evidence=evidence,
            normalised_inputs=labelled.predictions.normalised_inputs,
            is_ground_truth=labels != DETECTED,
            remarks=remarks,
        )


def _is_foreign(env: str) -> bool:
    """Tell whether an env is not of this package: nobody knows when its code changes."""
    return not env.startswith("nearer/")


def check_data_fits(dataset: Dataset, model: FoundationModel) -> None:
    """Raise DatasetError unless a model can be asked about the frames of a data set."""
    mismatch = dataset_spaces(dataset).mismatch(model.spaces)
    if mismatch is not None:
        raise DatasetError(f"{dataset.root} {mismatch.text}; name a data set of the same robot")


def _check_same_robot(run: Path, practised: Spaces, needed: Spaces) -> None:
    """Raise CheckpointError unless a model can score what a run's robots observed."""
    mismatch = practised.mismatch(needed, actions=False, cameras=False)
    if mismatch is not None:
        raise CheckpointError(
            f"{run} must have practised with the robot of the checkpoint: its policy "
            f"{mismatch.text}; name a run of the same robot"
        )


def _check_encoded_alike(
    reward: FoundationModel, acted: FoundationModel, run: Path, episodes: Sequence[Episode]
) -> None:
    """Raise unless practice kept what the reward's vision encoder makes of images it let go."""
    vision_encoder = reward.vision_encoder
    if vision_encoder is None or read_header(run).inputs.frozen_sha256 == weights_hash(reward):
        return
    own = any(episode.observations.reward_features.shape[1] for episode in episodes)
    if (
        own
        or acted.vision_encoder is None
        or acted.vision_encoder.identity != vision_encoder.identity
    ):
        raise CheckpointError(
            f"{run} must have been practised with the vision encoder of the checkpoint, got "
            "features of another one in place of images; measure the reward that practised there"
        )


def _detections(episode: Episode) -> Bool[Array, "obs"]:
    """Return where practice took its episode for done: at its end, or nowhere."""
    detected = np.zeros(episode.num_steps + 1, dtype=bool)
    detected[-1] = episode.ended is Ended.SUCCESS_DETECTED
    return detected
