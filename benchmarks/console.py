"""One person, many robots: how fast does a stop act, and does the console stay small for an hour?

    PYTHONPATH=tests python benchmarks/console.py [--robots 16] [--minutes 60] [--presses 3]

Robots with a camera act in a process of their own, the console is another, and a headless Chromium
shows its page. In every second minute the page is closed. In the others Escape is pressed
`--presses` times, at any moment of the control period. One JSON line:

    presses, latency_ms       from the key to the last control step that began after it (0: none),
                              median and most; period_ms to compare with
    ordered_ms                from the key to the order on the disk, median and most
    missed_watched, _unwatched   control periods whose deadline had passed, of how many
    robots_mb, console_mb     most resident memory of each process in a minute: after a tenth of the
                              time, and in the last. Robots' rises and falls with their clips
    console_cores             processor time of the console over time, with the page open
"""

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from browser import Page, browser
from nearer.console.server import ConsoleServer
from nearer.console.tokens import tokens_of
from nearer.core.control_clock import ControlClock
from nearer.core.cpu import give_way
from nearer.core.episode import Observation, StepsToGoPrediction
from nearer.core.interfaces import Sensed, Starts
from nearer.core.spaces import Spaces
from nearer.fleets.live import LiveFleet
from nearer.fleets.live_link import LiveFolder
from nearer.fleets.live_robots import LiveRobots
from nearer.fleets.paced import PacedFleet
from nearer.runs.live import orders_path

HEIGHT, WIDTH = 240, 320
EPISODE = 120  # control steps


