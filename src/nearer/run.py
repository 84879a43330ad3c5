"""One directory a run: what was asked, on which code, what came out, and how to go on.

RUN/run.json         command, config, seed, git revision, versions, hash of the frozen model
    metrics.jsonl    one line a record; the source of every curve
    tensorboard/     the same, for tensorboard --logdir
    checkpoints/     see checkpoint.py
    practice/        Stage 2: its episodes as a LeRobotDataset with the progress sidecar
"""

import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from torch.utils.tensorboard.writer import SummaryWriter

from nearer.checkpoint import TrainingState, complete_checkpoints, point, save_checkpoint
from nearer.errors import ConfigError, NearerError
from nearer.model import FoundationModel

Record = Mapping[str, Any]
"""Metric name -> number (or None), with `step`: what one call of `Run.log` writes."""

_PACKAGES = ("nearer", "torch", "numpy", "gymnasium", "pyarrow", "safetensors")


class Run:
    """A run's directory, open for writing."""

    def __init__(self, root: Path, header: Mapping[str, Any], last_step: int) -> None:
        self.root = root
        self.header = header
        self.checkpoints = root / "checkpoints"
        self._elapsed_s = _elapsed_s(root)
        self._started = perf_counter()
        self._metrics = (root / "metrics.jsonl").open("a")
        self._tensorboard = SummaryWriter(str(root / "tensorboard"), purge_step=last_step + 1)

    @classmethod
    def create(cls, root: Path, command: str, config: Mapping[str, Any], **facts: str) -> "Run":
        """Start a run in a folder that is new or empty.

        Args:
            root: the run's folder.
            command: which command of nearer makes it.
            config: the whole config, as JSON values.
            facts: further lines of run.json, such as the frozen model's hash.

        Raises:
            ConfigError: the folder holds something.
        """
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ConfigError(
                f"--out must be a new or empty folder, got {root}; "
                "choose another, or continue this run with --resume"
            )
        header = {
            "command": command,
            "config": config,
            "git_revision": git_revision(),
            "versions": {name: version(name) for name in _PACKAGES}
            | {"python": platform.python_version()},
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            **facts,
        }
        try:
            (root / "checkpoints").mkdir(parents=True)
            (root / "run.json").write_text(json.dumps(header, indent=2) + "\n")
        except OSError as error:
            raise ConfigError(
                f"--out must be a folder that can be written, got {root}: {error.strerror}"
            ) from error
        return cls(root, header, last_step=-1)

    @classmethod
    def resume(cls, root: Path) -> "Run":
        """Go on after the last complete checkpoint; later metrics are forgotten."""
        header = read_header(root)
        found = complete_checkpoints(root / "checkpoints")
        last_step = int(found[-1].name) if found else -1
        kept = [line for line in read_metrics(root) if line["step"] <= last_step]
        (root / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
        return cls(root, header, last_step)

    def log(self, record: Record) -> None:
        """Append a record to metrics.jsonl and to TensorBoard, with the seconds spent so far."""
        elapsed_s = self._elapsed_s + perf_counter() - self._started
        record = {**record, "time/elapsed_s": elapsed_s}
        try:
            self._metrics.write(json.dumps(record) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise NearerError(
                f"{self.root}/metrics.jsonl must be on a disk that can be written, got: "
                f"{error.strerror}; free some space and continue with --resume"
            ) from error
        for name, value in record.items():
            if "/" in name and isinstance(value, (int, float)):
                self._tensorboard.add_scalar(name, value, record["step"])

    def save(
        self, step: int, model: FoundationModel, training: TrainingState, names: Mapping[str, int]
    ) -> None:
        """Write checkpoint `step` and let links name checkpoints; unnamed ones are dropped.

        Args:
            step: number of the checkpoint; the link `last` will name it.
            model: its weights are written.
            training: what resuming needs besides.
            names: link -> step of the checkpoint it shall name, such as policy and reward.
        """
        save_checkpoint(self._folder(step), model, training)
        kept = {"last": step, **names}
        for link, named in kept.items():
            point(self.checkpoints / link, self._folder(named))
        for old in complete_checkpoints(self.checkpoints):
            if int(old.name) not in kept.values():
                shutil.rmtree(old)

    def _folder(self, step: int) -> Path:
        return self.checkpoints / f"{step:06d}"

    def last_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint, or None before the first."""
        found = complete_checkpoints(self.checkpoints)
        return found[-1] if found else None

    def write_json(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a file of the run, whole or not at all."""
        write_json(self.root / name, document)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        self._metrics.close()
        self._tensorboard.close()


def _elapsed_s(root: Path) -> float:
    records = read_metrics(root)
    return records[-1]["time/elapsed_s"] if records else 0.0


def read_header(root: Path) -> dict[str, Any]:
    """Return run.json of a run."""
    return read_json(root / "run.json", "name the folder that --out named")


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """Return a JSON object of a run, or raise a sentence that ends in the advice."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} must be a JSON file of a run, got: {error}; {advice}") from error
    return cast(dict[str, Any], document)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(document, indent=1) + "\n")
    temporary.replace(path)


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
    """Return the revision of the code that runs, with + for uncommitted changes, or "unknown"."""
    here = Path(__file__).parent
    try:
        revision = _git(here, "rev-parse", "HEAD")
        return revision + ("+" if _git(here, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
