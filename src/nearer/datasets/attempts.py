"""attempts.jsonl of a data set that is being collected: which seeds have been tried.

Failed episodes leave nothing else behind, so without it a collection that is continued would try
them again. A line is on the disk before the episodes it tells of, and counts once they are there:
an episode is neither lost nor doubled, wherever a process is killed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nearer.core.errors import DatasetError
from nearer.runs.files import append_line
from nearer.runs.json_files import read_documents, write_documents

ATTEMPTS = "attempts.jsonl"
_ADVICE = "restore it, or collect into another --out"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptedBlock:
    """A line: episodes that were tried.

    Attributes:
        seeds: of all of them.
        total_episodes: of the data set, with those of them that succeeded.
    """

    seeds: tuple[int, ...]
    total_episodes: int


class Attempts:
    """The seeds that have been tried for the episodes of a data set."""

    def __init__(self, root: Path, total_episodes: int) -> None:
        """Read what was tried, and forget attempts whose episodes never reached the disk.

        Raises:
            ConfigError: a line is damaged.
            DatasetError: the episodes are not those that the lines tell of.
        """
        self._log = root / ATTEMPTS
        blocks = read_documents(AttemptedBlock, self._log, _ADVICE)
        counted = [block for block in blocks if block.total_episodes <= total_episodes]
        told = counted[-1].total_episodes if counted else 0
        if told != total_episodes:
            raise DatasetError(
                f"{self._log} must tell how the {total_episodes} episodes of {root} were tried, "
                f"got {told}; {_ADVICE}"
            )
        if self._log.exists():
            write_documents(self._log, counted)
        self.seeds = {seed for block in counted for seed in block.seeds}

    def note(self, seeds: Sequence[int], total_episodes: int) -> None:
        """Write down seeds, before the episodes of those that succeeded are appended."""
        append_line(
            self._log, asdict(AttemptedBlock(seeds=tuple(seeds), total_episodes=total_episodes))
        )
        self.seeds.update(seeds)
