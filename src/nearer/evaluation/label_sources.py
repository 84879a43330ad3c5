"""Labelled episodes for nearer eval-reward: demonstrations, practised episodes, rollouts.

Labels are facts (a demonstration ends where it is fulfilled), the simulator's truth, or, where
nothing better is known, the detector's own verdicts: every source says which.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

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
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.episodes import dataset_spaces
from nearer.datasets.lerobot.identity import contents_hash
from nearer.datasets.lerobot.reader import Dataset, open_dataset, resolve_dataset
from nearer.datasets.practice_store import read_practice
from nearer.datasets.split import read_split
from nearer.envs.tabletop.language import parse
from nearer.envs.tabletop.layout import BLOCKS
from nearer.evaluation.audit import pooled, read_audits
from nearer.evaluation.predictions import (
    FRAMES_AT_ONCE,
    Answers,
    answered,
    answers_of,
    from_columns,
    reward_inputs,
    to_columns,
)
from nearer.evaluation.reward_metrics import Evidence
from nearer.evaluation.success import replayed_truth, witnessed_rollouts
from nearer.fleets.chunked import in_chunks
from nearer.fleets.for_model import check_same_chunks, fitting_fleet, robots_with_room
from nearer.fleets.gym import make_fleet
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model, weights_hash
from nearer.runs.run import read_header

_ROBOTS = 50
FACT = "a demonstration is fulfilled at its last frame, and nowhere before"
TRUTH = "the simulator's truth at every observation"
REPLAYED = f"{TRUTH}, replayed; practice ended them at its own s, so lower ones cannot be judged"
VERDICT = (
    "the practice detector's own verdicts, no truth: they cannot tell how right a detector is; "
    "pass --env to replay the episodes against the simulator"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Labelled episodes with what the model says of them.

    Attributes:
        facts: of every frame, as comparisons read them.
        is_truth: whether the labels are worth choosing a threshold by.
        remarks: what else is known, such as practice's audits, as JSON values.
    """

    evidence: Evidence
    facts: Float32[Array, "frames facts"]
    is_truth: bool
    remarks: dict[str, Any]

    @property
    def asked(self) -> list[str]:
        """Return the instruction of every frame."""
        names = np.array(self.evidence.instructions, dtype=object)
        return np.repeat(names, self.evidence.lengths).tolist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
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


def run_of(path: Path) -> Path | None:
    """Return the run that a path is, or that a checkpoint belongs to; None without one."""
    folders = (path, *path.absolute().parents[:3])
    return next((one for one in folders if (one / "run.json").is_file()), None)


