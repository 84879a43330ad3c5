"""One directory a run: what was asked, on which code, what came out, and how to go on.

    RUN/run.json         command, config, git revision, versions, hashes of what it started from
        metrics.jsonl    one line a record; the source of every curve
        tensorboard/     the same, for tensorboard --logdir
        trackers.json    the ids of the run in the trackers of --track
        checkpoints/     see checkpoint.py
        encoding.json    Stage 1: what its vision encoder took before the first update
        practice/        Stage 2: its episodes as a LeRobotDataset with the progress sidecar
        FINISHED         written last; there is nothing left to resume

documents.py has the dataclasses of the JSON files. They are written whole or not at all; a line
cut short by a kill is left out when read.
"""

import json
import math
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

import torch

from nearer.algorithm.early_stopping import AlarmStop
from nearer.algorithm.model import FoundationModel
from nearer.algorithm.run_writer import Counters, TrainingState
from nearer.core.errors import CheckpointError, ConfigError, NearerError
from nearer.core.metrics import Record
from nearer.runs.checkpoint import (
    complete_checkpoints,
    gather_shards,
    restore,
    save_checkpoint,
)
from nearer.runs.documents import (
    FORMAT,
    HEADER,
    NO_INPUTS,
    RunHeader,
    RunInputs,
    TrackerIds,
    read_header,
    read_tracker_ids,
    write_header,
    write_tracker_ids,
)
from nearer.runs.files import (
    disk_errors_as_sentences,
    holds_something,
    replace_link,
    temporary_path,
    write_lines,
)
from nearer.runs.json_files import from_json
from nearer.runs.metrics import METRICS, number, read_metrics
from nearer.runs.provenance import git_revision, package_versions
from nearer.runs.trackers import open_trackers

_FINISHED = "FINISHED"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tracked:
    """The setting of a config that says where metrics are shown."""

    track: tuple[str, ...] = ("tensorboard",)


class Run:
    """A run's directory, open for writing."""

    def __init__(
        self,
        root: Path,
        header: RunHeader,
        resume_command: str | None,
        last_step: int = -1,
        shown_step: int = -1,
    ) -> None:
        self.root = root
        self.name = str(root)
        self.how_to_resume = _how_to_resume(root, resume_command or f"nearer {header.command}")
        self.header = header
        self.checkpoints = root / "checkpoints"
        self._elapsed_s = _elapsed_s(root)
        self._started = perf_counter()
        with disk_errors_as_sentences(root):
            self.checkpoints.mkdir(exist_ok=True)
            ids = _tracker_ids(root, header.config)
            self._metrics = (root / METRICS).open("a")
            self._trackers = open_trackers(root, ids, header.config, last_step, shown_step)

    @classmethod
    def create(
        cls,
        root: Path,
        command: str,
        config: Mapping[str, object],
        resume_command: str | None = None,
        inputs: RunInputs = NO_INPUTS,
    ) -> "Run":
        """Start a run in a folder that is new or empty.

        Args:
            root: the run's folder.
            command: which command of nearer makes it.
            config: the whole config, as JSON values.
            resume_command: what continues the run, with --resume; None: the same command.
            inputs: what it starts from.

        Raises:
            ConfigError: the folder holds something.
        """
        check_new(root)
        header = new_header(command, config, inputs)
        write_header(root, header)
        return cls(root, header, resume_command)

    @classmethod
    def resume(
        cls,
        root: Path,
        resume_command: str | None = None,
        inputs: RunInputs = NO_INPUTS,
        changed: Mapping[str, object] | None = None,
    ) -> "Run":
        """Go on after the last complete checkpoint; later metrics are forgotten.

        Args:
            root: the run's folder.
            resume_command: see `create`.
            inputs: what must still be as it was when the run started.
            changed: settings that a continued run may have of its own, in place of the saved ones.

        Raises:
            ConfigError: an input has changed since, or the run is of another format.
        """
        header = read_header(root)
        header.inputs.check_same(root, inputs)
        header = _continued(root, header, changed or {})
        checkpoints = complete_checkpoints(root / "checkpoints")
        last_step = int(checkpoints[-1].name) if checkpoints else -1
        lines = read_metrics(root)
        steps = [int(number(line["step"])) for line in lines]
        saved = [line for line, step in zip(lines, steps, strict=True) if step <= last_step]
        write_lines(root / METRICS, saved)
        return cls(root, header, resume_command, last_step, max(steps, default=-1))

    def log(self, record: Record) -> None:
        """Append a record to metrics.jsonl and show it, with the seconds spent so far."""
        elapsed_s = self._elapsed_s + perf_counter() - self._started
        record = {**record, "time/elapsed_s": elapsed_s}
        self._check_there()
        with disk_errors_as_sentences(self.root):
            self._metrics.write(json.dumps(record) + "\n")
            self._metrics.flush()
            for tracker in self._trackers:
                tracker.log(record)

    def save(
        self,
        step: int,
        model: FoundationModel,
        training: TrainingState,
        links: Mapping[str, int],
        keep: Sequence[int] = (),
    ) -> None:
        """Write checkpoint `step`, whose metrics are on disk before it, and link to it."""
        self._check_there()
        with disk_errors_as_sentences(self.root):
            os.fsync(self._metrics.fileno())
        save_checkpoint(self._folder(step), model, training)
        self.link(step, links, keep)

    def link(self, last: int, links: Mapping[str, int], keep: Sequence[int] = ()) -> None:
        """Let links name checkpoints; checkpoints that are neither named nor kept are dropped.

        Also what a killed process did not get round to after it wrote its last checkpoint.

        Raises:
            CheckpointError: a checkpoint that is to be named is not there.
        """
        links = {"last": last, **links}
        with disk_errors_as_sentences(self.root):
            complete = complete_checkpoints(self.checkpoints)
            for link, named in links.items():
                if self._folder(named) not in complete:
                    raise CheckpointError(
                        f"{self._folder(named)} must be there to become the {link} checkpoint, got "
                        "none; restore it, or start a new run"
                    )
                replace_link(self.checkpoints / link, self._folder(named))
            for old in complete:
                if int(old.name) not in (*links.values(), *keep):
                    # A folder that is half deleted must not look like a checkpoint.
                    old.rename(temporary_path(old))
            for leftover in self.checkpoints.glob(".[0-9]*.tmp"):
                shutil.rmtree(leftover)

    def note_alarm(self, stop: AlarmStop) -> None:
        """Note in run.json how an alarm ended practice."""
        self.header = replace(self.header, alarm=stop)
        write_header(self.root, self.header)

    def finish(self) -> None:
        """Note that there is nothing left to resume."""
        with disk_errors_as_sentences(self.root):
            (self.root / _FINISHED).touch()

    def _check_there(self) -> None:
        """Raise NearerError if the run's folder is gone: what is written now would be lost."""
        if not (self.root / HEADER).exists():
            raise NearerError(
                f"{self.root} must stay where it is until its run has ended, got no {HEADER} there "
                "any more: somebody has deleted or moved it; move it back and continue with "
                "--resume, or start again"
            )

    def _folder(self, step: int) -> Path:
        return self.checkpoints / f"{step:06d}"

    def records(self) -> list[Record]:
        """Return the records of metrics.jsonl, oldest first."""
        return list(read_metrics(self.root))

    def restore(self, model: FoundationModel, optimizer: torch.optim.Optimizer) -> Counters | None:
        """Put the newest complete checkpoint back; None before the first."""
        return _restore_newest(self.checkpoints, model, optimizer)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        with disk_errors_as_sentences(self.root):
            self._metrics.close()
            for tracker in self._trackers:
                tracker.close()


