"""Servers, clients and messages for tests of `nearer serve`."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from nearer.algorithm.model import FoundationModel
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.serving.server import Limits, PolicyServer
from nearer.serving.session import ServedPolicy

POINT_MASS = Spaces(agent_pos=4, environment_state=2, action=2)
WITH_CAMERA = Spaces(
    agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 96, 128),)
)
INSTRUCTIONS = ("push the red moon to the blue cube", "move the star near the box")
LIMITS = Limits(
    message_bytes=1_000_000, rate_hz=10_000, robots=4, idle_s=30, answer_s=20, reconnect_s=20
)
SEED = 3
OLD_CLIENT = pytest.mark.filterwarnings(
    # openpi's client of 2025, websockets of 2026
    r"ignore:connect\(\) must be used as a context manager:DeprecationWarning"
)


def mlp(spaces: Spaces = POINT_MASS, seed: int = 0) -> FoundationModel:
    return new_model("mlp", MLPConfig(hidden=16), spaces, (), seed).eval()


def small_vla() -> FoundationModel:
    return new_model(
        "small-vla", SmallVLAConfig(hidden=16), WITH_CAMERA, INSTRUCTIONS, seed=0
    ).eval()


def served(model: FoundationModel, threshold: float | None = 1.0) -> ServedPolicy:
    return ServedPolicy(model, model, threshold, SEED)


@contextmanager
def serving(
    policy: ServedPolicy, limits: Limits = LIMITS, token: str | None = None
) -> Iterator[int]:
    """Give the port of a server that runs in a thread of its own."""
    server, ports, ready = PolicyServer(policy, limits, token), [0], threading.Event()

    def note_port(port: int) -> None:
        ports[0] = port
        ready.set()

    thread = threading.Thread(target=server.run, args=("127.0.0.1", 0, note_port))
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
    """Give openpi's own client."""
    openpi = pytest.importorskip("openpi_client.websocket_client_policy")
    policy = openpi.WebsocketClientPolicy("127.0.0.1", port, **options)
    try:
        yield policy
    finally:
        policy._ws.close()  # it has no method for this


@contextmanager
def named_client(port: int, name: str) -> Iterator[Any]:
    """Give openpi's own client of a robot that names itself."""
    openpi = pytest.importorskip("openpi_client.websocket_client_policy")
    policy = openpi.WebsocketClientPolicy(f"ws://127.0.0.1:{port}/?robot={name}")
    try:
        yield policy
    finally:
        policy._ws.close()


@contextmanager
def bare_connection(port: int, **options: Any) -> Iterator[Any]:
    """Give a websocket that has read the server's metadata."""
    with connect(f"ws://127.0.0.1:{port}", compression=None, **options) as connection:
        connection.recv()
        yield connection


def state_message(seed: int = 0) -> dict[str, Any]:
    """Return a message of a point mass."""
    rng = np.random.default_rng(seed)
    return {
        "observation/state": rng.normal(size=4).astype(np.float32),
        "observation/environment_state": rng.normal(size=2).astype(np.float32),
    }


def observation_of(message: dict[str, Any]) -> EncodedObservation:
    state, goal = message["observation/state"], message["observation/environment_state"]
    return EncodedObservation.without_features(
        Observation(agent_pos=state[None], environment_state=goal[None])
    )


def observation_with_image(seed: int) -> Observation:
    rng = np.random.default_rng(seed)
    return Observation(
        agent_pos=rng.normal(size=(1, 2)).astype(np.float32),
        environment_state=np.zeros((1, 0), np.float32),
        images={"front": rng.integers(0, 255, (1, 96, 128, 3), dtype=np.uint8)},
    )


def image_message(observation: Observation, **more: Any) -> dict[str, Any]:
    return {
        "observation.state": observation.agent_pos[0],
        "observation.images.front": observation.images["front"][0],
        **more,
    }
