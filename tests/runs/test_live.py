"""What robots say of themselves and what a person orders: files that are whole or not there."""

import os
import time
from pathlib import Path

from nearer.runs.live import (
    UNWATCHED_S,
    EndOrder,
    LiveRobot,
    OrderReader,
    Orders,
    give_orders,
    image_path,
    is_watched,
    orders_path,
    read_live,
    say_watched,
    start_live,
    write_live,
)


def test_order_reader_returns_the_newest_orders(tmp_path: Path) -> None:
    reader = OrderReader(tmp_path)
    assert reader.latest() == Orders()
    end = EndOrder(robot=2, episode=7, verdict="bad station", at_s=3.0)
    for orders in (Orders(number=1, stop_all=True), Orders(number=2, stopped=(3,), ends=(end,))):
        give_orders(tmp_path, orders)
        assert reader.latest() == orders
    assert not orders.stop(2)
    assert orders.stop(3)


def test_order_reader_of_a_damaged_file_keeps_what_was_ordered(tmp_path: Path) -> None:
    reader = OrderReader(tmp_path)
    give_orders(tmp_path, Orders(number=1, stop_all=True))
    reader.latest()
    orders_path(tmp_path).write_text("{")
    assert reader.latest().stop_all
    orders_path(tmp_path).unlink()
    assert reader.latest().stop_all


def test_read_live_returns_robots_in_order_without_damaged_ones(tmp_path: Path) -> None:
    robots = [
        LiveRobot(robot=number, state="practising", since_s=1.0, written_s=2.0, spread=(0.5,))
        for number in (11, 2)
    ]
    for robot in robots:
        write_live(tmp_path, robot, b"jpeg")
    (tmp_path / "live/robot-003.json").write_text("[]")
    assert read_live(tmp_path) == robots[::-1]
    write_live(tmp_path, robots[0], None)
    assert image_path(tmp_path, 11).read_bytes() == b"jpeg"


def test_start_live_keeps_counts_of_today_and_orders(tmp_path: Path) -> None:
    give_orders(tmp_path, Orders(number=1, stop_all=True))
    yesterday_s = time.time() - 86_400
    for number, written_s in ((1, time.time()), (2, yesterday_s), (30, time.time())):
        robot = LiveRobot(
            robot=number,
            state="faulty",
            since_s=written_s,
            written_s=written_s,
            step=9,
            episodes_today=7,
            detected_today=4,
        )
        write_live(tmp_path, robot, b"jpeg")
    (kept,) = start_live(tmp_path, range(1, 5))
    assert (kept.robot, kept.state, kept.step) == (1, "waiting", 0)
    assert (kept.episodes_today, kept.detected_today) == (7, 4)
    assert [robot.robot for robot in read_live(tmp_path)] == [1, 30]
    assert read_live(tmp_path)[0] == kept
    assert not image_path(tmp_path, 1).exists()
    assert image_path(tmp_path, 30).exists()
    assert OrderReader(tmp_path).latest().stop_all


def test_a_run_is_watched_for_some_seconds_after_a_sign(tmp_path: Path) -> None:
    assert not is_watched(tmp_path)
    say_watched(tmp_path)
    assert is_watched(tmp_path)
    before = time.time() - 2 * UNWATCHED_S
    os.utime(tmp_path / "live/watched", (before, before))
    assert not is_watched(tmp_path)