def new_header(
    command: str, config: Mapping[str, object], inputs: RunInputs = NO_INPUTS
) -> RunHeader:
    """Return run.json of what this code starts now; see `Run.create`."""
    return RunHeader(
        format=FORMAT,
        command=command,
        config=config,
        git_revision=git_revision(),
        versions=package_versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        inputs=inputs,
    )


class SilentRun:
    """A run's directory that another process writes; this one only sends its shards of the weights.

    To the loop it is what a `Run` is.
    """

    def __init__(self, root: Path, resume_command: str) -> None:
        self.root = root
        self.name = str(root)
        self.how_to_resume = _how_to_resume(root, resume_command)

    def records(self) -> list[Record]:
        """Return the records of metrics.jsonl, oldest first."""
        return list(read_metrics(self.root))

    def log(self, record: Record) -> None:
        """Do nothing: the first process writes the same record."""

    def save(
        self,
        step: int,
        model: FoundationModel,
        training: TrainingState,
        links: Mapping[str, int],
        keep: Sequence[int] = (),
    ) -> None:
        """Send this process's shards of checkpoint `step`."""
        gather_shards(model, training)

    def link(self, last: int, links: Mapping[str, int], keep: Sequence[int] = ()) -> None:
        """Do nothing: the first process links checkpoints."""

    def restore(self, model: FoundationModel, optimizer: torch.optim.Optimizer) -> Counters | None:
        """Put the newest complete checkpoint back; None before the first."""
        return _restore_newest(self.root / "checkpoints", model, optimizer)


def _continued(root: Path, header: RunHeader, changed: Mapping[str, object]) -> RunHeader:
    """Return run.json of a run that goes on; it is written if it says something else now."""
    now = replace(header, config={**header.config, **changed}, alarm=None)
    if now != header:
        write_header(root, now)
    return now


def _how_to_resume(root: Path, command: str) -> str:
    return f"continue with {command} --resume --out {root}"


def _restore_newest(
    checkpoints: Path, model: FoundationModel, optimizer: torch.optim.Optimizer
) -> Counters | None:
    complete = complete_checkpoints(checkpoints)
    return restore(complete[-1], model, optimizer) if complete else None


def is_finished(root: Path) -> bool:
    """Tell whether a run has nothing left to resume."""
    return (root / _FINISHED).exists()


def check_new(root: Path) -> None:
    """Raise ConfigError unless a run can start in this folder.

    What a process leaves behind that was killed before it had written run.json counts as nothing.
    """
    try:
        occupied = holds_something(root)
    except OSError as error:
        raise ConfigError(
            f"--out must be a new or empty folder, got {root}: {error.strerror}; choose another"
        ) from error
    if occupied:
        raise ConfigError(
            f"--out must be a new or empty folder, got {root}, which holds something; "
            "choose another, or continue this run with --resume"
        )


def _tracker_ids(root: Path, config: Mapping[str, object]) -> dict[str, str]:
    """Return tracker -> id of the run there, kept so that a resumed run is the same one there."""
    names = from_json(_Tracked, config, partly=True).track
    kept = read_tracker_ids(root).ids
    # Made by secrets, not by a seed: two runs of one seed are two runs.
    ids = {name: kept.get(name) or secrets.token_hex(4) for name in names}
    if any(name != "tensorboard" and name not in kept for name in names):
        shown = {name: run_id for name, run_id in ids.items() if name != "tensorboard"}
        write_tracker_ids(root, TrackerIds(ids={**kept, **shown}))
    return ids


def _elapsed_s(root: Path) -> float:
    records = read_metrics(root)
    elapsed_s = number(records[-1].get("time/elapsed_s")) if records else 0.0
    return 0.0 if math.isnan(elapsed_s) else elapsed_s
