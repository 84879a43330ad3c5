"""What people did and said at the console: an append-only table in the run's folder.

SQLite in WAL mode: an entry is on the disk when `add` returns, and a reader never waits for it.
Rows cannot be changed or removed, not even by another program: triggers refuse it.
"""

import csv
import io
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, cast, get_args

from nearer.core.errors import NearerError

LEDGER = "ledger.sqlite"
"""Of a run: what people did, in what order."""
Answer = Literal["yes", "no", "cannot tell"]
"""What a person says to a question of an audit."""
ANSWER = "answer: "
"""How the action of an entry begins that answers one."""
_TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    key TEXT PRIMARY KEY,
    at_s REAL NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    robot INTEGER,
    episode INTEGER,
    question INTEGER,
    seen TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE TRIGGER IF NOT EXISTS no_update BEFORE UPDATE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS no_delete BEFORE DELETE ON entries
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that a person did.

    Attributes:
        key: of the click, made by the page: the same key is the same click, sent twice.
        at_s: when, seconds since 1970.
        who: role and address of the browser.
        action: such as stop.
        robot: whose; None: of all.
        episode: of that robot, where one is meant.
        question: of an audit, that is answered.
        seen: what the page showed of the robot: state, instruction, steps-to-go.
        note: free text.
    """

    key: str
    at_s: float
    who: str
    action: str
    robot: int | None
    episode: int | None
    question: int | None = None
    seen: str
    note: str


COLUMNS = tuple(field.name for field in fields(Entry))


class Ledger:
    """The table of a run.

    Args:
        path: its file; a new one is made.

    Raises:
        NearerError: the file cannot be written, or is no such table.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as table:
            table.executescript("PRAGMA journal_mode = WAL;" + _TABLE)

    def add(self, entry: Entry) -> bool:
        """Append an entry, and return whether it is new: one with its key may be there."""
        with self._open() as table:
            marks = ", ".join("?" * len(COLUMNS))
            added = table.execute(
                f"INSERT OR IGNORE INTO entries ({', '.join(COLUMNS)}) VALUES ({marks})",
                astuple(entry),
            )
            return added.rowcount == 1

    def latest(self, most: int) -> list[Entry]:
        """Return the newest entries, newest first."""
        return self._read(f"ORDER BY rowid DESC LIMIT {int(most)}")

    def all(self) -> list[Entry]:
        """Return all entries, oldest first."""
        return self._read("ORDER BY rowid")

    def answers(self) -> dict[int, Answer]:
        """Return what was said to each question of the audits, last."""
        entries = self._read("WHERE question IS NOT NULL ORDER BY rowid")
        answers: dict[int, Answer] = {}
        for entry in entries:
            answer = entry.action.removeprefix(ANSWER)
            if entry.question is not None and answer in get_args(Answer):
                answers[entry.question] = cast(Answer, answer)
        return answers

    def csv(self) -> str:
        """Return all entries, oldest first, as CSV; times also as people read them (UTC)."""
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["time_utc", *COLUMNS])
        for entry in self.all():
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(entry.at_s))
            writer.writerow([at, *map(_cell, astuple(entry))])
        return out.getvalue()

    def _read(self, order: str) -> list[Entry]:
        with self._open() as table:
            rows = table.execute(f"SELECT {', '.join(COLUMNS)} FROM entries {order}").fetchall()
        return [Entry(**dict(zip(COLUMNS, row, strict=True))) for row in rows]

    @contextmanager
    def _open(self) -> Generator[sqlite3.Connection]:
        try:
            table = sqlite3.connect(self._path, timeout=5)
            try:
                with table:
                    yield table
            finally:
                table.close()
        except sqlite3.Error as error:
            raise NearerError(
                f"{self._path} must be the console's ledger, on a disk that takes it, got: "
                f"{error}; move it away, and a new one is begun"
            ) from error


def read_answers(run: Path) -> dict[int, Answer]:
    """Return what people said to the audits' questions; nothing where no console was ever open.

    Raises:
        NearerError: the file is no ledger.
    """
    path = run / LEDGER
    return Ledger(path).answers() if path.exists() else {}


def _cell(value: object) -> object:
    """Return a value that a spreadsheet takes for text, whatever a person or a robot wrote."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
