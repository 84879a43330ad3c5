"""Models on the Hugging Face hub, as folders: user/name can stand wherever a checkpoint can.

    user/name            config.json, model.safetensors     the policy
                         reward/                             the same two of the frozen reward
                         calibration.json, eval_info.json    what was measured
                         README.md                           the model card

Only JSON and safetensors are ever downloaded: nothing from the hub is run or unpickled.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nearer.core.errors import CheckpointError, ConfigError

REWARD = "reward"
"""Folder of a model on the hub that holds its reward."""

CALIBRATION, EVALUATION = "calibration.json", "eval_info.json"

_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_REVISION = r"[\w.][\w./-]*"
_PATTERNS = ["*.json", "*.safetensors"]


def check_hub_id(name: str) -> str:
    """Return a name that the hub could give a model, or raise ConfigError."""
    if not re.fullmatch(_NAME, name, re.ASCII) or ".." in name or "--" in name:
        raise ConfigError(
            f"a model's name on the hub must be user/name, got {name!r}; use letters, digits, "
            "'-', '_' and '.'"
        )
    return name


def split_hub_id(text: str) -> tuple[str, str | None] | None:
    """Return name and revision of user/name or user/name@REVISION; None if it is neither."""
    match = re.fullmatch(f"({_NAME})(?:@({_REVISION}))?", text, re.ASCII)
    return None if match is None else (match[1], match[2])


def local_run(path: Path) -> Path:
    """Return the folder that a user's path means, downloaded first if it is on the hub.

    Args:
        path: an existing path, or a hub id, user/name or user/name@REVISION.

    Returns:
        The path itself where it exists or cannot be a hub id.

    Raises:
        CheckpointError: no such model, or no connection to the hub and no copy of it here.
    """
    hub_id = split_hub_id(str(path))
    if hub_id is None or os.path.exists(path):  # which also takes what can be no path
        return path
    name, revision = hub_id
    try:
        return download(name, revision=revision, patterns=_PATTERNS)
    except OSError as error:
        raise CheckpointError(
            f"{path} must be a folder, or a model on the hub that can be reached, got: {error}; "
            "check the name and the connection, or log in with hf auth login"
        ) from error


def download(
    name: str,
    *,
    kind: str = "model",
    revision: str | None = None,
    patterns: Sequence[str] | None = None,
) -> Path:
    """Return the folder of what is on the hub, downloaded unless it has been before.

    Args:
        name: user/name.
        kind: model or dataset.
        revision: a branch, tag or commit; None: the newest.
        patterns: of the files to download; None: all.

    Raises:
        OSError: it cannot be had; says why in a line, whatever the hub's client raised.
    """
    import huggingface_hub  # takes a second, and flags only need to know what a hub id is
    from huggingface_hub.errors import GatedRepoError

    try:
        snapshot = huggingface_hub.snapshot_download(
            name,
            repo_type=kind,
            revision=revision,
            allow_patterns=None if patterns is None else list(patterns),
        )
    except GatedRepoError as error:
        raise OSError("a licence that is to be accepted first, on its page there") from error
    except Exception as error:
        raise OSError(_reason(error)) from error
    return Path(snapshot)


def upload(folder: Path, name: str, *, private: bool) -> str:
    """Put the files of a folder on the hub as a model, and return its address.

    Args:
        folder: what is uploaded, all of it, in one commit.
        name: user/name.
        private: only its owner sees a model that is new; an old one stays as it is.

    Raises:
        ConfigError: the name is none, the hub cannot be reached or refuses.
    """
    import huggingface_hub

    check_hub_id(name)
    try:
        hub = huggingface_hub.HfApi()
        address = hub.create_repo(name, repo_type="model", private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=name,
            repo_type="model",
            folder_path=folder,
            # What an earlier upload had and this one has not would belong to other weights.
            delete_patterns=[f"{REWARD}/*", CALIBRATION, EVALUATION],
            commit_message="Upload from nearer",
        )
    except Exception as error:
        raise ConfigError(
            f"the hub must take {name}, got: {_reason(error)}; log in with hf auth login as "
            "someone who may write there"
        ) from error
    return str(address)


def _reason(error: Exception) -> str:
    """Return in a line what the hub's client says; its errors differ from version to version."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
