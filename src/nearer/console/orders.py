"""What a click means: the orders that robots read, and the entry of the ledger."""

import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nearer.core.errors import ConfigError
from nearer.runs.json_files import read_document
from nearer.runs.ledger import ANSWER, Answer, Entry, Ledger
from nearer.runs.live import (
    Done,
    EndOrder,
    Orders,
    StopSignal,
    Verdict,
    give_orders,
    orders_path,
    read_live,
)

Action = Literal[
    "stop all",
    "resume all",
    "stop",
    "resume",
    "end",
    "done",
    "instructions",
    "answer",
    "note",
]
_NOTE = 2_000  # characters
_KEY = 64
_KEPT = 64  # orders to end episodes, and what was done, that are kept: older ones have been read
_INSTRUCTIONS = 64
_INSTRUCTION = 400  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Click:
    """One click, or key, on the page.

    Attributes:
        key: made by the page; a click that is sent twice is one.
        action: what is wanted.
        robot: of which robot; None: of all.
        episode: that is to end.
        verdict: why it is to end.
        asked_s: when the robot asked for what is done now.
        instructions: that are to be practised; none: the env chooses.
        question: of an audit, that is answered.
        answer: to it.
        note: free text.
    """

    key: str
    action: Action
    robot: int | None = None
    episode: int | None = None
    verdict: Verdict | None = None
    asked_s: float | None = None
    instructions: tuple[str, ...] = ()
    question: int | None = None
    answer: Answer | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what no page sends."""
        of_one = self.action in ("stop", "resume", "end", "done")
        if self.robot is None and of_one:
            raise ConfigError(f"{self.action} must name a robot, got none")
        if self.action == "end" and (self.episode is None or self.verdict is None):
            raise ConfigError("end must name an episode and a verdict, got none")
        if self.action == "done" and self.asked_s is None:
            raise ConfigError("done must say when the robot asked, got nothing")
        if self.action == "answer" and (self.question is None or self.answer is None):
            raise ConfigError("answer must name a question and an answer, got none")
        if len(self.instructions) > _INSTRUCTIONS or not all(
            0 < len(one.strip()) <= _INSTRUCTION for one in self.instructions
        ):
            raise ConfigError(
                f"there must be at most {_INSTRUCTIONS} instructions of 1 to {_INSTRUCTION} "
                f"characters, got {len(self.instructions)}"
            )
        if not 0 < len(self.key) <= _KEY or len(self.note) > _NOTE:
            raise ConfigError(
                f"a click must have a key of 1 to {_KEY} characters and a note of at most {_NOTE}"
            )
        if self.action == "note" and not self.note.strip():
            raise ConfigError("a note must have text, got none")


class OrderDesk:
    """Turns clicks into orders and entries, one after the other.

    Robots hold still as soon as a stop arrives, which waits neither for other clicks nor for the
    disk; if the disk does not take it, until it takes another order or the console ends.

    Args:
        run: folder of the run.
        ledger: of the run.

    Raises:
        ConfigError: the orders of an earlier console are damaged.
        NearerError: the disk takes nothing.
    """

    def __init__(self, run: Path, ledger: Ledger) -> None:
        self._run = run
        self._ledger = ledger
        self._lock = threading.Lock()
        self._stopping = StopSignal(run)
        path = orders_path(run)
        self.orders = read_document(Orders, path, "remove it") if path.exists() else Orders()

    def take(self, click: Click, who: str) -> bool:
        """Carry out a click, and return whether it is new.

        A stop is ordered before it is written down; everything else after.

        Raises:
            NearerError: the disk does not take it.
        """
        stops = click.action in ("stop", "stop all")
        if stops:
            self._stopping.give()
        with self._lock:
            orders = self._ordered(click)
            if stops:
                self._stopping.give()  # the click before this one may have taken it back
                self._give(orders)
            is_new = self._ledger.add(self._entry(click, who))
            resumes = click.action in ("resume", "resume all")  # also from a stop that failed
            if is_new and not stops and (resumes or orders != self.orders):
                self._give(orders)
            return is_new

    def _give(self, orders: Orders) -> None:
        orders = replace(orders, number=self.orders.number + 1)
        give_orders(self._run, orders)
        self.orders = orders
        self._stopping.take_back()

    def _ordered(self, click: Click) -> Orders:
        orders, robot = self.orders, click.robot
        match click.action:
            case "stop all":
                return replace(orders, stop_all=True)
            case "resume all":
                return replace(orders, stop_all=False, stopped=())
            case "note" | "answer":
                return orders
            case "instructions":
                return replace(orders, instructions=click.instructions)
            case _:
                assert robot is not None, "the click has been checked"
        others = tuple(number for number in orders.stopped if number != robot)
        match click.action:
            case "stop":
                return replace(orders, stopped=(*others, robot))
            case "resume":
                return replace(orders, stopped=others)
            case "end":
                assert click.episode is not None, "the click has been checked"
                assert click.verdict is not None, "the click has been checked"
                end = EndOrder(
                    robot=robot, episode=click.episode, verdict=click.verdict, at_s=time.time()
                )
                return replace(orders, ends=(*orders.ends, end)[-_KEPT:])
            case "done":
                assert click.asked_s is not None, "the click has been checked"
                done = Done(robot=robot, asked_s=click.asked_s)
                return replace(orders, done=(*orders.done, done)[-_KEPT:])

    def _entry(self, click: Click, who: str) -> Entry:
        seen = [robot for robot in read_live(self._run) if robot.robot == click.robot]
        text = ""
        if seen:
            d = f", d {seen[0].steps_to_go[-1]:.1f}" if seen[0].steps_to_go else ""
            asks = f", asks: {seen[0].asks}" if seen[0].asks else ""
            text = f"{seen[0].state}, step {seen[0].step}{d}: {seen[0].instruction}{asks}"
        action: str = click.action
        if click.action == "end":
            action = f"end: {click.verdict}"
        elif click.action == "answer":
            action = f"{ANSWER}{click.answer}"
        return Entry(
            key=click.key,
            at_s=time.time(),
            who=who,
            action=action,
            robot=click.robot,
            episode=click.episode,
            question=click.question,
            seen=text,
            note="; ".join(click.instructions) if click.action == "instructions" else click.note,
        )
