"""The server: openpi's own client over loopback, tokens, limits, failures."""

import socket
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from nearer.algorithm.model import ModelPolicy, inputs_of
from nearer.algorithm.score import steps_to_go_probabilities
from nearer.algorithm.steps_to_go import expected_steps
from nearer.core.errors import ConfigError
from nearer.core.seeds import Purpose, generator
from nearer.serving.msgpack_codec import pack, unpack
from nearer.serving.response import ActResponse
from nearer.serving.server import PolicyServer
from nearer.serving.session import RobotSession, ServedPolicy
from serving_helpers import (
    INSTRUCTIONS,
    LIMITS,
    OLD_CLIENT,
    SEED,
    bare_connection,
    client,
    image_message,
    mlp,
    observation_of,
    observation_with_image,
    served,
    serving,
    small_vla,
    state_message,
)

openpi = pytest.importorskip("openpi_client.websocket_client_policy")

pytestmark = OLD_CLIENT


def test_server_client_gets_the_actions_that_the_policy_samples() -> None:
    model = mlp()
    rngs = generator(Purpose.SERVING, SEED, 0)
    with serving(served(model)) as port, client(port) as robot:
        metadata = robot.get_server_metadata()
        assert (metadata["action"], metadata["chunk"], metadata["robot"]) == (2, 1, 0)
        for step in range(5):
            response = robot.infer(state_message(step))
            observation = observation_of(state_message(step))
            expected = ModelPolicy(model).act(observation, [""], np.arange(1), [rngs])
            assert response["actions"].dtype == np.float32
            assert np.array_equal(response["actions"], expected.actions)
            assert response["log_prob"] == expected.log_prob[0]
            d = expected_steps(
                steps_to_go_probabilities(model, inputs_of(observation, [""])), model.bins
            )
            assert response["steps_to_go"] == d.item()
            assert response["done"] == (d.item() <= 1.0)
            assert response["steps_to_go_std"] > 0
            assert response["policy_timing"]["infer_ms"] <= response["server_timing"]["infer_ms"]
        assert "prev_total_ms" in response["server_timing"]


