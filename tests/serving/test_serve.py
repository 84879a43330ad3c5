"""Serving: openpi's own client over loopback, equal bytes to practice, hostile messages."""

import os
import re
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from nearer.algorithm.model import FoundationModel, ModelPolicy, inputs_of
from nearer.algorithm.score import steps_to_go_probabilities
from nearer.algorithm.steps_to_go import expected_steps
from nearer.cli import main
from nearer.commands.serve import _token, load_served, run_serve
from nearer.configs.serve import ServeConfig
from nearer.core.action_chunks import Chunking
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.errors import ConfigError, MessageError
from nearer.core.interfaces import Sensed, Starts
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Camera, Spaces
from nearer.fleets.encoded import EncodedFleet
from nearer.models.factory import build_model, new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.runs.checkpoint import load_model, save_checkpoint
from nearer.serving.msgpack_codec import DTYPES, pack, unpack
from nearer.serving.request import read_question
from nearer.serving.server import Limits, PolicyServer
from nearer.serving.session import ServedPolicy
from nearer.testing import CountingFleet

openpi = pytest.importorskip("openpi_client.websocket_client_policy")
msgpack_numpy = pytest.importorskip("openpi_client.msgpack_numpy")

pytestmark = pytest.mark.filterwarnings(
    # openpi's client of 2025, websockets of 2026
    r"ignore:connect\(\) must be used as a context manager:DeprecationWarning"
)

POINT_MASS = Spaces(agent_pos=4, environment_state=2, action=2)
PICTURED = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 96, 128),))
INSTRUCTIONS = ("push the red moon to the blue cube", "move the star near the box")
LIMITS = Limits(message_bytes=1_000_000, rate_hz=10_000, robots=4, idle_s=30)
SEED = 3


def mlp(spaces: Spaces = POINT_MASS, seed: int = 0) -> FoundationModel:
    return new_model("mlp", MLPConfig(hidden=16), spaces, (), seed).eval()


@pytest.fixture(scope="module")
def sees() -> FoundationModel:
    sizes = SmallVLAConfig(hidden=16)
    return new_model("small-vla", sizes, PICTURED, INSTRUCTIONS, seed=0).eval()


def served(model: FoundationModel, threshold: float | None = 1.0) -> ServedPolicy:
    return ServedPolicy(model, model, threshold, SEED)


@contextmanager
def serving(
    policy: ServedPolicy, limits: Limits = LIMITS, token: str | None = None
) -> Iterator[int]:
    """Give the port of a server that runs in a thread of its own."""
    server, ports, ready = PolicyServer(policy, limits, token), [0], threading.Event()

    def tell(port: int) -> None:
        ports[0] = port
        ready.set()

    thread = threading.Thread(target=server.run, args=("127.0.0.1", 0, tell))
    thread.start()
    assert ready.wait(20)
    try:
        yield ports[0]
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def client(port: int, **options: Any) -> Iterator[Any]:
    made = openpi.WebsocketClientPolicy("127.0.0.1", port, **options)
    try:
        yield made
    finally:
        made._ws.close()


@contextmanager
def raw(port: int, **options: Any) -> Iterator[Any]:
    """Give a bare connection that has read the server's metadata."""
    with connect(f"ws://127.0.0.1:{port}", compression=None, **options) as connection:
        connection.recv()
        yield connection


def states(seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "observation/state": draw.normal(size=4).astype(np.float32),
        "observation/environment_state": draw.normal(size=2).astype(np.float32),
    }


def observed(message: dict[str, Any]) -> EncodedObservation:
    state, goal = message["observation/state"], message["observation/environment_state"]
    return EncodedObservation.without_features(
        Observation(agent_pos=state[None], environment_state=goal[None])
    )


def test_a_client_gets_what_the_policy_would_choose_with_the_same_seed() -> None:
    model = mlp()
    rngs = generator(Purpose.SERVING, SEED, 0)
    with serving(served(model)) as port, client(port) as robot:
        metadata = robot.get_server_metadata()
        assert (metadata["action"], metadata["chunk"], metadata["robot"]) == (2, 1, 0)
        for step in range(5):
            answer = robot.infer(states(step))
            seen = observed(states(step))
            expected = ModelPolicy(model).act(seen, [""], np.arange(1), [rngs])
            assert answer["actions"].dtype == np.float32
            assert np.array_equal(answer["actions"], expected.actions)
            assert answer["log_prob"] == expected.log_prob[0]
            d = expected_steps(steps_to_go_probabilities(model, inputs_of(seen, [""])), model.bins)
            assert answer["steps_to_go"] == d.item()
            assert answer["done"] == (d.item() <= 1.0)
            assert answer["steps_to_go_std"] > 0
            assert answer["policy_timing"]["infer_ms"] <= answer["server_timing"]["infer_ms"]
        assert "prev_total_ms" in answer["server_timing"]


