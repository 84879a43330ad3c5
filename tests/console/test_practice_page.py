"""What a person does at the console for practice: audits, resets, instructions, looking back."""

import time
from collections.abc import Generator
from io import BytesIO
from pathlib import Path

import axe_core_python
import numpy as np
import pytest
from PIL import Image

from browser import CHROMIUM, Page, browser
from console_server import console
from nearer.core.episode import (
    EncodedObservation,
    Ended,
    Episode,
    Observation,
    ScoredEpisode,
)
from nearer.core.spaces import Spaces
from nearer.datasets.practice_store import PracticeStore
from nearer.evaluation.person_audit import QUESTIONS, Question, Questions, audits_of
from nearer.runs.clips import write_clip
from nearer.runs.files import append_line
from nearer.runs.json_files import append_document
from nearer.runs.ledger import LEDGER, Ledger
from nearer.runs.live import LiveRobot, OrderReader, write_live
from nearer.runs.metrics import METRICS

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
AXE = Path(axe_core_python.__file__).with_name("axe.min.js").read_text()
NUM_QUESTIONS = 30


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Generator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def jpeg(red: int) -> bytes:
    out = BytesIO()
    Image.new("RGB", (8 * 24, 8 * 16), (red, 0, 0)).save(out, "JPEG")
    return out.getvalue()


def scored(robot: int, seed: int) -> ScoredEpisode:
    d = np.array([5.0, 3.0, 0.2], np.float32)
    state = np.zeros((3, 2), np.float32)
    episode = Episode(
        robot=robot,
        seed=seed,
        instruction="push the star",
        policy_version=0,
        observations=EncodedObservation.without_features(
            Observation(agent_pos=state, environment_state=state[:, :0])
        ),
        actions=np.zeros((2, 2), np.float32),
        log_prob=np.zeros(2, np.float32),
        ended=Ended.SUCCESS_DETECTED,
    )
    return ScoredEpisode(
        episode=episode,
        steps_to_go=d,
        steps_to_go_std=d / 4,
        quantiles=np.stack([d, d, d], axis=1),
        rewards=d[:-1] - d[1:],
        returns=d[:-1],
        solved=d < 1,
    )


def practised(run: Path) -> None:
    """Write what two iterations leave in a run's folder: questions, clips, metrics, episodes."""
    questions = tuple(
        Question(
            number=number,
            robot=number % 2,
            seed=1000 + number,
            instruction=f"push the star {number}",
            detected=number % 3 > 0,  # twenty of thirty
            progress_steps=float(number),
        )
        for number in range(NUM_QUESTIONS)
    )
    append_document(run / QUESTIONS, Questions(iteration=0, questions=questions))
    for question in questions:
        write_clip(run, 0, question.seed, jpeg(200))
    for step, detected in ((1, 10), (2, 16)):
        append_line(
            run / METRICS,
            {
                "step": step,
                "practice/episodes": 20 * step,
                "practice/iteration_episodes": 20,
                "practice/detected": detected,
                "practice/progress_steps": 5.0 + step,
                "practice/episode_length": 12.0,
                "practice/entropy": 1.5,
                "practice/policy_change": 0.01,
                "time/elapsed_s": 360.0 * step,
                **({"alarm": "the detector's precision fell; stop"} if step == 2 else {}),
            },
        )
    store = PracticeStore.open(
        run / "practice", Spaces(action=2, agent_pos=2, environment_state=0), 10, "toy"
    )
    store.append(0, [scored(0, 1000), scored(1, 9)])
    now = time.time()
    for robot in range(2):
        write_live(
            run,
            LiveRobot(
                robot=robot,
                state="practising",
                since_s=now,
                written_s=now,
                instruction="push the star",
                episode=1,
                steps_to_go=(4.0, 3.0),
                spread=(1.0, 0.5),
                threshold_steps=0.5,
            ),
            jpeg(100),
        )


def test_a_person_answers_thirty_questions_by_keys(page: Page, tmp_path: Path) -> None:
    practised(tmp_path)
    with console(tmp_path) as (server, port):
        page.open(f"http://127.0.0.1:{port}/#token={server.tokens.operate}")
        assert page.until("document.querySelector('#to-questions').textContent") == "30 questions"
        page.until("!document.querySelector('#audit-clip').hidden")
        assert "detect" not in page.evaluate("document.querySelector('#audit').textContent")
        page.press("y", 89)  # a key means nothing until the question has been looked at
        page.evaluate("document.querySelector('#to-questions').click()")
        for number in range(NUM_QUESTIONS):
            question = f"document.querySelector('#audit').dataset.question === '{number}'"
            page.until(question)
            assert page.evaluate("document.querySelector('#audit-instruction').textContent") == (
                f"push the star {number}"
            )
            page.press(*(("u", 85) if number == 1 else ("n", 78) if number == 2 else ("y", 89)))
        page.until("document.querySelector('#audit').hidden")
        shown = "document.querySelector('#fleet-numbers').textContent"
        page.until(f"{shown}.includes('n = 29')", within_s=15)
        text = page.evaluate(shown)
    answers = Ledger(tmp_path / LEDGER).answers()
    assert len(answers) == NUM_QUESTIONS
    assert (answers[0], answers[1], answers[2]) == ("yes", "cannot tell", "no")
    (audit,) = audits_of(tmp_path)
    # Twenty were detected; one of these was none, and of one nobody can tell.
    assert (audit.num_detections, audit.num_correct_detections) == (19, 18)
    assert str(audit.precision) == "0.947 [0.754, 0.991] (n = 19)"
    assert "95 % [75 %, 99 %], n = 19" in text
    assert "Success, by people97 %" in text