def test_server_parallel_robots_have_random_streams_of_their_own() -> None:
    model = mlp()
    responses: dict[int, list[Any]] = {}
    with serving(served(model)) as port, ExitStack() as open_robots:
        robots = [open_robots.enter_context(client(port)) for _ in range(3)]

        def drive(robot: Any) -> None:
            number = robot.get_server_metadata()["robot"]
            responses[number] = [robot.infer(state_message(step))["actions"] for step in range(20)]

        threads = [threading.Thread(target=drive, args=(robot,)) for robot in robots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(responses) == [0, 1, 2]
    for number, actions in responses.items():
        policy = served(model)
        alone = policy.new_session(number)
        expected = [policy.respond(alone, state_message(step)).actions for step in range(20)]
        assert np.array_equal(np.stack(actions), np.stack(expected))
    assert not np.array_equal(responses[0], responses[1])


def test_server_connection_without_the_token_is_refused() -> None:
    token = "a-token-of-some-length"
    with serving(served(mlp()), token=token) as port:
        with client(port, api_key=token) as robot:
            assert robot.infer(state_message())["actions"].shape == (1, 2)
        for wrong in (None, "another-token-of-length", token + "x", "ü"):
            with pytest.raises((InvalidStatus, UnicodeEncodeError)) as refusal:
                openpi.WebsocketClientPolicy("127.0.0.1", port, api_key=wrong)
            if isinstance(refusal.value, InvalidStatus):
                assert refusal.value.response.status_code == 401
                assert b"Api-Key TOKEN" in (refusal.value.response.body or b"")
                assert token.encode() not in (refusal.value.response.body or b"")


def test_server_header_of_other_bytes_is_refused() -> None:
    with serving(served(mlp()), token="a-token-of-some-length") as port:
        for value in (
            b"Api-Key \xff\xfe",
            b"Api-Key " + b"x" * 7000,
            b"",
            b"Api-Key a\r\nAuthorization: b",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                plain.sendall(
                    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                    b"Authorization: " + value + b"\r\n\r\n"
                )
                assert plain.recv(4096).startswith(b"HTTP/1.1 401 Unauthorized")


def test_server_health_needs_no_token_and_browsers_are_refused() -> None:
    with serving(served(mlp()), token="a-token-of-some-length") as port:
        with pytest.raises(InvalidStatus) as health:
            connect(f"ws://127.0.0.1:{port}/healthz")
        assert (health.value.response.status_code, health.value.response.body) == (200, b"OK\n")
    with serving(served(mlp())) as port, pytest.raises(InvalidHandshake):
        connect(f"ws://127.0.0.1:{port}", origin="http://a.page")  # type: ignore[arg-type]


def test_server_wrong_observation_is_refused_and_the_connection_goes_on() -> None:
    good = image_message(observation_with_image(0), prompt=INSTRUCTIONS[0])
    small = np.zeros((48, 64, 3), np.uint8)
    wrong = {
        "observation.state": [
            (np.zeros(3, np.float32), r"observation.state must be 2 numbers.*shape \(3,\)"),
            (np.array([0, np.nan], np.float32), "observation.state must be finite, got nan"),
            ("x", "observation.state must be 2 numbers"),
        ],
        "observation.images.front": [
            (small, r"uint8 RGB of 96 x 128 x 3.*shape \(48, 64, 3\)"),
            (np.zeros((96, 128, 3), np.float32), "got float32"),
        ],
        "observation.environment_state": [(np.zeros(1), "must be 0 numbers")],
        "prompt": [(7, "prompt must be the instruction"), ("eat the moon", r"\['eat'\]")],
        "reset": [(1, "reset must be true or false")],
    }
    with serving(served(small_vla())) as port, client(port) as robot:
        with pytest.raises(RuntimeError, match="must come with prompt"):
            robot.infer(image_message(observation_with_image(0)))
        for name, cases in wrong.items():
            for value, sentence in cases:
                with pytest.raises(RuntimeError, match=sentence) as refusal:
                    robot.infer(good | {name: value})
                assert "Traceback" not in str(refusal.value)
        with pytest.raises(RuntimeError, match=r"must have the image observation\.images\.front"):
            robot.infer({"observation/state": np.zeros(2), "observation/images/back": small})
        assert robot.infer(good)["actions"].shape == (1, 2)


def test_server_connection_beyond_a_limit_is_closed() -> None:
    limits = replace(LIMITS, message_bytes=10_000, robots=1, idle_s=0.5)
    with serving(served(mlp()), limits) as port:
        with bare_connection(port) as connection:
            connection.send(b"\0" * 20_000)
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        with client(port) as first:
            with pytest.raises(ConnectionClosed, match="at most 1 robots at a time"):
                openpi.WebsocketClientPolicy("127.0.0.1", port)
            assert first.infer(state_message())["actions"].shape == (1, 2)
        idle_too_long = pytest.raises(ConnectionClosed, match=r"no message for 0\.5 s")
        with bare_connection(port) as idle, idle_too_long:
            idle.recv()
        with client(port) as later:
            assert later.get_server_metadata()["robot"] == 3


def test_server_messages_beyond_the_rate_wait() -> None:
    with serving(served(mlp()), replace(LIMITS, rate_hz=20)) as port, client(port) as robot:
        started = time.perf_counter()
        waited = [robot.infer(state_message())["server_timing"]["wait_ms"] for _ in range(6)]
        assert time.perf_counter() - started >= 5 / 20
    assert max(waited[1:]) > 10


def test_server_stop_closes_connections_as_going_away() -> None:
    with ExitStack() as later:
        with serving(served(mlp())) as port:
            robot = later.enter_context(client(port))
        with pytest.raises(ConnectionClosed) as closed:
            robot.infer(state_message())
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


def test_server_answers_and_sentences_repeat_the_marks_of_a_request() -> None:
    with serving(served(mlp())) as port, client(port) as robot:
        answer = robot.infer({**state_message(), "request_id": "a7", "step": np.int64(12)})
        assert (answer["request_id"], answer["step"]) == ("a7", 12)
        assert not {"request_id", "step"} & robot.infer(state_message()).keys()
        with pytest.raises(RuntimeError, match="request_id 8: an observation must have"):
            robot.infer({"request_id": 8})
        with pytest.raises(RuntimeError, match="step must be a whole number"):
            robot.infer({**state_message(), "step": 0.5})


class SlowPolicy(ServedPolicy):
    """A policy that answers the request with id "slow" only when it may."""

    def __init__(self) -> None:
        super().__init__(model := mlp(), model, 1.0, SEED)
        self.begun, self.may_answer = threading.Event(), threading.Event()
        self.steps: list[object] = []

    def respond(self, session: RobotSession, message: Mapping[str, object]) -> ActResponse:
        self.steps.append(message.get("step"))
        if message.get("request_id") == "slow":
            self.begun.set()
            assert self.may_answer.wait(20)
            if "fail" in message:
                raise RuntimeError("the weights are on fire")
        return super().respond(session, message)


def test_server_slow_answer_keeps_nobody_waiting_longer_than_the_limit() -> None:
    policy = SlowPolicy()
    limits = replace(LIMITS, answer_s=0.2)
    with (
        serving(policy, limits) as port,
        bare_connection(port) as slow,
        bare_connection(port) as other,
    ):
        slow.send(pack({**state_message(), "request_id": "slow"}))
        assert policy.begun.wait(20)
        other.send(pack({**state_message(), "request_id": "other"}))
        waited = other.recv(timeout=20)
        assert waited.startswith("request_id other: an answer must come within 0.2 s, got none")
        assert "nothing was computed; ask again" in waited
        late = slow.recv(timeout=20)
        assert late.startswith("request_id slow: an answer must come within 0.2 s")
        assert "what they find will not be sent" in late
        policy.may_answer.set()
        for connection in (slow, other):
            connection.send(pack({**state_message(), "request_id": "next"}))
            assert unpack(connection.recv(timeout=20))["request_id"] == "next"


def test_server_computes_nothing_for_a_robot_that_is_gone() -> None:
    policy = SlowPolicy()
    limits = replace(LIMITS, robots=2)
    with serving(policy, limits) as port, bare_connection(port) as slow:
        slow.send(pack({**state_message(), "request_id": "slow"}))
        assert policy.begun.wait(20)
        for number in range(20):  # more than may be connected at a time
            with bare_connection(port) as leaving:
                leaving.send(pack({**state_message(), "step": number}))
        for _ in range(5):  # turns of the server, in which it sees that the last one is gone
            assert slow.ping().wait(20)
        policy.may_answer.set()
        assert unpack(slow.recv(timeout=20))["request_id"] == "slow"
        slow.send(pack(state_message()))
        assert "actions" in unpack(slow.recv(timeout=20))
    assert policy.steps == [None, None]


def test_server_failure_after_its_robot_was_told_to_ask_again_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = SlowPolicy()
    with serving(policy, replace(LIMITS, answer_s=0.1)) as port, bare_connection(port) as robot:
        robot.send(pack({**state_message(), "request_id": "slow", "fail": True}))
        assert "request_id slow" in robot.recv(timeout=20)
        policy.may_answer.set()
        robot.send(pack(state_message()))
        assert "actions" in unpack(robot.recv(timeout=20))
    assert "the weights are on fire" in caplog.text


def test_server_message_in_thousands_of_fragments_is_refused() -> None:
    packed = pack(state_message())
    with serving(served(mlp())) as port, bare_connection(port) as connection:
        connection.send(b"" for _ in range(4097))
        assert connection.recv().startswith("a message must come in at most 4096 fragments, got 4")
        connection.send([packed[:7], packed[7:]])
        assert np.shape(unpack(connection.recv())["actions"]) == (1, 2)


class FailingPolicy(ServedPolicy):
    """A policy that fails in a way that no client may see."""

    def respond(self, session: RobotSession, message: object) -> ActResponse:
        raise RuntimeError("secret")


def test_server_failure_is_logged_and_not_shown_to_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = mlp()
    policy = FailingPolicy(model, model, 1.0, SEED)
    with serving(policy) as port, client(port) as robot:
        with pytest.raises(ConnectionClosed) as closed:
            robot.infer(state_message())
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
        assert "secret" not in closed.value.rcvd.reason
    assert "secret" in caplog.text


def test_server_taken_port_is_refused() -> None:
    with serving(served(mlp())) as port:
        again = PolicyServer(served(mlp()), LIMITS, None)
        with pytest.raises(ConfigError, match="--host and --port must be an address that is free"):
            again.run("127.0.0.1", port, lambda _: None)
