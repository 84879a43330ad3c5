"""Where a run's metrics are shown besides metrics.jsonl, which is the record.

    Tracker    log a record, close
    tensorboard   files in the run, no account: the default
    wandb, trackio   extras; each works in a thread of its own, and one that fails is left out

A tracker only shows what is written anyway, so none may stop or slow the training that it shows.
TensorBoard's files are on the run's own disk: when that fails, metrics.jsonl fails as well.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Any, Literal, Protocol, cast, runtime_checkable

from nearer.core.errors import ConfigError
from nearer.core.metrics import Record
from nearer.runs.metrics import number

TrackerName = Literal["tensorboard", "wandb", "trackio"]

_PROJECT = "nearer"
MAX_WAITING_RECORDS = 1000
"""More than a loop writes in minutes: a tracker that lags so far behind is stuck."""

_CLOSE_S = 30.0  # as long as trackio itself waits for its last records
_WANDB_INIT_S = 20.0  # in its own thread; without a network it never succeeds


@runtime_checkable
class Tracker(Protocol):
    """Shows the metrics of one run."""

    def log(self, record: Record) -> None:
        """Show a record; names are grouped by slash, as in sft/loss_bc."""
        ...

    def close(self) -> None:
        """Show what is still on the way, and stop."""
        ...


def check_trackers(names: Sequence[str]) -> None:
    """Raise ConfigError unless these trackers can be used here.

    Known before training starts, not after hours of it.
    """
    for name in names:
        if name == "tensorboard":
            continue
        if name not in _OPEN:
            raise ConfigError(
                f"--track must name trackers of tensorboard, {', '.join(_OPEN)}, got {name!r}; "
                "leave it out for tensorboard"
            )
        _module(name)
        if name == "wandb" and not _has_wandb_account():
            raise ConfigError(
                "--track wandb must have an account, got no key; run wandb login, or set "
                "WANDB_MODE=offline to keep everything in the run's folder"
            )


def open_trackers(
    root: Path,
    ids: Mapping[str, str],
    config: Mapping[str, object],
    last_step: int,
    shown_step: int,
) -> list[Tracker]:
    """Return the trackers of a run, ready to show its records.

    Args:
        root: the run's folder.
        ids: tracker -> id of the run there; a run that is continued comes with the same ones.
        config: of the run.
        last_step: step of the newest record that metrics.jsonl keeps; -1 for none.
        shown_step: step of the newest record that was ever shown; what a resumed run does again is
            not shown twice.
    """
    trackers: list[Tracker] = []
    for name, run_id in ids.items():
        if name == "tensorboard":
            trackers.append(_TensorBoard(root, last_step))
        else:

            def start(opened: "_Open" = _OPEN[name], run_id: str = run_id) -> Tracker:
                return opened(root, run_id, config)

            trackers.append(AsideTracker(name, start, shown_step))
    return trackers


class AsideTracker:
    """A tracker that works in a thread of its own, so that a slow one costs training nothing.

    One that fails, or lags far behind, is said once on stderr and left out from then on.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], Tracker],
        shown_step: int = -1,
        close_s: float = _CLOSE_S,
    ) -> None:
        self._name = name
        self._start = start
        self._shown_step = shown_step
        self._close_s = close_s
        self._is_out = False
        self._waiting: Queue[Record | None] = Queue(maxsize=MAX_WAITING_RECORDS)
        # A daemon: a tracker that hangs must not keep the process.
        self._thread = Thread(target=self._work, name=f"nearer-{name}", daemon=True)
        self._thread.start()

    def log(self, record: Record) -> None:
        """Hand over a record; returns at once."""
        if not self._is_out and number(record["step"]) > self._shown_step:
            self._put(record)

    def close(self) -> None:
        """Let the thread show what waits, for some seconds at most."""
        self._put(None)
        self._thread.join(self._close_s)
        if self._thread.is_alive():
            self._leave_out(f"it did not finish within {self._close_s:.0f} s")

    def _put(self, record: Record | None) -> None:
        try:
            self._waiting.put_nowait(record)
        except Full:
            self._leave_out(f"it lags {MAX_WAITING_RECORDS} records behind")

    def _work(self) -> None:
        try:
            tracker = self._start()
            while (record := self._waiting.get()) is not None:
                tracker.log(record)
            tracker.close()
        # Whatever a tracker's package raises, it must not reach the training.
        except Exception as error:
            self._leave_out(str(error).strip().partition("\n")[0] or type(error).__name__)

    def _leave_out(self, why: str) -> None:
        if not self._is_out:
            self._is_out = True
            print(
                f"nearer: {self._name} shows no more of this run, got: {why}; training goes on, "
                "and metrics.jsonl has everything",
                file=sys.stderr,
            )


class _TensorBoard:
    def __init__(self, root: Path, last_step: int) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter  # the names alone need no torch

        self._writer = SummaryWriter(str(root / "tensorboard"), purge_step=last_step + 1)

    def log(self, record: Record) -> None:
        for name, value in _shown(record).items():
            self._writer.add_scalar(name, value, int(number(record["step"])))

    def close(self) -> None:
        self._writer.close()


class _Logged:
    """A run of wandb or trackio, which share their way of logging."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, record: Record) -> None:
        self._run.log(_shown(record), step=record["step"])

    def close(self) -> None:
        self._run.finish()


def _shown(record: Record) -> dict[str, float]:
    """Return the metrics of a record: numbers whose name has a group."""
    return {
        name: value
        for name, value in record.items()
        if "/" in name and isinstance(value, (int, float))
    }


_Open = Callable[[Path, str, Mapping[str, object]], Tracker]


def _open_wandb(root: Path, run_id: str, config: Mapping[str, object]) -> Tracker:
    wandb = _module("wandb")
    # Its own capture of the terminal would take the progress bars away.
    settings = wandb.Settings(console="off", silent=True, init_timeout=_WANDB_INIT_S)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", _PROJECT),
        id=run_id,
        name=root.name,
        dir=str(root),
        config=dict(config),
        resume="allow",
        reinit="create_new",
        settings=settings,
    )
    return _Logged(run)


def _open_trackio(root: Path, run_id: str, config: Mapping[str, object]) -> Tracker:
    trackio = _module("trackio")
    # trackio knows a run by its name alone.
    run = trackio.init(
        project=_PROJECT,
        name=f"{root.name}-{run_id}",
        config=dict(config),
        resume="allow",
        embed=False,
        auto_log_gpu=False,
        auto_log_cpu=False,
    )
    return _Logged(run)


_OPEN: Mapping[str, _Open] = {"wandb": _open_wandb, "trackio": _open_trackio}


def _has_wandb_account() -> bool:
    wandb = _module("wandb")
    if wandb.setup().settings.mode in ("offline", "disabled", "dryrun"):
        return True
    return bool(wandb.login(prompt=False, verify=False))


def _module(name: str) -> Any:
    """Import an extra, which takes a second or two, only when it is asked for."""
    try:
        return cast(Any, import_module(name))
    except ImportError as error:
        raise ConfigError(
            f"--track {name} must have the package {name}, got: {error}; run pip install "
            f"'nearer[{name}]'"
        ) from error
