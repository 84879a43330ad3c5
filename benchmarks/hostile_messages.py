"""Seeded hostile messages against `nearer serve`: no traceback, no hang, bounded memory.

    python benchmarks/hostile_messages.py [--cases 10000] [--seed 0]

Starts the real server over loopback, twice: for states alone, and for images with other clients'
keys, channels first and resizing. Each case is a good message that was changed: values of other
kinds and sizes, keys that are missing or too many, maps that claim to be arrays, bytes that were
flipped, cut, doubled or made up; as one frame, in fragments, as text, or as raw bytes on the
socket. A case depends on seed and number alone.

Prints one JSON line: `cases`; `tracebacks`: whatever was logged as an error, as the server
logs its own faults; `hangs`: cases without an answer in 5 s; `over_memory`: cases in which the
process grew by more than 100 MB.
"""

import argparse
import json
import logging
import math
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgpack
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.serving.client_format import OWN_FORMAT, ClientFormat, keys_by_name
from nearer.serving.image_resizing import filters_of
from nearer.serving.msgpack_codec import DTYPES, pack, unpack
from nearer.serving.server import Limits, PolicyServer
from nearer.serving.session import ServedPolicy

INSTRUCTION = "push the red moon to the blue cube"
CAMERA = Camera("front", 96, 128)
LIMITS = Limits(
    message_bytes=4_000_000, rate_hz=1e6, robots=8, idle_s=60, answer_s=30, reconnect_s=10
)
LONGEST_S, MOST_MB = 5.0, 100.0
SPECIAL_KEYS = ("request_id", "step", "prompt", "reset", "act", "state", "images", "x" * 4000, "")


def states_policy() -> tuple[ServedPolicy, dict[str, Any]]:
    """Return a policy of states, and a message that it answers."""
    spaces = Spaces(agent_pos=4, environment_state=2, action=2)
    model = new_model("mlp", MLPConfig(hidden=16), spaces, (), 0).eval()
    message = {"observation/state": np.zeros(4, np.float32),
               "observation/environment_state": [0.5, 1.0]}  # fmt: skip
    return ServedPolicy(model, model, 1.0, 0, OWN_FORMAT), message


def images_policy() -> tuple[ServedPolicy, dict[str, Any]]:
    """Return a policy of images for another client's keys, and a message that it answers."""
    spaces = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(CAMERA,))
    settings = SmallVLAConfig(hidden=16)
    model = new_model("small-vla", settings, spaces, (INSTRUCTION,), seed=0).eval()
    renames = [("arm/joint", "agent_pos"), ("gripper", "agent_pos"), ("images/top", CAMERA.name)]
    client = ClientFormat(
        keys=keys_by_name(None, renames, spaces.cameras),
        channels_first=True,
        filters=filters_of(model, spaces.cameras),
    )
    message = {
        "arm": {"joint": np.zeros(1)},
        "gripper": 0.5,
        "images": {"top": np.zeros((3, 48, 64), np.uint8)},
        "prompt": INSTRUCTION,
    }
    return ServedPolicy(model, model, 1.0, 0, client), message


def hostile_message(good: dict[str, Any], seed: int, case: int) -> bytes | str:
    """Return what a faulty or malicious client could send in place of a good message."""
    rng = np.random.default_rng([seed, case])
    kind = rng.integers(20)
    if kind == 0:
        return rng.bytes(int(rng.integers(300)))
    if kind == 1:
        return "".join(map(chr, rng.integers(1, 0xD000, int(rng.integers(2000)))))
    if kind < 5:
        return changed_bytes(pack(good), rng)
    message: dict[Any, Any] = dict(good)
    for _ in range(int(rng.integers(1, 4))):
        change(message, rng)
    try:
        packed: bytes = msgpack.packb(message, default=as_claimed)
    except (ValueError, OverflowError, RecursionError):  # too large or deep for a client, too
        return hostile_message(good, seed, case + 1_000_003)
    return changed_bytes(packed, rng) if kind == 19 else packed


def as_claimed(array: Any) -> dict[bytes, Any]:
    """Return an array of any type, as openpi's client packs it."""
    return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str,
            b"shape": list(array.shape)}  # fmt: skip


def change(message: dict[Any, Any], rng: np.random.Generator) -> None:
    """Change one key of a message."""
    key = list(message)[int(rng.integers(len(message)))] if message else "prompt"
    match int(rng.integers(6)):
        case 0:
            message.pop(key, None)
        case 1:
            message[SPECIAL_KEYS[int(rng.integers(len(SPECIAL_KEYS)))]] = hostile_value(rng)
        case 2:
            message[key] = {"joint": hostile_value(rng), "top": hostile_value(rng)}
        case 3:
            message[rng.bytes(3) if rng.random() < 0.5 else int(rng.integers(9))] = 1
        case _:
            message[key] = hostile_value(rng)


def hostile_value(rng: np.random.Generator) -> Any:
    """Return a value of another kind or size than a model expects."""
    simple: list[Any] = [
        *(None, True, 0, -1, 1 << 63, (1 << 64) - 1, -(1 << 63), math.nan, math.inf, 1e308, 5e-324),
        *("", "x" * 4096, "x" * 5000, "\0\n[bold]", "é" * 900, b"", b"\0" * 1000),
        *([], {}, [[]], [None] * 256, [0] * 257, list(range(4)), [math.nan] * 4, [True] * 4),
        *(msgpack.ExtType(5, b"abc"), msgpack.Timestamp(1), {b"__ndarray__": True}),
        {str(i): [0] * 200 for i in range(200)},
    ]
    kind = rng.random()
    if kind < 0.5:
        return simple[int(rng.integers(len(simple)))]
    if kind < 0.6:
        value: Any = 0
        for _ in range(int(rng.integers(1, 400))):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value
    if kind < 0.7:
        return claimed_array(rng)
    return array_of_any_shape(rng)


