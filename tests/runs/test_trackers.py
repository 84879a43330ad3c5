"""What is logged arrives in every tracker, once; a tracker that fails or hangs harms nothing.

wandb (offline) and trackio (local) are the real packages; what fails is a fake.
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

from nearer.cli import main
from nearer.core.errors import ConfigError
from nearer.core.metrics import Record
from nearer.runs import trackers
from nearer.runs.documents import read_tracker_ids
from nearer.runs.metrics import read_metrics
from nearer.runs.run import Run
from nearer.runs.trackers import AsideTracker, check_trackers

SOME = [
    {"step": step, "sft/loss_bc": 1 / (1 + step), "note": "text", "a/none": None}
    for step in range(3)
]
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


class Kept:
    """A tracker that keeps what it was shown."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.closed = False

    def log(self, record: Record) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


class Broken(Kept):
    """A tracker that takes two records and then raises."""

    def log(self, record: Record) -> None:
        super().log(record)
        if len(self.records) == 3:
            raise RuntimeError("no route to host\nand more")


def log_all(run: Run, records: list[dict[str, Any]]) -> None:
    with run:
        for record in records:
            run.log(record)


def test_every_record_is_shown_in_order(capsys: Capture) -> None:
    kept = Kept()
    aside = AsideTracker("kept", lambda: kept)
    for record in SOME:
        aside.log(record)
    aside.close()
    assert kept.records == SOME
    assert kept.closed
    assert capsys.readouterr().err == ""


def test_what_a_resumed_run_does_again_is_not_shown_twice() -> None:
    kept = Kept()
    aside = AsideTracker("kept", lambda: kept, shown_step=1)
    for record in SOME:
        aside.log(record)
    aside.close()
    assert kept.records == SOME[2:]


def test_a_tracker_that_fails_is_said_once_and_left_out(capsys: Capture) -> None:
    broken = Broken()
    aside = AsideTracker("broken", lambda: broken)
    for step in range(100):
        aside.log({"step": step})
    aside.close()
    for step in range(100, 200):
        aside.log({"step": step})
    assert len(broken.records) == 3
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("nearer: broken shows no more of this run, got: no route to host; ")


def test_a_tracker_that_cannot_start_is_said_once(capsys: Capture) -> None:
    def start() -> Kept:
        raise OSError("disk full")

    aside = AsideTracker("kept", start)
    aside.close()
    assert capsys.readouterr().err.count("disk full") == 1


def test_a_tracker_that_hangs_costs_neither_the_loop_nor_the_end(
    capsys: Capture, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(trackers, "MAX_WAITING_RECORDS", 5)
    go_on = threading.Event()

    def start() -> Kept:
        go_on.wait()
        return Kept()

    aside = AsideTracker("slow", start, close_s=0.05)
    for step in range(20):
        aside.log({"step": step})
    aside.close()
    go_on.set()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "slow shows no more of this run, got: it lags 5 records behind" in said


def test_the_end_waits_some_seconds_for_a_slow_tracker(capsys: Capture) -> None:
    go_on = threading.Event()

    def start() -> Kept:
        go_on.wait()
        return Kept()

    aside = AsideTracker("slow", start, close_s=0.05)
    aside.close()
    go_on.set()
    assert "it did not finish within" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_package_is_a_sentence_before_anything_starts(
    name: str, stage_one: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    out = tmp_path / "run"
    with pytest.raises(SystemExit):
        main(["sft", "--data", str(stage_one / "data"), "--model", "mlp", "--track", name,
              "--out", str(out)])  # fmt: skip
    said = capsys.readouterr().err
    assert f"pip install 'nearer[{name}]'" in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.usefixtures("at_home")
def test_wandb_offline_needs_no_account() -> None:
    check_trackers(["wandb"])


def test_wandb_without_an_account_is_a_sentence(monkeypatch: Patch) -> None:
    wandb: Any = ModuleType("wandb")
    wandb.setup = lambda: SimpleNamespace(settings=SimpleNamespace(mode="online"))
    wandb.login = lambda prompt, verify: False
    wandb.__spec__ = importlib.util.spec_from_loader("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(ConfigError, match="WANDB_MODE=offline"):
        check_trackers(["wandb"])


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 'mlflow'"):
        check_trackers(["tensorboard", "mlflow"])


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: Patch) -> Path:
    """Keep what wandb and trackio write inside the test's folder, without a network."""
    home = tmp_path / "home"
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(home / name))
    return home


def test_a_run_is_shown_in_all_trackers_and_goes_on_there(
    tmp_path: Path, at_home: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    storage = pytest.importorskip("trackio.sqlite_storage")
    monkeypatch.setattr(storage, "TRACKIO_DIR", at_home)
    for used in ("trackio.utils", "trackio"):
        monkeypatch.setattr(sys.modules[used], "TRACKIO_DIR", at_home)
    root = tmp_path / "one"
    config = {"track": ["tensorboard", "wandb", "trackio"], "seed": 3}
    log_all(Run.create(root, "sft", config), SOME[:2])
    ids = read_tracker_ids(root).ids
    log_all(Run.resume(root), SOME)  # no checkpoint: everything is done again
    assert read_tracker_ids(root).ids == ids
    assert ids.keys() == {"wandb", "trackio"}
    losses = [record["sft/loss_bc"] for record in SOME]
    assert [line["sft/loss_bc"] for line in read_metrics(root)] == losses
    assert [one.value for one in tensorboard(root)] == pytest.approx(losses)
    found = storage.SQLiteStorage.get_logs("nearer", f"one-{ids['trackio']}")
    assert [(one["step"], one["sft/loss_bc"]) for one in found] == list(enumerate(losses))
    assert all("note" not in one and "a/none" not in one for one in found)
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
