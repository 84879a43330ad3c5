"""The console's page in a real browser, with robots that act in threads of this process."""

import threading
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from browser import CHROMIUM, Page, browser
from console_server import console
from nearer.core.episode import StepsToGoPrediction
from nearer.fleets.live import LiveFleet
from nearer.fleets.live_link import LiveFolder
from nearer.fleets.live_robots import LiveRobots
from nearer.runs.ledger import LEDGER, Ledger
from nearer.runs.live import LiveRobot, RobotState, write_live
from nearer.testing import CountingFleet

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
PERIOD_S = 0.05
TITLES = "[...document.querySelectorAll('.tile .name')].map((name) => name.textContent)"
STATES = "[...document.querySelectorAll('.tile .state')].map((state) => state.textContent)"


class Robots:
    """Sixteen robots that act until they are closed."""

    def __init__(self, run: Path) -> None:
        self.inside = CountingFleet(16, goal_steps=9)
        self._live = LiveRobots(LiveFolder(run), first_robot=0, num_robots=16)
        self._fleet = LiveFleet(self.inside, self._live)
        self._closed = False
        self._thread = threading.Thread(target=self._act)
        self._thread.start()

    @property
    def steps(self) -> int:
        return len(self.inside.actions)

    def close(self) -> None:
        self._closed = True
        self._fleet.close()
        self._thread.join(20)

    def _act(self) -> None:
        robots = np.arange(16)
        self._fleet.reset(robots, list(range(16)))
        while not self._closed:
            d = np.full(16, 20 - (self.steps // 16) % 20, np.float32)
            said = StepsToGoPrediction(mean=d, std=d / 5, quantiles=np.zeros((16, 3), np.float32))
            self._live.predicted(robots, said, 0.5)
            self._fleet.step(robots, np.zeros((16, 1), np.float32))
            time.sleep(PERIOD_S)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Generator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def robots(tmp_path: Path) -> Generator[Robots]:
    acting = Robots(tmp_path)
    yield acting
    acting.close()


def test_a_person_signs_in_by_a_link_stops_all_with_a_key_and_lets_go(
    page: Page, robots: Robots, tmp_path: Path
) -> None:
    with console(tmp_path) as (server, port):
        page.open(f"http://127.0.0.1:{port}/#token={server.tokens.operate}")
        page.until(f"{TITLES}.length === 16")
        assert page.evaluate("location.href") == f"http://127.0.0.1:{port}/"
        assert page.until("document.querySelector('#status').textContent") == "Nobody is needed"
        page.press("Escape", 27)
        page.until("document.querySelector('#status').textContent === 'All robots are stopped'")
        page.until(f"{STATES}.every((state) => state === 'stopped')")
        stopped = robots.steps
        time.sleep(10 * PERIOD_S)
        assert robots.steps == stopped
        page.evaluate("document.querySelector('#resume-all').click()")
        page.until(f"{STATES}.every((state) => state === 'practising')")
        assert robots.steps > stopped
        page.evaluate("document.querySelector('.tile .toggle').click()")
        page.until("document.querySelector('#ledger').children.length === 3")
    actions = [entry.action for entry in Ledger(tmp_path / LEDGER).latest(9)]
    assert actions == ["stop", "resume all", "stop all"]


def test_a_console_that_was_killed_comes_back_to_an_open_page(
    page: Page, robots: Robots, tmp_path: Path
) -> None:
    with console(tmp_path) as (server, port):
        page.open(f"http://127.0.0.1:{port}/#token={server.tokens.operate}")
        page.until(f"{TITLES}.length === 16")
    page.until("document.querySelector('#status').textContent.startsWith('No connection')")
    before = robots.steps
    with console(tmp_path, port):
        page.until("document.querySelector('#status').textContent === 'Nobody is needed'")
    assert robots.steps > before


def test_without_a_token_the_page_asks_for_one(page: Page, robots: Robots, tmp_path: Path) -> None:
    with console(tmp_path) as (server, port):
        page.call("Network.clearBrowserCookies")
        page.open(f"http://127.0.0.1:{port}/")
        page.until("!document.querySelector('#sign-in').hidden")
        assert page.evaluate(f"{TITLES}.length") == 0
        page.evaluate("document.querySelector('#token').value = 'a guess'")
        page.evaluate("document.querySelector('#sign-in button').click()")
        assert "copy it again" in page.until("document.querySelector('#refused').textContent")
        page.evaluate(f"document.querySelector('#token').value = '{server.tokens.watch}'")
        page.evaluate("document.querySelector('#sign-in button').click()")
        page.until(f"{TITLES}.length === 16")
        assert page.evaluate("document.querySelector('#stop-all').hidden")  # who only watches


def test_robots_that_cannot_be_stopped_are_counted(page: Page, tmp_path: Path) -> None:
    robot = LiveRobot(robot=0, state="practising", since_s=time.time(), written_s=time.time())
    write_live(tmp_path, robot, None)
    silence = "document.querySelector('#silence').textContent"
    with console(tmp_path, num_robots=4) as (server, port):
        page.open(f"http://127.0.0.1:{port}/#token={server.tokens.operate}")
        assert page.until(silence).startswith("3 of 4 robots have said nothing yet")
        for number in (1, 2, 3):
            write_live(tmp_path, replace(robot, robot=number), None)
        page.until(f"{silence} === ''")


def test_text_of_a_robot_stays_text_and_who_needs_a_person_comes_first(
    page: Page, tmp_path: Path
) -> None:
    evil = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
    now = time.time()
    states: list[RobotState] = ["practising", "practising", "faulty"]
    for number, state in enumerate(states):
        robot = LiveRobot(
            robot=number, state=state, since_s=now - 90, written_s=now, instruction=evil
        )
        write_live(tmp_path, robot, None)
    with console(tmp_path) as (server, port):
        page.open(f"http://127.0.0.1:{port}/#token={server.tokens.operate}")
        page.until("document.querySelector('#status').textContent === '1 robot needs you'")
        assert page.evaluate(TITLES) == ["Robot 2", "Robot 0", "Robot 1"]
        assert page.evaluate("document.querySelector('.instruction').textContent") == evil
        assert page.evaluate("document.title") == f"(1) nearer: {tmp_path.name}"
        assert page.evaluate("document.querySelector('.state').textContent") == "faulty for 1 min"
