"""How long a stop takes to reach a robot, while its program does something else.

    python benchmarks/robot_stop.py [--stops 200] [--rate-hz 30]

From the call of `stop`, in another thread at a random moment of a control period, until the robot's
`hold` has returned; a row for each thing that the main thread does meanwhile.
"""

import argparse
import hashlib
import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from nearer.envs.robots.watchdog import Watchdog


def latencies_ms(
    blocks: Callable[[Watchdog, float], None], stops: int, period_s: float
) -> list[float]:
    """Return how long each of these stops took.

    Args:
        blocks: what the main thread does for so many seconds.
        stops: how many.
        period_s: control period.
    """
    rng = np.random.default_rng(0)
    took_ms: list[float] = []
    for _ in range(stops):
        held_s: list[float] = []
        asked_s: list[float] = []
        watchdog = Watchdog(
            lambda held_s=held_s: held_s.append(time.monotonic()),
            deadline_s=100 * period_s,
            period_s=period_s,
        )

        def stop(watchdog: Watchdog = watchdog, asked_s: list[float] = asked_s) -> None:
            asked_s.append(time.monotonic())
            watchdog.stop("benchmark")

        with watchdog.commanding():
            pass
        threading.Timer(rng.uniform(0.3, 1.3) * period_s, stop).start()
        blocks(watchdog, 4 * period_s)
        watchdog.wait_stopped(1.0)
        took_ms.append(1000 * (held_s[0] - asked_s[0]))
        watchdog.close()
    return took_ms


def sleep(watchdog: Watchdog, seconds: float) -> None:
    """Wait, as for another machine."""
    time.sleep(seconds)


def compute(watchdog: Watchdog, seconds: float) -> None:
    """Be inside a library that lets other threads run."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 100_000)


def hang(watchdog: Watchdog, seconds: float) -> None:
    """Be inside a call of the robot that does not return."""
    with watchdog.reading():
        time.sleep(seconds)


def main(stops: int, rate_hz: float) -> None:
    """Print a row for each thing that the main thread does."""
    logging.disable(logging.WARNING)
    print(f"{stops} stops each, control period {1000 / rate_hz:.1f} ms")
    print("main thread   median   99 %    most   within a period")
    for name, blocks in (("sleeps", sleep), ("computes", compute), ("hangs", hang)):
        took_ms = np.array(latencies_ms(blocks, stops, 1 / rate_hz))
        median, high = np.quantile(took_ms, [0.5, 0.99])
        within = int((took_ms <= 1000 / rate_hz).sum())
        row = f"{median:6.1f} {high:7.1f} {took_ms.max():7.1f}   {within} of {stops}"
        print(f"{name:<11} {row}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stops", type=int, default=200)
    parser.add_argument("--rate-hz", type=float, default=30)
    given = parser.parse_args()
    main(given.stops, given.rate_hz)
