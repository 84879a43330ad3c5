"""Trackers show every record once; a tracker that fails or hangs does not stop the run.

wandb (offline) and trackio (local) are the real packages; trackers that fail are fakes.
"""

import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nearer.core.errors import ConfigError
from nearer.core.metrics import Record
from nearer.runs import trackers
from nearer.runs.documents import read_tracker_ids
from nearer.runs.metrics import read_metrics
from nearer.runs.run import Run
from nearer.runs.trackers import AsideTracker, check_trackers
from refusals import refused

RECORDS = [
    {"step": step, "sft/loss_bc": 1 / (1 + step), "note": "text", "a/none": None}
    for step in range(3)
]
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


class RecordingTracker:
    """A tracker that keeps its records."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.closed = False

    def log(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


class BrokenTracker(RecordingTracker):
    """A tracker that raises at its third record."""

    def log(self, record: Record) -> None:
        super().log(record)
        if len(self.records) == 3:
            raise RuntimeError("no route to host\nand more")


def log_all(run: Run, records: list[dict[str, Any]]) -> None:
    with run:
        for record in records:
            run.log(record)


def test_aside_tracker_shows_records_in_order(capsys: Capture) -> None:
    tracker = RecordingTracker()
    aside = AsideTracker("recording", lambda: tracker)
    for record in RECORDS:
        aside.log(record)
    aside.close()
    assert tracker.records == RECORDS
    assert tracker.closed
    assert capsys.readouterr().err == ""


def test_aside_tracker_resumed_run_shows_only_new_steps() -> None:
    tracker = RecordingTracker()
    aside = AsideTracker("recording", lambda: tracker, shown_step=1)
    for record in RECORDS:
        aside.log(record)
    aside.close()
    assert tracker.records == RECORDS[2:]


def test_aside_tracker_that_raises_is_reported_once_and_stopped(capsys: Capture) -> None:
    tracker = BrokenTracker()
    aside = AsideTracker("broken", lambda: tracker)
    for step in range(100):
        aside.log({"step": step})
    aside.close()
    for step in range(100, 200):
        aside.log({"step": step})
    assert len(tracker.records) == 3
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert message.startswith("nearer: broken shows no more of this run, got: no route to host; ")


def test_aside_tracker_that_cannot_start_is_reported_once(capsys: Capture) -> None:
    def start() -> RecordingTracker:
        raise OSError("disk full")

    aside = AsideTracker("recording", start)
    aside.close()
    assert capsys.readouterr().err.count("disk full") == 1


@pytest.fixture
def hanging_tracker(monkeypatch: Patch) -> Iterator[AsideTracker]:
    """Give a tracker of 5 waiting records that starts only after the test."""
    monkeypatch.setattr(trackers, "MAX_WAITING_RECORDS", 5)
    test_is_over = threading.Event()

    def start() -> RecordingTracker:
        test_is_over.wait()
        return RecordingTracker()

    yield AsideTracker("slow", start, close_s=0.05)
    test_is_over.set()


def test_aside_tracker_that_hangs_is_stopped_after_waiting_records(
    hanging_tracker: AsideTracker, capsys: Capture
) -> None:
    for step in range(20):
        hanging_tracker.log({"step": step})
    hanging_tracker.close()
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "slow shows no more of this run, got: it lags 5 records behind" in message


def test_aside_tracker_close_of_hanging_tracker_gives_up(
    hanging_tracker: AsideTracker, capsys: Capture
) -> None:
    hanging_tracker.close()
    assert "it did not finish within" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_sft_tracker_without_its_package_is_refused(
    name: str, stage_one: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    out = tmp_path / "run"
    command = ["sft", "--data", stage_one / "data", "--model", "mlp", "--track", name]
    message = refused(capsys, *command, "--out", out)
    assert f"pip install 'nearer[{name}]'" in message
    assert not out.exists()


@pytest.mark.usefixtures("tracker_home")
def test_check_trackers_wandb_offline_needs_no_account() -> None:
    check_trackers(["wandb"])


def test_check_trackers_wandb_without_account_is_refused(monkeypatch: Patch) -> None:
    wandb: Any = ModuleType("wandb")
    wandb.setup = lambda: SimpleNamespace(settings=SimpleNamespace(mode="online"))
    wandb.login = lambda prompt, verify: False
    wandb.__spec__ = importlib.util.spec_from_loader("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(ConfigError, match="WANDB_MODE=offline"):
        check_trackers(["wandb"])


def test_check_trackers_unknown_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 'mlflow'"):
        check_trackers(["tensorboard", "mlflow"])


@pytest.fixture
def tracker_home(tmp_path: Path, monkeypatch: Patch) -> Path:
    """Keep what wandb and trackio write inside the test's folder, without a network."""
    home = tmp_path / "home"
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(home / name))
    return home


def test_run_resumed_is_continued_in_every_tracker(
    tmp_path: Path, tracker_home: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    storage = pytest.importorskip("trackio.sqlite_storage")
    monkeypatch.setattr(storage, "TRACKIO_DIR", tracker_home)
    for module in ("trackio.utils", "trackio"):
        monkeypatch.setattr(sys.modules[module], "TRACKIO_DIR", tracker_home)
    root = tmp_path / "run"
    config = {"track": ["tensorboard", "wandb", "trackio"], "seed": 3}
    log_all(Run.create(root, "sft", config), RECORDS[:2])
    ids = read_tracker_ids(root).ids
    log_all(Run.resume(root), RECORDS)  # no checkpoint: every step is done again
    assert read_tracker_ids(root).ids == ids
    assert ids.keys() == {"wandb", "trackio"}
    losses = [record["sft/loss_bc"] for record in RECORDS]
    assert [line["sft/loss_bc"] for line in read_metrics(root)] == losses
    assert [event.value for event in tensorboard(root)] == pytest.approx(losses)
    rows = storage.SQLiteStorage.get_logs("nearer", f"run-{ids['trackio']}")
    assert [(row["step"], row["sft/loss_bc"]) for row in rows] == list(enumerate(losses))
    assert all("note" not in row and "a/none" not in row for row in rows)
    assert wandb_history(root, ids["wandb"]) == list(enumerate(losses))
    assert "nearer:" not in capsys.readouterr().err


def tensorboard(root: Path) -> list[Any]:
    events = EventAccumulator(str(root / "tensorboard"))
    events.Reload()
    return events.Scalars("sft/loss_bc")


def wandb_history(root: Path, run_id: str) -> list[tuple[int, float]]:
    """Return what all offline runs of this id hold: a run that was resumed offline has two."""
    from wandb.proto.wandb_internal_pb2 import Record as Stored

    history: list[tuple[int, float]] = []
    for path in sorted(root.glob(f"wandb/offline-run-*/run-{run_id}.wandb")):
        for data in leveldb_log(path.read_bytes()):
            stored = Stored()
            stored.ParseFromString(data)
            if stored.HasField("history"):
                items = stored.history.item
                row = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
                history.append((row["_step"], row["sft/loss_bc"]))
    return history


def leveldb_log(content: bytes) -> Iterator[bytes]:
    """Give the records of wandb's file: LevelDB's log format after a header of 7 bytes."""
    block, header, first_and_last = 32_768, 7, (1, 4)
    at, record = header, b""
    while at + header <= len(content):
        if block - at % block < header:
            at += block - at % block
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + header : at + header + length]
        at += header + length
        if kind in first_and_last:
            yield record
            record = b""
