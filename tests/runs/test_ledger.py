"""The ledger: append-only, idempotent, exported as CSV that no spreadsheet runs."""

import csv
import io
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from nearer.core.errors import NearerError
from nearer.runs.ledger import Entry, Ledger

ENTRY = Entry(
    key="k1",
    at_s=1.5,
    who="operate@127.0.0.1",
    action="stop",
    robot=3,
    episode=None,
    seen="practising, step 4, d 2.5: push the star",
    note="",
)


def test_ledger_keeps_each_click_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.add(ENTRY)
    assert not ledger.add(replace(ENTRY, action="resume"))
    second = replace(ENTRY, key="k2", action="note", robot=None, note="a block fell off")
    assert ledger.add(second)
    again = Ledger(tmp_path / "ledger.sqlite")
    assert again.latest(10) == [second, ENTRY]
    assert again.latest(1) == [second]


@pytest.mark.parametrize("change", ["UPDATE entries SET note = 'x'", "DELETE FROM entries"])
def test_ledger_cannot_be_changed_from_outside(change: str, tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite").add(ENTRY)
    table = sqlite3.connect(tmp_path / "ledger.sqlite")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        table.execute(change)
    table.close()


def test_ledger_as_csv_holds_no_formulas(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.add(replace(ENTRY, note='=HYPERLINK("x"), said "he"'))
    header, row = csv.reader(io.StringIO(ledger.csv()))
    assert header[:3] == ["time_utc", "key", "at_s"]
    assert row[0] == "1970-01-01 00:00:01"
    assert row[-1] == '\'=HYPERLINK("x"), said "he"'


def test_ledger_of_another_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("no table of anything, but long enough to be read")
    with pytest.raises(NearerError, match="must be the console's ledger"):
        Ledger(tmp_path / "ledger.sqlite")