def taught_of(checkpoint: Path, demonstrations: str | None) -> Taught | str:
    """Return what a checkpoint was trained on, or the sentence that says why nobody knows.

    Args:
        checkpoint: a run of nearer sft, or a checkpoint of it.
        demonstrations: where its data set is now; None: where it was.

    Raises:
        DatasetError: --demonstrations names no data set, or another one.
    """
    run = run_of(checkpoint)
    header = read_header(run) if run else {}
    if header.get("command") != "sft":
        return "the checkpoint is of no run of nearer sft, so its demonstrations are not known"
    assert run is not None, "a header comes from a run"
    split, config = read_split(run), header["config"]
    try:
        named = demonstrations or str(config["data"])
        dataset = open_dataset(resolve_dataset(named, config.get("revision")))
    except DatasetError as error:
        if demonstrations:
            raise
        return f"its demonstrations cannot be read ({error}); name them with --demonstrations"
    if split.data_sha256 != contents_hash(dataset):
        raise DatasetError(
            f"{dataset.root} must be the data set that {run} was trained on, got another; name it "
            "with --demonstrations"
        )
    return Taught(dataset=dataset, train=split.train, unseen=split.not_trained_on)


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
        taught: what it was trained on, or why nobody knows.
        episodes: of a data set, at most.
        seed: draws them, and the starts of rollouts.
        cache: folder of what was computed before; None for ~/.cache/nearer.
        on_progress: sees the progress.
    """

    reward: FoundationModel
    taught: Taught | str
    episodes: int
    seed: int
    cache: Path | None
    on_progress: ProgressCallback

    def data(self, named: str, env: str | None) -> Source:
        """Return a data set's episodes, drawn at random: demonstrations, or practised ones.

        Args:
            named: folder or hub id; the practice folder of a run for practised ones.
            env: where practised ones are replayed for the truth; None: nobody knows it.
        """
        dataset = open_dataset(resolve_dataset(named, None))
        if dataset.root.name == "practice" and (dataset.root.parent / "run.json").is_file():
            return self._practised(dataset.root, env)
        return self._demonstrations(dataset)

    def rollouts(self, env: str, policy: Path, episodes: int, max_steps: int) -> Source:
        """Return fresh rollouts of a policy to the time limit, labelled by the simulator."""
        actor = load_model(policy, build_model, "policy")
        check_same_chunks(actor.spaces.chunking, self.reward.spaces.chunking)
        made_of = {
            "env": env,
            "policy": weights_hash(actor),
            "reward": weights_hash(self.reward),
            "numbers": [episodes, max_steps, self.seed],
        }

        def roll() -> dict[str, Array]:
            self.on_progress(Progress(stage="rollouts", done=0, total=episodes))
            robots = min(episodes, _ROBOTS)
            for one in (actor, self.reward):
                robots = robots_with_room(one, max_steps, robots)
            fleet = fitting_fleet(env, robots, actor, self.reward)
            sizes = {"episodes": episodes, "max_steps": max_steps, "seed": self.seed}
            rollouts = witnessed_rollouts(fleet, ModelPolicy(actor), **sizes)
            columns = to_columns(answers_of(self.reward, rollouts))
            fleet.close()
            return columns

        columns = roll() if _others(env) else cached_columns("rollouts", made_of, self.cache, roll)
        remarks = {"env": env, "policy": str(policy), "max_steps": max_steps}
        return self._source("rollouts", TRUTH, from_columns(columns), remarks)

    def _demonstrations(self, dataset: Dataset) -> Source:
        chosen, name = np.arange(len(dataset.episode_lengths)), "demonstrations"
        taught = self.taught
        if isinstance(taught, Taught) and contents_hash(dataset) == contents_hash(taught.dataset):
            chosen, name = taught.unseen, "demonstrations never trained on"
        check_data_fits(dataset, self.reward)
        vision_encoder = self.reward.vision_encoder
        data = load_demonstrations(
            dataset, vision_encoder, self._drawn(chosen), self.cache, self.on_progress
        )
        # Whole chunks before the end: where a policy decides that ends as the demonstration does.
        decided = data.steps_to_go % self.reward.spaces.chunking.chunk == 0
        rows, size = decided.nonzero().squeeze(1), data.parts(FRAMES_AT_ONCE)[0].stop
        parts = [rows[first : first + size] for first in range(0, len(rows), size)]
        columns = self._answered(data.instructions, lambda: map(data.inputs, parts))
        decisions = np.split(decided.numpy(), np.cumsum(data.episode_lengths)[:-1])
        answers = Answers(
            probabilities=columns["probabilities"],
            facts=columns["facts"],
            fulfilled=data.steps_to_go[decided].numpy() == 0,
            lengths=np.array([one.sum() for one in decisions]),
            instructions=data.instructions,
        )
        return self._source(name, FACT, answers, {"data": str(dataset.root)})

    def _practised(self, root: Path, env: str | None) -> Source:
        stored, run = read_practice(root), root.parent
        chosen = [stored[int(row)] for row in self._drawn(np.arange(len(stored)))]
        episodes = [one.episode for one in chosen]
        acted = load_model(run, build_model, "policy")
        _check_same_robot(run, acted.spaces, self.reward.spaces)
        check_same_chunks(acted.spaces.chunking, self.reward.spaces.chunking)
        _check_seen_alike(self.reward, acted, run, episodes)
        labels, truths = VERDICT, list(map(_verdicts, episodes))
        if env is not None:
            labels, truths = REPLAYED, self._replayed(env, episodes, acted.spaces.chunking)
        remarks: dict[str, Any] = {"run": str(run)}
        audits = read_audits(run / "audits.jsonl")
        if audits:
            remarks["audits"] = asdict(pooled(audits))
        asked = [one.instruction for one in episodes]
        columns = self._answered(asked, lambda: map(reward_inputs, episodes))
        answers = Answers(
            probabilities=columns["probabilities"],
            facts=columns["facts"],
            fulfilled=np.concatenate(truths),
            lengths=np.array([len(one) for one in truths]),
            instructions=tuple(asked),
        )
        return self._source("practised episodes", labels, answers, remarks)

    def _replayed(
        self, env: str, episodes: Sequence[Episode], chunking: Chunking
    ) -> list[Bool[Array, "obs"]]:
        """Return what was true along episodes, which a simulator goes through once more."""

        def replay() -> dict[str, Array]:
            self.on_progress(Progress(stage="replaying practice", done=0, total=len(episodes)))
            fleet = in_chunks(make_fleet(env, min(_ROBOTS, len(episodes))), chunking)
            truths = replayed_truth(fleet, episodes)
            fleet.close()
            return {"fulfilled": np.concatenate(truths)}

        recorded = [part for one in episodes for part in (one.observations.state, one.actions)]
        seeds = [one.seed for one in episodes]
        made_of = {"env": env, "seeds": seeds, "recorded": digest_of(recorded)}
        made_of |= {} if chunking.is_plain else asdict(chunking)
        found = replay() if _others(env) else cached_columns("replays", made_of, self.cache, replay)
        return np.split(found["fulfilled"], np.cumsum([one.num_steps + 1 for one in episodes])[:-1])

    def _drawn(self, rows: Int64[Array, "rows"]) -> Int64[Array, "drawn"]:
        order = generator(Purpose.CALIBRATION, self.seed, 0).permutation(len(rows))
        return np.sort(rows[order[: self.episodes]])

    def _answered(
        self, asked: Sequence[str], parts: Callable[[], Iterable[Inputs]]
    ) -> dict[str, Array]:
        """Return probabilities and facts of frames that come in parts; asked for once, kept.

        Args:
            asked: instructions of the episodes.
            parts: begins with the first part again whenever it is called.
        """
        made_of = {
            "model": [self.reward.config(), weights_hash(self.reward)],
            "frames": digest_of(x.numpy() for one in parts() for x in (one.state, one.features)),
            "instructions": list(asked),
        }
        return cached_columns("scores", made_of, self.cache, lambda: answered(self.reward, parts()))

    def _source(self, name: str, labels: str, answers: Answers, remarks: dict[str, Any]) -> Source:
        evidence = Evidence(
            name=name,
            labels=labels,
            instructions=answers.instructions,
            lengths=answers.lengths,
            probabilities=answers.probabilities,
            edges=self.reward.bins.edges().numpy(),
            fulfilled=answers.fulfilled,
        )
        is_truth = labels != VERDICT
        return Source(evidence=evidence, facts=answers.facts, is_truth=is_truth, remarks=remarks)


def _others(env: str) -> bool:
    """Tell whether an env is not of this package: nobody knows when its code changes."""
    return not env.startswith("nearer/")


def check_data_fits(dataset: Dataset, model: FoundationModel) -> None:
    """Raise DatasetError unless a model can be asked about the frames of a data set."""
    offered, needed = dataset_spaces(dataset), model.spaces
    missing = [one for one in needed.cameras if one not in offered.cameras]
    sizes = [(one.agent_pos, one.environment_state, one.axes) for one in (offered, needed)]
    other_rate = needed.control_hz and offered.control_hz != needed.control_hz
    if sizes[0] != sizes[1] or missing or other_rate:
        raise DatasetError(
            f"{dataset.root} must have the spaces of the checkpoint, {needed}, got {offered}; "
            "name a data set of the same robot"
        )


def _check_same_robot(run: Path, practised: Spaces, needed: Spaces) -> None:
    """Raise CheckpointError unless a model can be asked about what a run's robots sensed."""
    sizes = [(one.agent_pos, one.environment_state) for one in (practised, needed)]
    rates = {one.control_hz for one in (practised, needed) if one.control_hz}
    if sizes[0] != sizes[1] or len(rates) > 1:
        raise CheckpointError(
            f"{run} must have practised with the robot of the checkpoint, {needed} at "
            f"{needed.control_hz} Hz, got {practised} at {practised.control_hz} Hz; name a run of "
            "the same robot"
        )


def _check_seen_alike(
    reward: FoundationModel, acted: FoundationModel, run: Path, episodes: Sequence[Episode]
) -> None:
    """Raise unless practice kept what the reward's sight makes of the pictures it let go."""
    vision_encoder = reward.vision_encoder
    if vision_encoder is None or read_header(run).get("frozen_sha256") == weights_hash(reward):
        return
    own = any(one.observations.reward_features.shape[1] for one in episodes)
    if (
        own
        or acted.vision_encoder is None
        or acted.vision_encoder.identity != vision_encoder.identity
    ):
        raise CheckpointError(
            f"{run} must have been practised with the sight of the checkpoint, got features of "
            "another one in place of pictures; calibrate the checkpoint that judged there"
        )


def _verdicts(episode: Episode) -> Bool[Array, "obs"]:
    """Return where practice took its episode for done: at its end, or nowhere."""
    detected = np.zeros(episode.num_steps + 1, dtype=bool)
    detected[-1] = episode.ended is Ended.SUCCESS_DETECTED
    return detected
