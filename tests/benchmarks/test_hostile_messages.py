"""benchmarks/hostile_messages.py in short: hostile messages find no fault in the server."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from nearer.serving.msgpack_codec import unpack

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("hostile_messages")


def test_hostile_messages_find_no_traceback_hang_or_growth(hostile: ModuleType) -> None:
    counts = hostile.hostile_messages(cases=300, seed=1)
    assert counts == {"cases": 300, "tracebacks": 0, "hangs": 0, "over_memory": 0}


def test_hostile_message_depends_on_seed_and_case_alone(hostile: ModuleType) -> None:
    _, good = hostile.images_policy()
    messages = [hostile.hostile_message(good, 0, case) for case in range(40)]
    assert messages == [hostile.hostile_message(good, 0, case) for case in range(40)]
    assert len(set(messages)) > 35
    assert unpack(hostile.pack(good))["prompt"] == hostile.INSTRUCTION


def test_hostile_messages_count_what_a_faulty_server_does(
    hostile: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, good = hostile.states_policy()
    respond = policy.respond

    def fail_on_hostile(session: object, message: dict[str, object]) -> object:
        if message.keys() != good.keys():
            raise KeyError("state")
        return respond(session, message)

    monkeypatch.setattr(policy, "respond", fail_on_hostile)
    assert hostile.attack(policy, good, range(40), 0)["tracebacks"] > 3
