"""Links in folders that come from others: what lies outside is not part of the folder."""

from pathlib import Path


def leads_out(path: Path, folder: Path) -> bool:
    """Tell whether a path, all its links followed, lies outside a folder.

    The hub's client keeps a download as links from snapshots/REVISION to blobs/ beside it; these
    files are the download's own.
    """
    try:
        target, home = path.resolve(), folder.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return True
    own = [home, *(parent.parent / "blobs" for parent in home.parents if _is_snapshots(parent))]
    return not any(target.is_relative_to(place) for place in own)


def _is_snapshots(folder: Path) -> bool:
    return folder.name == "snapshots" and (folder.parent / "blobs").is_dir()