def array_of_any_shape(rng: np.random.Generator) -> Any:
    """Return an array of up to five axes; some have none, one or thousands of rows."""
    axes = [int(rng.choice([0, 1, 2, 3, 4, 96, 128, 9000])) for _ in range(rng.integers(6))]
    while math.prod(axes) > 300_000:
        axes.pop()
    dtype = rng.choice([*sorted(DTYPES), ">f8", "<c8", "|S3", "<U2", "<M8[s]"])
    values = rng.integers(0, 255, math.prod(axes)).astype(str if dtype in ("|S3", "<U2") else "u1")
    return values.astype(dtype).reshape(axes)


def claimed_array(rng: np.random.Generator) -> dict[bytes, Any]:
    """Return a map that claims to be an array or a number, with entries that do not fit."""
    shapes: list[Any] = [[1 << 30] * 4, [-1], [1 << 64 - 1], [0, 1 << 30], [2.5], "4", None, [[4]]]
    claimed: dict[bytes, Any] = {
        b"__ndarray__": True,
        b"data": [b"\0" * 16, "text", None, [0] * 16][int(rng.integers(4))],
        b"dtype": ["<f4", "|O", "V8", ">f4", "", None, "<f4,<f4"][int(rng.integers(7))],
        b"shape": shapes[int(rng.integers(len(shapes)))],
    }
    if rng.random() < 0.3:
        del claimed[b"shape"]
        claimed = {b"__npgeneric__": True, **dict(list(claimed.items())[1:])}
    return claimed


def changed_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes of which some were flipped, cut out, doubled or put in."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(len(changed) + 1))
        until = min(len(changed), at + int(rng.integers(1, 12)))
        match int(rng.integers(4)):
            case 0:
                changed[at:until] = rng.bytes(until - at)
            case 1:
                del changed[at:until]
            case 2:
                changed[at:at] = changed[at:until]
            case _:  # headers of msgpack's maps, lists, texts and bytes that claim 4 GB
                header = [b"\xdf", b"\xdd", b"\xdb", b"\xc6", b"\xc9"][int(rng.integers(5))]
                changed[at:at] = header + b"\xff\xff\xff\xff"
    return bytes(changed)


class ErrorCounter(logging.Handler):
    """Counts what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count and print it."""
        self.count += 1
        print(self.format(record))


@contextmanager
def serving(policy: ServedPolicy) -> Iterator[int]:
    """Give the port of a server in a thread of its own."""
    server, ports, ready = PolicyServer(policy, LIMITS, None), [0], threading.Event()

    def note_port(port: int) -> None:
        ports[0] = port
        ready.set()

    thread = threading.Thread(target=server.run, args=("127.0.0.1", 0, note_port))
    thread.start()
    assert ready.wait(60)
    try:
        yield ports[0]
    finally:
        server.stop()
        thread.join()


def connected(port: int, opened: ExitStack) -> ClientConnection:
    """Return a connection that has read the server's metadata, in place of those opened before."""
    opened.close()
    connection = opened.enter_context(connect(f"ws://127.0.0.1:{port}", compression=None))
    connection.recv()
    return connection


def send_raw(port: int, data: bytes, *, after_handshake: bool) -> None:
    """Send bytes that are no frame of a websocket, and leave."""
    handshake = (
        b"GET /?robot=" + data[:9].hex().encode() + b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket"
        b"\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=LONGEST_S) as plain:
        plain.sendall((handshake if after_handshake else b"") + data)


def attack(policy: ServedPolicy, good: dict[str, Any], cases: range, seed: int) -> dict[str, int]:
    """Return what went wrong in these cases, with the server of a policy."""
    counts = {"cases": len(cases), "tracebacks": 0, "hangs": 0, "over_memory": 0}
    errors = ErrorCounter()
    logging.getLogger().addHandler(errors)
    with serving(policy) as port, ExitStack() as opened:
        connection = connected(port, opened)
        for case in cases:
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            message = hostile_message(good, seed, case)
            if case % 50 == 0:
                data = message.encode() if isinstance(message, str) else message
                send_raw(port, data, after_handshake=case % 100 == 0)
            try:
                half = len(message) // 2
                connection.send([message[:half], message[half:]] if case % 7 == 0 else message)
                connection.recv(timeout=LONGEST_S)
            except TimeoutError:
                counts["hangs"] += 1
                connection = connected(port, opened)
            except ConnectionClosed:
                connection = connected(port, opened)
            grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
            counts["over_memory"] += grown_kb > 1000 * MOST_MB
        connection.send(pack(good))
        assert "actions" in unpack(connection.recv(timeout=LONGEST_S)), "the server lives on"
    logging.getLogger().removeHandler(errors)
    counts["tracebacks"] += errors.count
    return counts


def hostile_messages(cases: int, seed: int) -> dict[str, int]:
    """Return what went wrong in so many cases, half of them against each server."""
    half = cases // 2
    states = attack(*states_policy(), range(half), seed)
    images = attack(*images_policy(), range(half, cases), seed)
    return {key: states[key] + images[key] for key in states}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(json.dumps(hostile_messages(arguments.cases, arguments.seed)))