class Cameras:
    """Robots that see a square move, and say when they act."""

    def __init__(self, num_robots: int, acted: "Synchronized[float]") -> None:
        self.num_robots = num_robots
        self.spaces = Spaces(action=1, agent_pos=0, environment_state=0)
        self._acted = acted
        rows = np.linspace(0, 255, HEIGHT)[:, None, None]
        self._background = np.broadcast_to(rows, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        self._steps = 0

    def reset(self, robots: Any, seeds: Any) -> Starts:
        """Reset the fleet's robots."""
        return Starts(observation=self._seen(robots), instructions=["push"] * len(robots))

    def step(self, robots: Any, actions: Any) -> Sensed:
        """Step the fleet's robots, and say when."""
        self._acted.value = time.monotonic()
        self._steps += 1
        return Sensed(observation=self._seen(robots), env_ended=np.zeros(len(robots), dtype=bool))

    def ground_truth(self, robots: Any) -> Any:
        """Return that nobody is done."""
        return np.zeros(len(robots), dtype=bool)

    def close(self) -> None:
        """Close nothing."""

    def _seen(self, robots: Any) -> Observation:
        images = np.repeat(self._background[None], len(robots), axis=0)
        left = 3 * self._steps % (WIDTH - 40)
        images[:, 100:140, left : left + 40] = (200, 40, 40)
        none = np.zeros((len(robots), 0), np.float32)
        return Observation(agent_pos=none, environment_state=none, images={"front": images})


def act(run: Path, num_robots: int, hz: float, acted: "Synchronized[float]", counts: Any) -> None:
    """Let robots act for ever, and count control periods."""
    clock = ControlClock(1 / hz)
    live = LiveRobots(LiveFolder(run), 0, num_robots, film_every=1, clock=clock)
    fleet = LiveFleet(PacedFleet(Cameras(num_robots, acted), clock), live, clock)
    robots, actions = np.arange(num_robots), np.zeros((num_robots, 1), np.float32)
    step = 0
    while True:
        if step % EPISODE == 0:
            fleet.reset(robots, [step + robot for robot in range(num_robots)])
        d = np.full(num_robots, EPISODE - step % EPISODE, np.float32)
        quantiles = np.zeros((num_robots, 3), np.float32)
        live.predicted(robots, StepsToGoPrediction(mean=d, std=d / 5, quantiles=quantiles), 0.5)
        fleet.step(robots, actions)
        step += 1
        summary = clock.summary()
        counts[0], counts[1] = summary.periods, summary.missed


def serve(run: Path, port: int, num_robots: int) -> None:
    """Serve the console for ever, as nearer watch does."""
    give_way()
    server = ConsoleServer(run, (f"127.0.0.1:{port}",), num_robots=num_robots)
    uvicorn.run(server.app, port=port, log_level="error", access_log=False)


def latency_ms(
    page: Page, acted: "Synchronized[float]", period_s: float, orders: Path
) -> tuple[float, float]:
    """Press Escape, and return when robots began their last control step, and the order was there.

    Both from the key on, in milliseconds.
    """
    time.sleep(random.uniform(0, period_s))
    pressed, pressed_s = time.monotonic(), time.time()
    page.press("Escape", 27)
    time.sleep(10 * period_s)
    last = acted.value
    assert time.monotonic() - last > 5 * period_s, "the robots must have stopped"
    ordered = orders.stat().st_mtime - pressed_s
    page.evaluate("document.querySelector('#resume-all').click()")
    time.sleep(5 * period_s)
    return 1000 * max(0.0, last - pressed), 1000 * ordered


def resident_mb(pid: int | None) -> float:
    """Return the memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int | None) -> float:
    """Return the processor time that a process has taken."""
    parts = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--robots", type=int, default=16)
    parser.add_argument("--hz", type=float, default=10)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--presses", type=int, default=3)
    parser.add_argument("--port", type=int, default=8151)
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    acted, counts = context.Value("d", 0.0), context.Array("d", 2)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run.mkdir()
        robots = context.Process(
            target=act, args=(run, arguments.robots, arguments.hz, acted, counts), daemon=True
        )
        console = context.Process(
            target=serve, args=(run, arguments.port, arguments.robots), daemon=True
        )
        robots.start()
        console.start()
        time.sleep(15)
        url = f"http://127.0.0.1:{arguments.port}/#token={tokens_of(run).operate}"
        with browser(Path(folder) / "profile") as page:
            pids = (robots.pid, console.pid)
            result = soak(page, url, arguments, pids, acted, counts, orders_path(run))
        robots.kill()
        console.kill()
        robots.join()
    print(json.dumps(result))


def soak(
    page: Page,
    url: str,
    arguments: argparse.Namespace,
    pids: tuple[int | None, int | None],
    acted: "Synchronized[float]",
    counts: Any,
    orders: Path,
) -> dict[str, object]:
    """Watch in every second minute, and return what was measured."""
    period_s = 1 / arguments.hz
    missed = {True: np.zeros(2), False: np.zeros(2)}
    latencies: list[tuple[float, float]] = []
    memory: list[list[float]] = []
    cores: list[float] = []
    for minute in range(arguments.minutes):
        watched = minute % 2 == 0
        if watched:
            page.open(url)
            page.until(f"document.querySelectorAll('.tile').length === {arguments.robots}")
        else:
            page.call("Page.navigate", url="about:blank")
            time.sleep(6)  # until robots write no more
        before, begun, used = np.array(counts[:]), time.monotonic(), cpu_s(pids[1])
        for _ in range(arguments.presses if watched else 0):
            latencies.append(latency_ms(page, acted, period_s, orders))
        memory.append([0.0, 0.0])
        while time.monotonic() < begun + 54:
            memory[-1] = list(map(max, memory[-1], map(resident_mb, pids)))
            time.sleep(1)
        passed = np.array(counts[:]) - before
        missed[watched] += passed
        stops = f"watched, stops {latencies[-arguments.presses :]}" if watched else "not watched"
        print(f"{minute}: {passed[1]:.0f} of {passed[0]:.0f} missed, {stops}", file=sys.stderr)
        if watched:
            cores.append((cpu_s(pids[1]) - used) / (time.monotonic() - begun))
    early = memory[len(memory) // 10]
    return {
        "robots": arguments.robots,
        "minutes": arguments.minutes,
        "presses": len(latencies),
        "latency_ms": _median_and_most([stopped for stopped, _ in latencies]),
        "ordered_ms": _median_and_most([ordered for _, ordered in latencies]),
        "period_ms": 1000 * period_s,
        "missed_watched": [int(missed[True][1]), int(missed[True][0])],
        "missed_unwatched": [int(missed[False][1]), int(missed[False][0])],
        "robots_mb": [round(early[0], 1), round(memory[-1][0], 1)],
        "console_mb": [round(early[1], 1), round(memory[-1][1], 1)],
        "console_cores": round(statistics.median(cores), 3),
    }


def _median_and_most(values: list[float]) -> list[float]:
    return [round(statistics.median(values), 1), round(max(values), 1)]


if __name__ == "__main__":
    main()
