"""What several test files share."""

import os
import signal
from pathlib import Path

import pytest
import torch

from nearer.cli import main

ENV_ID = "nearer/PointMass-v0"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tests run side by side, a process a core; more threads would only wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts() -> None:
    """Hear Ctrl-C also where a shell started the tests in the background and ignores it there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep decoded frames and features of tests out of the user's cache folder."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def stage_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 50 demonstrations in data/ and a finished tiny Stage 1 in sft/.

    Copy what you change.
    """
    root = tmp_path_factory.mktemp("stage_one")
    data, run = str(root / "data"), str(root / "sft")
    main(["collect", "--env", ENV_ID, "--episodes", "50", "--num-envs", "50", "--out", data])
    tiny = ["--model", "mlp", "--mlp.hidden", "16", "--updates", "40", "--validate-every", "20"]
    main(["sft", "--data", data, "--out", run, *tiny])
    return root
