"""Faults that tests of several commands cause: damaged files, a full disk, an env that fails."""

import errno
import json
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from nearer.envs.point_mass import PointMassVector

Damage = Callable[[Path], object]
"""Damages one thing in a folder."""


def file_contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder, by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def truncate(path: Path) -> None:
    """Cut a file to the first half."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def edit_json(path: Path, **changes: object) -> None:
    """Set keys of a JSON object in a file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    """Let a function change the JSON value in a file."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def remove_key(path: Path, key: str) -> None:
    """Remove a key of a JSON object in a file."""
    document = json.loads(path.read_text())
    del document[key]
    path.write_text(json.dumps(document))


def shift_normalisation(weights_file: Path) -> None:
    """Change the mean by which a saved model normalises states."""
    weights = safetensors.torch.load_file(weights_file)
    weights["state_mean"] = weights["state_mean"] + 1
    safetensors.torch.save_file(weights, weights_file)


def fill_disk(patch: pytest.MonkeyPatch, owner: Any, name: str, after: int = 0) -> None:
    """Let a function fail as on a full disk, after so many calls."""
    function, calls = getattr(owner, name), count()

    def fail_later(*arguments: Any, **options: Any) -> Any:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return function(*arguments, **options)

    patch.setattr(owner, name, fail_later)


def call_at_step(patch: pytest.MonkeyPatch, number: int, action: Callable[[], object]) -> None:
    """Call a function in the given step of the point mass, counted from 1."""
    step, calls = PointMassVector.step, count(1)

    def step_and_call(self: Any, actions: Any) -> Any:
        if next(calls) == number:
            action()
        return step(self, actions)

    patch.setattr(PointMassVector, "step", step_and_call)


def raise_env_error() -> None:
    """Fail as a robot does."""
    raise RuntimeError("the gripper is on fire")


def press_ctrl_c() -> None:
    """Interrupt this process."""
    signal.raise_signal(signal.SIGINT)