class OneRobot(CountingFleet):
    """A fleet that shows given pictures, so that practice and serving see the same."""

    def __init__(self, observations: list[Observation]) -> None:
        super().__init__(1, goal_steps=9)
        self._left = iter(observations)

    def reset(self, robots: Any, seeds: Any) -> Starts:
        return Starts(observation=next(self._left), instructions=[INSTRUCTIONS[0]])

    def step(self, robots: Any, actions: Any) -> Sensed:
        return Sensed(observation=next(self._left), env_ended=np.zeros(1, bool))


def pictured(seed: int) -> Observation:
    draw = np.random.default_rng(seed)
    return Observation(
        agent_pos=draw.normal(size=(1, 2)).astype(np.float32),
        environment_state=np.zeros((1, 0), np.float32),
        images={"front": draw.integers(0, 255, (1, 96, 128, 3), dtype=np.uint8)},
    )


def asked(observation: Observation, **more: Any) -> dict[str, Any]:
    return {
        "observation.state": observation.agent_pos[0],
        "observation.images.front": observation.images["front"][0],
        **more,
    }


def practised(model: FoundationModel, shown: list[Observation], draw: Any) -> list[Any]:
    """Return actions as practice chooses them: every frame is looked at, and followed."""
    fleet, robots = EncodedFleet(OneRobot(shown), model.vision_encoder), np.arange(1)
    sensed = fleet.reset(robots, [0])
    found = []
    for _ in shown[1:]:
        decision = ModelPolicy(model).act(sensed.observation, [INSTRUCTIONS[0]], robots, [draw])
        found.append(decision.actions)
        sensed = fleet.step(robots, decision.actions)
    decision = ModelPolicy(model).act(sensed.observation, [INSTRUCTIONS[0]], robots, [draw])
    return [*found, decision.actions]


def test_pictures_are_followed_as_in_practice_and_forgotten_at_a_reset(
    sees: FoundationModel,
) -> None:
    shown = [pictured(seed) for seed in range(3)]
    draw = generator(Purpose.SERVING, SEED, 0)
    expected = practised(sees, shown, draw) + practised(sees, shown[1:], draw)
    with serving(served(sees)) as port, client(port) as robot:
        found = [
            robot.infer(asked(shown[0], prompt=INSTRUCTIONS[0]))["actions"],
            robot.infer(asked(shown[1]))["actions"],
            robot.infer(asked(shown[2], prompt=INSTRUCTIONS[0]))["actions"],
            robot.infer(asked(shown[1], reset=True))["actions"],
            robot.infer(asked(shown[2]))["actions"],
        ]
    assert np.array_equal(np.stack(found), np.stack(expected))


def test_a_new_instruction_starts_anew(sees: FoundationModel) -> None:
    policy = served(sees)
    one, other = policy.robot(0), policy.robot(1)
    policy.answer(one, asked(pictured(0), prompt=INSTRUCTIONS[0]))
    changed = policy.answer(one, asked(pictured(1), prompt=INSTRUCTIONS[1]))
    fresh = policy.answer(other, asked(pictured(1), prompt=INSTRUCTIONS[1]))
    assert changed["steps_to_go"] == fresh["steps_to_go"]


def test_who_is_only_looked_at_draws_nothing(sees: FoundationModel) -> None:
    policy = served(sees)
    robot = policy.robot(0)
    before = robot.agent.rng.bit_generator.state
    answer = policy.answer(robot, asked(pictured(0), prompt=INSTRUCTIONS[0], act=False))
    assert "actions" not in answer
    assert answer["steps_to_go"] >= 0
    assert robot.agent.rng.bit_generator.state == before


