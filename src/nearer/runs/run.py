"""One directory a run: what was asked, on which code, what came out, and how to go on.

    RUN/run.json         command, config, seed, git revision, versions, hash of the frozen model
        metrics.jsonl    one line a record; the source of every curve
        tensorboard/     the same, for tensorboard --logdir
        trackers.json    the ids of the run in the trackers of --track
        checkpoints/     see checkpoint.py
        seeing.json      Stage 1: what its sight took before the first update
        practice/        Stage 2: its episodes as a LeRobotDataset with the progress sidecar
        FINISHED         written last; there is nothing left to resume

JSON files are written whole or not at all; a line cut short by a kill is left out when read.
"""

import json
import os
import platform
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch

from nearer.algorithm.model import FoundationModel
from nearer.algorithm.run_writer import Counters, Record, TrainingState
from nearer.core.errors import CheckpointError, ConfigError
from nearer.runs.checkpoint import (
    complete_checkpoints,
    gather_shards,
    restore,
    save_checkpoint,
)
from nearer.runs.files import (
    disk_errors_as_sentences,
    replace_link,
    temporary_path,
    write_json,
    write_lines,
)
from nearer.runs.trackers import open_trackers

SEEING = "seeing.json"
"""The seconds that a model's sight looked at the demonstrations and learned from them."""
_FINISHED = "FINISHED"
_TRACKERS = "trackers.json"
_PACKAGES = ("nearer", "torch", "numpy", "gymnasium", "pyarrow", "safetensors")