def test_a_person_puts_a_scene_in_order_and_chooses_what_is_practised(
    page: Page, tmp_path: Path
) -> None:
    practised(tmp_path)
    now = time.time()
    robot = LiveRobot(
        robot=1,
        state="waiting",
        since_s=now,
        written_s=now,
        episode=1,
        asks="Put the block back.",
        asked_s=now,
        refused="there must be a red star",
    )
    write_live(tmp_path, robot, None)
    with console(tmp_path) as (server, port):
        page.open(f"http://127.0.0.1:{port}/#token={server.tokens.operate}")
        page.until("document.querySelector('#status').textContent === '1 robot needs you'")
        first = "document.querySelector('.tile')"
        assert page.evaluate(f"{first}.querySelector('.name').textContent") == "Robot 1"
        assert page.evaluate(f"{first}.querySelector('.asks').textContent") == robot.asks
        assert "red star" in page.evaluate("document.querySelector('#refusals').textContent")
        page.evaluate(f"{first}.querySelector('.done').click()")
        page.evaluate("document.querySelectorAll('[data-verdict=reset]')[1].click()")
        page.evaluate("document.querySelector('#instructions').value = 'push a\\n\\n push b '")
        page.evaluate("document.querySelector('#choice-form button').click()")
        page.until("document.querySelector('#ledger').children.length === 3")
        shown = "document.querySelector('#fleet-numbers').textContent"
        page.until(f"{shown}.includes('Resets by people1')", within_s=15)
    orders = OrderReader(tmp_path).latest()
    assert [(done.robot, done.asked_s) for done in orders.done] == [(1, now)]
    assert [(end.robot, end.episode, end.verdict) for end in orders.ends] == [(0, 1, "reset")]
    assert orders.instructions == ("push a", "push b")
    notes = [entry.note for entry in Ledger(tmp_path / LEDGER).latest(3)]
    assert "push a; push b" in notes


def test_a_person_looks_back_at_the_fleet_and_at_an_episode(page: Page, tmp_path: Path) -> None:
    practised(tmp_path)
    (tmp_path / "FINISHED").touch()
    with console(tmp_path) as (server, port):
        page.open(f"http://127.0.0.1:{port}/#token={server.tokens.watch}")
        page.until("document.querySelector('#status').textContent === 'Practice is finished'")
        page.until("!document.querySelector('#fleet').hidden", within_s=15)
        label = page.evaluate("document.querySelector('#fleet-curve').getAttribute('aria-label')")
        assert "40 practice episodes: the detector's 80 % [58 %, 92 %], n = 20" in label
        alarms = page.evaluate("document.querySelector('#alarms').textContent")
        assert alarms == "the detector's precision fell; stop"
        numbers = page.evaluate("document.querySelector('#fleet-numbers').textContent")
        assert "40, 200 an hour" in numbers
        assert "Robot hours0.40" in numbers
        assert page.evaluate("document.querySelectorAll('#small-curves figure').length") == 4
        assert page.evaluate("document.querySelector('#audit').hidden")  # who only watches
        page.evaluate("document.querySelector('#episodes').open = true")
        page.until("document.querySelectorAll('#episode-list button').length === 2")
        page.evaluate("document.querySelectorAll('#episode-list button')[1].click()")
        page.until("!document.querySelector('#episode-clip').hidden")
        message = page.evaluate("document.querySelector('#episode-message').textContent")
        assert message == (
            "Robot 0, iteration 1, ended by success detected after 2 decisions; d from 5.0 to 0.2 "
            "steps"
        )
        page.evaluate("document.querySelector('#episode-slider').value = 1")
        page.evaluate("document.querySelector('#episode-slider').dispatchEvent(new Event('input'))")
        moment = page.evaluate("document.querySelector('#episode-moment').textContent")
        assert moment == "decision 1: d 3.0 steps, standard deviation 0.8, reward 2.80"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_for_everybody(page: Page, scheme: str, tmp_path: Path) -> None:
    practised(tmp_path)
    page.call(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": scheme}],
    )
    with console(tmp_path) as (server, port):
        page.open(f"http://127.0.0.1:{port}/#token={server.tokens.operate}")
        page.until("!document.querySelector('#audit-clip').hidden")
        page.until("!document.querySelector('#fleet').hidden", within_s=15)
        page.evaluate("document.querySelector('#episodes').open = true")
        page.until("document.querySelectorAll('#episode-list button').length === 2")
        page.evaluate("document.querySelectorAll('#episode-list button')[1].click()")
        page.until("!document.querySelector('#episode').hidden")
        page.evaluate(AXE)
        found = page.evaluate(
            "axe.run().then((all) => all.violations.map((one) => "
            "`${one.id}: ${one.nodes.map((node) => node.html + node.failureSummary).join(' ')}`))"
        )
    page.call("Emulation.setEmulatedMedia", features=[])
    assert found == []