def test_chunks_come_as_control_steps() -> None:
    spaces = replace(POINT_MASS, agent_pos=2, action=2).in_chunks(Chunking(chunk=3, relative=True))
    model = mlp(spaces)
    policy = ServedPolicy(model, model, 2.0, SEED)
    robot = policy.robot(0)
    message = {"observation.state": [5.0, -5.0], "observation.environment_state": [0.0, 1.0]}
    answer = policy.answer(robot, message)
    assert answer["actions"].shape == (3, 2)
    seen = EncodedObservation.without_features(
        Observation(
            agent_pos=np.array([[5, -5]], np.float32),
            environment_state=np.array([[0, 1]], np.float32),
        )
    )
    draw = generator(Purpose.SERVING, SEED, 0)
    decided = ModelPolicy(model).act(seen, [""], np.arange(1), [draw]).actions
    assert np.array_equal(answer["actions"], decided.reshape(3, 2) + seen.agent_pos)
    d = expected_steps(steps_to_go_probabilities(model, inputs_of(seen, [""])), model.bins).item()
    assert answer["steps_to_go"] == pytest.approx(3 * d)
    assert policy.metadata(robot)["threshold_steps"] == 6.0


def test_robots_at_once_keep_their_own_chance_and_memory() -> None:
    model = mlp()
    answers: dict[int, list[Any]] = {}
    with serving(served(model)) as port, ExitStack() as open_robots:
        robots = [open_robots.enter_context(client(port)) for _ in range(3)]

        def drive(robot: Any) -> None:
            number = robot.get_server_metadata()["robot"]
            answers[number] = [robot.infer(states(step))["actions"] for step in range(20)]

        threads = [threading.Thread(target=drive, args=(robot,)) for robot in robots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(answers) == [0, 1, 2]
    for number, found in answers.items():
        policy = served(model)
        alone = policy.robot(number)
        expected = [policy.answer(alone, states(step))["actions"] for step in range(20)]
        assert np.array_equal(np.stack(found), np.stack(expected))
    assert not np.array_equal(answers[0], answers[1])


def test_only_who_has_the_token_is_let_in() -> None:
    token = "a-token-of-some-length"
    with serving(served(mlp()), token=token) as port:
        with client(port, api_key=token) as robot:
            assert robot.infer(states())["actions"].shape == (1, 2)
        for wrong in (None, "another-token-of-length", token + "x", "ü"):
            with pytest.raises((InvalidStatus, UnicodeEncodeError)) as refused:
                openpi.WebsocketClientPolicy("127.0.0.1", port, api_key=wrong)
            if isinstance(refused.value, InvalidStatus):
                assert refused.value.response.status_code == 401
                assert b"Api-Key TOKEN" in (refused.value.response.body or b"")
                assert token.encode() not in (refused.value.response.body or b"")


def test_a_header_of_any_bytes_is_no_token() -> None:
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


def test_health_is_told_without_a_token_and_no_browser_page_is_let_in() -> None:
    with serving(served(mlp()), token="a-token-of-some-length") as port:
        with pytest.raises(InvalidStatus) as told:
            connect(f"ws://127.0.0.1:{port}/healthz")
        assert (told.value.response.status_code, told.value.response.body) == (200, b"OK\n")
    with serving(served(mlp())) as port, pytest.raises(InvalidHandshake):
        connect(f"ws://127.0.0.1:{port}", origin="http://a.page")  # type: ignore[arg-type]


def test_wrong_observations_are_answered_by_a_sentence_and_the_robot_goes_on(
    sees: FoundationModel,
) -> None:
    good = asked(pictured(0), prompt=INSTRUCTIONS[0])
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
    with serving(served(sees)) as port, client(port) as robot:
        with pytest.raises(RuntimeError, match="must come with prompt"):
            robot.infer(asked(pictured(0)))
        for name, cases in wrong.items():
            for value, sentence in cases:
                with pytest.raises(RuntimeError, match=sentence) as refused:
                    robot.infer(good | {name: value})
                assert "Traceback" not in str(refused.value)
        with pytest.raises(RuntimeError, match=r"must have the picture observation\.images\.front"):
            robot.infer({"observation/state": np.zeros(2), "observation/images/back": small})
        assert robot.infer(good)["actions"].shape == (1, 2)


def bomb(depth: int) -> bytes:
    return b"\x91" * depth + b"\xc0"


def array(data: object, dtype: object, shape: object, **more: object) -> bytes:
    pairs = {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}
    return msgpack.packb({"x": pairs | {key.encode(): value for key, value in more.items()}})


HOSTILE = {
    "object dtype": (array(b"\0" * 8, "|O", [1]), "dtype of an array must be one of"),
    "void dtype": (array(b"\0" * 8, "V8", [1]), "dtype"),
    "structured dtype": (array(b"\0" * 8, [["a", "<f4"]], [2]), "dtype"),
    "foreign byte order": (array(b"\0" * 8, ">f8", [1]), "dtype"),
    "shape beyond the bytes": (array(b"\0" * 8, "<f4", [1 << 30]), "must come with 4294967296"),
    "shape that overflows": (array(b"\0" * 8, "<f4", [1 << 30] * 4), "must come with"),
    "negative shape": (array(b"\0" * 8, "<f4", [-2]), "shape of an array"),
    "shape of truth": (array(b"\0" * 4, "<f4", [True]), "shape of an array"),
    "too many axes": (array(b"\0" * 4, "<f4", [1] * 5), "shape of an array"),
    "shape no list": (array(b"\0" * 4, "<f4", 1), "shape of an array"),
    "text as data": (array("abcd", "<f4", [1]), "must come with 4 bytes, got str"),
    "number out of range": (
        msgpack.packb({"x": {b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}}),
        "must fit uint8",
    ),
    "extension": (msgpack.packb({"x": msgpack.ExtType(5, b"abc")}), "must be msgpack, got"),
    "empty extension": (b"\x81\xa1x\xc7\x00\x05", "extension"),
    "timestamp": (msgpack.packb({"x": msgpack.Timestamp(1)}), "must be msgpack|extension"),
    "depth": (bomb(100_000), "must be msgpack"),
    "long list": (msgpack.packb({"x": list(range(257))}), "must be msgpack, got: 257"),
    "many values": (
        msgpack.packb({f"{i}": [[0] * 250] * 2 for i in range(140)}), "at most 65536 values"
    ),
    "long text": (msgpack.packb({"prompt": "x" * 5000}), "must be msgpack, got: 5000"),
    "no map": (msgpack.packb([1, 2]), "must be a map"),
    "array as message": (msgpack.packb(msgpack.unpackb(array(b"", "<f4", [0]))["x"]), "a map"),
    "names of bytes": (msgpack.packb({b"x": 1}), "names in a message must be text"),
    "number as name": (msgpack.packb({1: 1}), "must be msgpack"),
    "cut short": (pack(states())[:-3], "must be msgpack"),
    "more behind": (pack(states()) + b"\x00", "must be msgpack"),
    "claims a huge list": (b"\xdd\xff\xff\xff\xff", "must be msgpack"),
    "no utf-8": (b"\x81\xa1x\xa1\xff", "must be msgpack"),
    "nothing": (b"", "must be msgpack"),
    "noise": (bytes(range(256)), "must be"),
}  # fmt: skip


def test_hostile_messages_are_answered_by_a_sentence() -> None:
    with serving(served(mlp())) as port, raw(port) as connection:
        for name, (message, sentence) in HOSTILE.items():
            connection.send(message)
            answer = connection.recv()
            assert isinstance(answer, str), name
            assert len(answer) < 600, name
            with pytest.raises(MessageError, match=sentence):
                unpack(message)
        connection.send("observation")
        assert "must be msgpack in a binary frame" in connection.recv()
        connection.send(pack(states()))
        assert unpack(connection.recv())["actions"].shape == (1, 2)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_get_a_sentence(data: bytes) -> None:
    with pytest.raises(MessageError, match=" must "):
        read_question(unpack(data), POINT_MASS, ())


@settings(deadline=None, max_examples=50)
@given(
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 3), max_size=4),
    st.floats(-100, 100) | st.booleans() | st.integers(-100, 100) | st.text(max_size=20),
)
def test_both_sides_read_what_the_other_packs(dtype: str, shape: list[int], value: Any) -> None:
    values = np.array(np.arange(np.prod(shape, dtype=int)).reshape(shape) % 2, dtype=dtype)
    message = {"x": values, "nested": {"y": value}}
    for written, read in (
        (pack(message), msgpack_numpy.unpackb),
        (msgpack_numpy.packb(message), unpack),
    ):
        found = read(written)
        assert found["x"].dtype == values.dtype
        assert np.array_equal(found["x"], values)
        assert found["nested"] == {"y": value}
    assert unpack(msgpack_numpy.packb({"x": np.float32(0.5)})) == {"x": 0.5}


