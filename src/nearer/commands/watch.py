"""nearer watch: the console of a run, in the browser."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from rich.console import Console

from nearer.configs.serve import in_url
from nearer.configs.watch import PORT, WatchConfig
from nearer.core.cpu import give_way
from nearer.core.errors import ConfigError
from nearer.runs.documents import read_header

_LOOKS_S = 0.2
_LINES = 3  # that run_watch says before it serves


def main(config: WatchConfig, console: Console) -> None:
    """Show the page until Ctrl-C, and print where it is."""
    run_watch(config, lambda line: console.print(line, soft_wrap=True, markup=False))


def run_watch(config: WatchConfig, tell: Callable[[str], None]) -> None:
    """Show the page until Ctrl-C.

    Args:
        config: settings.
        tell: says to people where the page is.

    Raises:
        ConfigError: there is no such run, the port is taken, or the extra is missing.
    """
    if not (config.run / "run.json").exists():
        raise ConfigError(
            f"{config.run} must be the folder of a run, got none; pass the --out of nearer improve"
        )
    header = read_header(config.run)
    if header.command != "improve":
        raise ConfigError(
            f"{config.run} must be a run of nearer improve, got one of nearer {header.command}; "
            "pass the --out of nearer improve"
        )
    num_robots = header.part(_Fleet, config.run).num_envs
    with _needs_console():
        import uvicorn

        from nearer.console.server import ConsoleServer
    with _listening(config.host, config.port) as listener:
        port: int = listener.getsockname()[1]
        here = tuple(f"{in_url(name)}:{port}" for name in (config.host, "localhost", *config.names))
        server = ConsoleServer(
            config.run, (*here, *config.names), num_robots
        )  # a proxy has another port
        name = in_url(config.names[0] if config.names else config.host)
        tell(f"the console of {config.run}; whoever has a link may use it, Ctrl-C stops it:")
        tell(f"operate  http://{name}:{port}/#token={server.tokens.operate}")
        tell(f"watch    http://{name}:{port}/#token={server.tokens.watch}")
        give_way()  # robots may act on this machine
        # No access log: nothing of what people send is written down but the ledger.
        settings = uvicorn.Config(
            server.app, log_level="warning", access_log=False, timeout_graceful_shutdown=1
        )
        with suppress(KeyboardInterrupt):  # uvicorn has closed everything, and says Ctrl-C again
            uvicorn.Server(settings).run(sockets=[listener])
    tell("the console is closed; robots go on")


@contextmanager
def console_beside(run: Path, tell: Callable[[str], None]) -> Generator[None]:
    """Serve the console of a run in a process of its own, as soon as the run is there.

    Args:
        run: its folder, which the block makes.
        tell: says to people where the page is, or why there is none.
    """
    over = threading.Event()
    thread = threading.Thread(target=_serve_beside, args=(run, tell, over), daemon=True)
    if os.environ.get("RANK", "0") == "0":  # of several processes that learn together
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()


def _serve_beside(run: Path, tell: Callable[[str], None], over: threading.Event) -> None:
    while not (run / "run.json").exists():
        if over.wait(_LOOKS_S):
            return
    command = [sys.executable, "-m", "nearer", "watch", str(run), "--port", str(_free_port())]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as console:
        assert console.stdout is not None, "it is a pipe"
        for line in islice(console.stdout, _LINES):
            tell(line.rstrip())
        over.wait()
        console.terminate()


def _free_port() -> int:
    """Return the usual port, or any where that is taken."""
    with socket.socket() as usual:
        usual.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            usual.bind(("127.0.0.1", PORT))
        except OSError:
            return 0
    return PORT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleet:
    num_envs: int


@contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()  # whoever follows the link now waits until the page is served
        except OSError as error:
            raise ConfigError(
                f"--port must be free on {host}, got {port}: {error.strerror}; choose another one"
            ) from error
        yield listener


@contextmanager
def _needs_console() -> Generator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "starlette"):
            raise
        raise ConfigError(
            "nearer watch must have the extra console, got an installation without it; run pip "
            "install 'nearer[console]'"
        ) from error
