"""Which of torchrun's processes this one is."""

import sys

import pytest

from nearer.algorithm.torchrun import (
    check_alone,
    first_reports,
    is_follower,
    started_as,
    variable,
    world_size,
)
from nearer.core.errors import ConfigError, ReportedElsewhere

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture(autouse=True)
def without_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def start(monkeypatch: pytest.MonkeyPatch, rank: int, size: int, here: int | None = None) -> None:
    """Set the variables as torchrun does."""
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(size))
    if here is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))


def test_process_without_torchrun_is_alone() -> None:
    check_alone()
    assert world_size() == 1
    assert not is_follower()
    assert started_as("sft", "ddp") == "nearer sft"


def test_first_of_several_processes_is_no_follower(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, rank=0, size=4)
    assert not is_follower()
    start(monkeypatch, rank=1, size=4)
    assert is_follower()
    start(monkeypatch, rank=1, size=1)
    assert not is_follower()


def test_check_alone_of_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, rank=1, size=2)
    with pytest.raises(ConfigError) as refused:
        check_alone()
    assert str(refused.value) == (
        "torchrun must start nearer sft or nearer improve, got 2 processes; start this one "
        "without torchrun"
    )


@pytest.mark.parametrize(("here", "processes"), [(None, 4), (2, 2)])
def test_started_as_names_the_processes_of_one_machine(
    monkeypatch: pytest.MonkeyPatch, here: int | None, processes: int
) -> None:
    start(monkeypatch, rank=0, size=4, here=here)
    assert started_as("sft", "fsdp") == (
        f"torchrun --nproc-per-node {processes} -m -- nearer sft --processes fsdp"
    )


@pytest.mark.parametrize(("value", "number"), [("3", 3), ("", 7), ("-1", 7), ("many", 7)])
def test_variable_that_is_no_number_is_the_default(
    monkeypatch: pytest.MonkeyPatch, value: str, number: int
) -> None:
    monkeypatch.setenv("RANK", value)
    assert variable("RANK", 7) == number


def print_and_fail(error: BaseException) -> None:
    with first_reports():
        print("said")
        print("told", file=sys.stderr)
        raise error


def test_first_reports_lets_the_first_process_print_and_fail(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(monkeypatch, rank=0, size=2)
    with pytest.raises(ConfigError, match="wrong"):
        print_and_fail(ConfigError("wrong"))
    assert capsys.readouterr() == ("said\n", "told\n")


@pytest.mark.parametrize("error", [ConfigError("wrong"), SystemExit(2)])
def test_first_reports_silences_a_follower(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start(monkeypatch, rank=1, size=2)
    with pytest.raises(ReportedElsewhere, match="the first process says what is wrong"):
        print_and_fail(error)
    assert capsys.readouterr() == ("", "")


def test_first_reports_lets_a_defect_of_a_follower_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start(monkeypatch, rank=1, size=2)
    with pytest.raises(KeyError), first_reports():
        raise KeyError
