"""benchmarks/hostile.py in short: hostile input finds no fault; what is at fault is counted."""

import importlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from nearer.core.errors import ConfigError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OF_MINE = ("hostile", "hostile_attempts", "hostile_datasets", "hostile_flags", "hostile_runs")


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("hostile")
    for name in (*OF_MINE, "mutations"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("kind", "cases"), [("flags", 120), ("runs", 32), ("weights", 10), ("datasets", 40)]
)
def test_hostile_input_of_a_kind_finds_no_fault(
    kind: str, cases: int, hostile: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = hostile.hostile([kind], round(cases / hostile.SHARES[kind]), 11, tmp_path)
    assert capsys.readouterr().err == ""
    assert found == {
        "cases": cases,
        "tracebacks": 0,
        "hangs": 0,
        "over_memory": 0,
        f"{kind}_cases": cases,
    }


def test_hostile_files_are_damaged_and_the_originals_stay(
    hostile: ModuleType, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in hostile.SAMPLES[0].rglob("*") if path.is_file()}
    hostile.damage_datasets(hostile.SAMPLES, 4, 0, tmp_path / "scratch")
    assert before == {path: path.read_bytes() for path in before}
    mutations = importlib.import_module("mutations").mutations
    numpy = importlib.import_module("numpy")
    draws = [mutations(b'{"a": [1, 2]}', numpy.random.default_rng(3)) for _ in range(2)]
    first, second = ([next(draw) for _ in range(30)] for draw in draws)
    assert first == second
    assert len(set(first)) > 15


def test_attempts_tell_sentences_from_tracebacks_hangs_and_growth(
    hostile: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = hostile.Attempts()

    def refuse() -> None:
        raise ConfigError("a must be b, got c; mend it")

    def fail() -> None:
        raise KeyError("a")

    def leave_in_silence() -> None:
        sys.exit(1)

    attempts.call("sentence", refuse)
    attempts.command("usage", ["eval", "--no-such-flag"])
    attempts.command("refusal", ["eval", "--checkpoint", "nowhere", "--env", "zzz"])
    assert attempts.counts() == {"cases": 3, "tracebacks": 0, "hangs": 0, "over_memory": 0}
    attempts.call("error", fail)
    attempts.refusal("silence", leave_in_silence)
    assert attempts.tracebacks == 2
    limits = importlib.import_module("hostile_attempts")
    monkeypatch.setattr(limits, "LONGEST_S", 1)
    monkeypatch.setattr(limits, "MOST_MB", -1.0)
    attempts.call("slow", lambda: time.sleep(3))
    assert (attempts.hangs, attempts.over_memory) == (1, 1)
    assert attempts.faults[0].startswith("error: KeyError at test_hostile.py:")
