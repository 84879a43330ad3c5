"""Which code makes a run: its git revision, and the versions of the packages below it."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("nearer", "torch", "numpy", "gymnasium", "pyarrow", "safetensors")


def package_versions() -> dict[str, str]:
    """Return package -> version, Python's among them."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


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
