"""The HTML page about runs."""

from collections.abc import Sequence
from pathlib import Path


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Write the page and return its path."""
    out.write_text("<!doctype html>")
    return out
