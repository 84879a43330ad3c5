"""Robots with names: their session after a reconnect, and two of one name."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from nearer.core.errors import MessageError
from nearer.serving import named_sessions
from nearer.serving.named_sessions import name_in
from serving_helpers import (
    INSTRUCTIONS,
    LIMITS,
    OLD_CLIENT,
    image_message,
    mlp,
    named_client,
    observation_with_image,
    served,
    serving,
    small_vla,
    state_message,
)

pytestmark = OLD_CLIENT


@pytest.mark.parametrize(
    ("path", "name"),
    [("/", None), ("/?robot=left-arm_2.b", "left-arm_2.b"), ("/any?a=1&robot=x", "x")],
)
def test_name_in_the_query_of_a_path(path: str, name: str | None) -> None:
    assert name_in(path) == name


@pytest.mark.parametrize(
    "query",
    ["robot=", "robot=a&robot=b", "robot=" + "x" * 41, "robot=a%20b", "robot=%0a", "robot=ü"],
)
def test_name_in_bad_name_is_refused_in_the_length_of_a_close_reason(query: str) -> None:
    with pytest.raises(MessageError, match=r"must be one name of 1 to 40 letters") as refusal:
        name_in("/?" + query)
    assert len(str(refusal.value)) <= 123


def test_reconnect_gets_stream_instruction_and_memory_of_frames_back() -> None:
    model = small_vla()
    policy = served(model)
    alone = policy.new_session(0)
    first = image_message(observation_with_image(0), prompt=INSTRUCTIONS[0])
    later = [image_message(observation_with_image(seed)) for seed in (1, 2)]
    expected = [policy.respond(alone, message) for message in (first, *later)]
    with serving(served(model)) as port:
        with named_client(port, "left") as robot:
            metadata = robot.get_server_metadata()
            assert (metadata["name"], metadata["resumed"]) == ("left", False)
            answers = [robot.infer(first)]
        for message in later:
            with named_client(port, "left") as robot:
                metadata = robot.get_server_metadata()
                assert (metadata["robot"], metadata["resumed"]) == (0, True)
                answers.append(robot.infer(message))
    for answer, wanted in zip(answers, expected, strict=True):
        assert np.array_equal(answer["actions"], wanted.actions)
        assert answer["steps_to_go"] == wanted.steps_to_go


def test_reconnect_under_another_name_or_too_late_starts_anew() -> None:
    known: list[tuple[int, bool]] = []
    with serving(served(mlp()), replace(LIMITS, reconnect_s=0)) as port:
        for name in ("left", "right", "left"):
            with named_client(port, name) as robot:
                metadata = robot.get_server_metadata()
                known.append((metadata["robot"], metadata["resumed"]))
    assert known == [(0, False), (1, False), (2, False)]


def test_two_robots_of_one_name_at_once_get_a_sentence() -> None:
    with serving(served(mlp())) as port, named_client(port, "left") as robot:
        with pytest.raises(ConnectionClosed, match="left is connected already; choose another") as (
            refusal
        ):
            named_client(port, "left").__enter__()
        assert refusal.value.rcvd is not None
        assert refusal.value.rcvd.code == 1008
        assert robot.infer(state_message())["actions"].shape == (1, 2)
        with pytest.raises(ConnectionClosed, match="1 to 40 letters"):
            named_client(port, "left%20arm").__enter__()


@contextmanager
def dead_connection(port: int, name: str) -> Iterator[socket.socket]:
    """Give a connection that was opened, and on which nobody answers any more."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(
            f"GET /?robot={name} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n".encode()
            + b"Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            + b"Sec-WebSocket-Version: 13\r\n\r\n"
        )
        received = b""
        while b"resumed" not in received:  # of the metadata
            received += plain.recv(4096)
        yield plain


def test_robot_whose_old_connection_broke_without_a_word_takes_its_name_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(named_sessions, "_PING_S", 0.05)
    limits = replace(LIMITS, robots=1)
    with (
        serving(served(mlp()), limits) as port,
        dead_connection(port, "left"),
        named_client(port, "left") as robot,
    ):
        assert robot.get_server_metadata()["resumed"]
        assert robot.infer(state_message())["actions"].shape == (1, 2)


def test_sessions_that_are_kept_are_bounded_by_the_number_of_robots() -> None:
    limits = replace(LIMITS, robots=2)
    resumed: list[Any] = []
    with serving(served(mlp()), limits) as port:
        for name in ("a", "b", "c", "c", "a"):
            with named_client(port, name) as robot:
                robot.infer(state_message())
                resumed.append(robot.get_server_metadata()["resumed"])
    assert resumed == [False, False, False, True, False]