class Run:
    """A run's directory, open for writing."""

    def __init__(
        self,
        root: Path,
        header: Mapping[str, Any],
        resume_command: str | None,
        last_step: int = -1,
        shown_step: int = -1,
    ) -> None:
        self.root = root
        self.name = str(root)
        self.how_to_resume = _how_to_resume(root, resume_command or f"nearer {header['command']}")
        self.header = header
        self.checkpoints = root / "checkpoints"
        self._elapsed_s = _elapsed_s(root)
        self._started = perf_counter()
        with disk_errors_as_sentences(root):
            self.checkpoints.mkdir(exist_ok=True)
            self._metrics = (root / "metrics.jsonl").open("a")
            ids, config = _tracker_ids(root, header), header["config"]
            self._trackers = open_trackers(root, ids, config, last_step, shown_step)

    @classmethod
    def create(
        cls,
        root: Path,
        command: str,
        config: Mapping[str, Any],
        resume_command: str | None = None,
        **facts: str,
    ) -> "Run":
        """Start a run in a folder that is new or empty.

        Args:
            root: the run's folder.
            command: which command of nearer makes it.
            config: the whole config, as JSON values.
            resume_command: what continues the run, with --resume; None: the same command.
            facts: further lines of run.json, such as the frozen model's hash.

        Raises:
            ConfigError: the folder holds something.
        """
        check_new(root)
        header = {
            "command": command,
            "config": config,
            "git_revision": git_revision(),
            "versions": {name: version(name) for name in _PACKAGES}
            | {"python": platform.python_version()},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        }
        write_json(root / "run.json", header)
        return cls(root, header, resume_command)

    @classmethod
    def resume(cls, root: Path, resume_command: str | None = None, **facts: str) -> "Run":
        """Go on after the last complete checkpoint; later metrics are forgotten.

        Args:
            root: the run's folder.
            resume_command: see `create`.
            facts: what must still be as it was when the run started.

        Raises:
            ConfigError: a fact has changed since.
        """
        header = read_header(root)
        check_facts(root, header, facts)
        found = complete_checkpoints(root / "checkpoints")
        last_step = int(found[-1].name) if found else -1
        lines = read_metrics(root)
        kept = [line for line in lines if line["step"] <= last_step]
        write_lines(root / "metrics.jsonl", kept)
        shown_step = max((line["step"] for line in lines), default=-1)
        return cls(root, header, resume_command, last_step, shown_step)

    def log(self, record: Record) -> None:
        """Append a record to metrics.jsonl and show it, with the seconds spent so far."""
        elapsed_s = self._elapsed_s + perf_counter() - self._started
        record = {**record, "time/elapsed_s": elapsed_s}
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
            found = complete_checkpoints(self.checkpoints)
            for link, named in links.items():
                if self._folder(named) not in found:
                    raise CheckpointError(
                        f"{self._folder(named)} must be there to become the {link} checkpoint, got "
                        "none; restore it, or start a new run"
                    )
                replace_link(self.checkpoints / link, self._folder(named))
            for old in found:
                if int(old.name) not in (*links.values(), *keep):
                    # A folder that is half deleted must not look like a checkpoint.
                    old.rename(temporary_path(old))
            for leftover in self.checkpoints.glob(".[0-9]*.tmp"):
                shutil.rmtree(leftover)

    def finish(self) -> None:
        """Note that there is nothing left to resume."""
        with disk_errors_as_sentences(self.root):
            (self.root / _FINISHED).touch()

    def _folder(self, step: int) -> Path:
        return self.checkpoints / f"{step:06d}"

    def records(self) -> list[Record]:
        """Return the records of metrics.jsonl, oldest first."""
        return list(read_metrics(self.root))

    def restore(self, model: FoundationModel, optimizer: torch.optim.Optimizer) -> Counters | None:
        """Put the newest complete checkpoint back; None before the first."""
        return _restore_newest(self.checkpoints, model, optimizer)

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a file of the run, whole or not at all."""
        write_json(self.root / name, document)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        with disk_errors_as_sentences(self.root):
            self._metrics.close()
            for tracker in self._trackers:
                tracker.close()


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
        taken = root.exists() and any(not path.match(".*.tmp") for path in root.iterdir())
    except OSError as error:
        raise ConfigError(
            f"--out must be a new or empty folder, got {root}: {error.strerror}; choose another"
        ) from error
    if taken:
        raise ConfigError(
            f"--out must be a new or empty folder, got {root}, which holds something; "
            "choose another, or continue this run with --resume"
        )


def check_facts(root: Path, header: Mapping[str, Any], facts: Mapping[str, str]) -> None:
    """Raise ConfigError unless these are as run.json says; an older nearer wrote fewer of them."""
    for name, value in facts.items():
        if header.get(name, value) != value:
            raise ConfigError(
                f"{name} must be {header.get(name)}, as {root}/run.json says, got {value}; "
                "restore what the run started from, or start a new run with another --out"
            )


def _tracker_ids(root: Path, header: Mapping[str, Any]) -> dict[str, str]:
    """Return tracker -> id of the run there, kept so that a resumed run is the same one there."""
    names: Sequence[str] = header["config"].get("track", ("tensorboard",))
    path = root / _TRACKERS
    advice = "delete it, and the trackers start runs of their own"
    known = read_json(path, advice) if path.exists() else {}
    # Made by secrets, not by a seed: two runs of one seed are two runs.
    ids = {name: str(known.get(name) or secrets.token_hex(4)) for name in names}
    if any(name != "tensorboard" and name not in known for name in names):
        write_json(path, {**known, **{n: i for n, i in ids.items() if n != "tensorboard"}})
    return ids


def _elapsed_s(root: Path) -> float:
    records = read_metrics(root)
    return records[-1]["time/elapsed_s"] if records else 0.0


def read_header(root: Path) -> dict[str, Any]:
    """Return run.json of a run."""
    advice = "name the folder that --out named, or start the run without --resume"
    return read_json(root / "run.json", advice)


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Return a JSON object of a run, or raise a sentence that ends in the advice."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} must be a JSON file of a run, got: {error}; {advice}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {document!r}; {advice}")
    return cast(dict[str, Any], document)


def read_metrics(root: Path) -> list[dict[str, Any]]:
    """Return the records of a run's metrics.jsonl."""
    return read_lines(root / "metrics.jsonl")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file of lines; a last line cut short by a kill is left out."""
    records: list[dict[str, Any]] = []
    if not path.exists():
        return records
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def git_revision() -> str:
    """Return the revision of the code that runs, with + for uncommitted changes, or "unknown".

    Unknown too where the package is installed inside somebody's project, which git knows better.
    """
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        revision = _git(here, "rev-parse", "HEAD")
        return revision + ("+" if _git(here, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
