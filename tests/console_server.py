"""A console in a thread of the test's process."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from nearer.console.server import ConsoleServer


@contextmanager
def console(run: Path, port: int = 0, num_robots: int = 2) -> Generator[tuple[ConsoleServer, int]]:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    port = listener.getsockname()[1]
    server = ConsoleServer(run, (f"127.0.0.1:{port}",), num_robots=num_robots)
    settings = uvicorn.Config(server.app, log_level="error", timeout_graceful_shutdown=1)
    running = uvicorn.Server(settings)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield server, port
    finally:
        running.should_exit = True
        thread.join(20)
        listener.close()