def test_what_is_too_large_too_much_or_too_silent_is_turned_away() -> None:
    limits = Limits(message_bytes=10_000, rate_hz=1000, robots=1, idle_s=0.5)
    with serving(served(mlp()), limits) as port:
        with raw(port) as connection:
            connection.send(b"\0" * 20_000)
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        with client(port) as first:
            with pytest.raises(ConnectionClosed, match="at most 1 robots at a time"):
                openpi.WebsocketClientPolicy("127.0.0.1", port)
            assert first.infer(states())["actions"].shape == (1, 2)
            with pytest.raises(ConnectionClosed, match=r"no message for 0\.5 s"):
                first._ws.recv()
        with client(port) as later:
            assert later.get_server_metadata()["robot"] == 2


def test_who_asks_too_fast_waits() -> None:
    with serving(served(mlp()), replace(LIMITS, rate_hz=20)) as port, client(port) as robot:
        started = time.perf_counter()
        waited = [robot.infer(states())["server_timing"]["wait_ms"] for _ in range(6)]
        assert time.perf_counter() - started >= 5 / 20
    assert max(waited[1:]) > 10


def test_a_server_that_stops_tells_its_robots_so() -> None:
    with ExitStack() as later:
        with serving(served(mlp())) as port:
            robot = later.enter_context(client(port))
        with pytest.raises(ConnectionClosed) as closed:
            robot.infer(states())
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001


def test_a_failure_of_the_server_shows_no_trace_of_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    policy = served(mlp())

    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(ServedPolicy, "answer", fail)
    with serving(policy) as port, client(port) as robot:
        with pytest.raises(ConnectionClosed) as closed:
            robot.infer(states())
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
        assert "secret" not in closed.value.rcvd.reason
    assert "secret" in caplog.text


def test_beyond_this_machine_a_token_is_needed() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "a.name"):
        with pytest.raises(ConfigError, match="--host must be an address of this machine alone"):
            ServeConfig(checkpoint=Path("run"), host=host)
        ServeConfig(checkpoint=Path("run"), host=host, token_file=Path("token"))
    for host in ("127.0.0.1", "::1", "localhost"):
        ServeConfig(checkpoint=Path("run"), host=host)


def test_a_token_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "new" / "token"
    token = _token(path, told.append)
    assert token is not None
    assert len(token) >= 32
    assert [line.endswith(token) for line in told] == [True]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _token(path, told.append) == token
    assert len(told) == 1
    for bad in ("short", "with blanks in the middle", "ü" * 20, ""):
        path.write_text(bad)
        with pytest.raises(ConfigError, match="--token-file must") as refused:
            _token(path, told.append)
        assert not bad or bad not in str(refused.value)
    with pytest.raises(ConfigError, match="--token-file must be a file"):
        _token(tmp_path, told.append)


def test_a_run_is_served_with_its_reward_and_threshold(stage_one: Path, tmp_path: Path) -> None:
    run = stage_one / "sft"
    policy, judging = load_served(ServeConfig(checkpoint=run))
    reward = load_model(run, build_model, "reward")
    for found, expected in zip(judging.model.parameters(), reward.parameters(), strict=True):
        assert torch.equal(found, expected)
    assert judging.threshold_steps is not None
    assert load_served(ServeConfig(checkpoint=run, threshold=7.0))[1].threshold_steps == 7.0
    assert policy.spaces.action == 2
    save_checkpoint(tmp_path / "000001", mlp(), None)
    alone, termination = load_served(ServeConfig(checkpoint=tmp_path / "000001"))
    assert alone is termination.model
    assert termination.threshold_steps is None
    other = mlp(replace(POINT_MASS, agent_pos=7))
    save_checkpoint(tmp_path / "000002", other, None)
    with pytest.raises(ConfigError, match="--reward must read what the policy reads"):
        load_served(ServeConfig(checkpoint=run, reward=tmp_path / "000002"))


def test_the_command_serves_until_ctrl_c(stage_one: Path) -> None:
    told: list[str] = []
    answers: list[Any] = []

    def drive(port: int) -> None:
        with client(port) as robot:
            answers.append(robot.infer(states()))
        os.kill(os.getpid(), signal.SIGINT)

    def tell(line: str) -> None:
        told.append(line)
        if found := re.search(r"ws://127\.0\.0\.1:(\d+), Ctrl-C", line):
            threading.Thread(target=drive, args=(int(found[1]),)).start()

    run_serve(ServeConfig(checkpoint=stage_one / "sft", port=0), tell)
    assert answers[0]["actions"].shape == (1, 2)
    assert "done" in answers[0]
    assert told[-1].startswith("stopped")


def test_who_lacks_the_extra_is_told_the_command(
    stage_one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nearer.serving.server", None)
    with pytest.raises(SystemExit):
        main(["serve", "--checkpoint", str(stage_one / "sft")])
    assert "pip install 'nearer[serve]'" in capsys.readouterr().err


def test_a_port_that_is_taken_is_a_sentence() -> None:
    with serving(served(mlp())) as port:
        again = PolicyServer(served(mlp()), LIMITS, None)
        with pytest.raises(ConfigError, match="--host and --port must be an address that is free"):
            again.run("127.0.0.1", port, lambda _: None)
