"""The console's server: who may do what, what a click orders, what robots' text may not do."""

import asyncio
import json
import re
import shutil
import stat
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from nearer.console.orders import Click, OrderDesk
from nearer.console.server import PAGE, ConsoleServer
from nearer.console.tokens import TOKENS, Tokens, tokens_of
from nearer.core.errors import ConfigError, NearerError
from nearer.runs.ledger import LEDGER, Ledger
from nearer.runs.live import LiveRobot, OrderReader, Orders, write_live

HOST = "127.0.0.1:8137"
ORIGIN = {"Origin": f"http://{HOST}"}


def client_of(run: Path, role: str | None) -> TestClient:
    server = ConsoleServer(run, (HOST, "localhost:8137"))
    client = TestClient(server.app, base_url=f"http://{HOST}")
    if role is not None:
        token = getattr(server.tokens, role)
        assert client.post("/sign-in", content=token, headers=ORIGIN).json() == {"role": role}
    return client


def click(client: TestClient, **values: object) -> int:
    body = json.dumps({"key": f"k{hash(str(values))}", **values})
    return client.post("/clicks", content=body, headers=ORIGIN).status_code


def robot(number: int = 3, instruction: str = "push the star") -> LiveRobot:
    return LiveRobot(
        robot=number,
        state="practising",
        since_s=1.0,
        written_s=2.0,
        instruction=instruction,
        episode=7,
        step=4,
        steps_to_go=(5.0, 2.5),
    )


def test_clicks_of_an_operator_become_orders_and_entries(tmp_path: Path) -> None:
    write_live(tmp_path, robot(), b"\xff\xd8jpeg")
    client, reader = client_of(tmp_path, "operate"), OrderReader(tmp_path)
    assert click(client, action="stop", robot=3) == 200
    assert reader.latest().stopped == (3,)
    assert click(client, action="stop all") == 200
    assert reader.latest().stop_all
    assert click(client, action="resume all") == 200
    assert reader.latest() == Orders(number=3)
    assert click(client, action="end", robot=3, episode=7, verdict="bad station") == 200
    (end,) = reader.latest().ends
    assert (end.robot, end.episode, end.verdict) == (3, 7, "bad station")
    assert click(client, action="note", note="a block fell off") == 200
    entries = Ledger(tmp_path / LEDGER).latest(9)[::-1]
    assert [entry.action for entry in entries] == [
        *("stop", "stop all", "resume all", "end: bad station", "note")
    ]
    assert entries[0].seen == "practising, step 4, d 2.5: push the star"
    assert entries[0].who.startswith("operate@")
    assert client.get("/robots/3.jpg").content == b"\xff\xd8jpeg"
    assert "a block fell off" in client.get("/ledger.csv").text


def test_robots_hold_still_while_a_stop_is_written_and_if_it_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, reader = client_of(tmp_path, "operate"), OrderReader(tmp_path)
    coming: list[bool] = []
    is_full = False

    def write(run: Path, orders: Orders) -> None:
        coming.append(reader.is_stop_coming())
        if is_full:
            raise NearerError("no space left")

    monkeypatch.setattr("nearer.console.orders.give_orders", write)
    assert click(client, action="stop all") == 200
    assert click(client, action="resume all") == 200
    assert coming == [True, False]
    is_full = True
    assert click(client, action="stop", robot=3) == 507
    assert reader.is_stop_coming()
    assert click(client, action="stop", robot=3, note="again") == 507
    is_full = False
    assert click(client, action="resume", robot=3) == 200
    assert not reader.is_stop_coming()


def test_a_click_sent_twice_is_done_once(tmp_path: Path) -> None:
    desk = OrderDesk(tmp_path, Ledger(tmp_path / LEDGER))
    ends = Click(key="a", action="end", robot=1, episode=2, verdict="success")
    assert desk.take(ends, "operate@x")
    assert not desk.take(ends, "operate@x")
    assert len(desk.orders.ends) == 1
    later = OrderDesk(tmp_path, Ledger(tmp_path / LEDGER))  # a console that was restarted
    assert later.orders == desk.orders


@pytest.mark.parametrize(
    "values",
    [
        {"action": "stop"},
        {"action": "end", "robot": 1},
        {"action": "explode", "robot": 1},
        {"action": "note", "note": " "},
        {"action": "note", "note": "x" * 3000},
        {"action": "stop", "robot": "1"},
        {"action": "note", "note": "x", "more": 1},
    ],
)
def test_a_click_that_no_page_sends_is_refused_in_words(
    values: dict[str, object], tmp_path: Path
) -> None:
    client = client_of(tmp_path, "operate")
    body = json.dumps({"key": "k", **values})
    answer = client.post("/clicks", content=body, headers=ORIGIN)
    assert answer.status_code == 400
    assert len(answer.json()["error"]) > 10
    assert Ledger(tmp_path / LEDGER).latest(1) == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{" * 5000, b"x" * 20_000, b"\xff"])
def test_a_click_that_is_no_json_is_refused(body: bytes, tmp_path: Path) -> None:
    assert (
        client_of(tmp_path, "operate").post("/clicks", content=body, headers=ORIGIN).status_code
        == 400
    )


def test_who_only_watches_sees_and_orders_nothing(tmp_path: Path) -> None:
    client = client_of(tmp_path, "watch")
    assert client.get("/ledger.csv").status_code == 200
    assert click(client, action="stop all") == 403
    assert OrderReader(tmp_path).latest() == Orders()


def test_without_a_token_there_is_only_the_page(tmp_path: Path) -> None:
    client = client_of(tmp_path, None)
    assert client.get("/").status_code == 200
    for path in ("/robots", "/robots/0.jpg", "/ledger.csv"):
        assert client.get(path).status_code == 401
    assert click(client, action="stop all") == 403
    for wrong in ("", "x" * 40, "é" * 40, "x" * 20_000):
        assert client.post("/sign-in", content=wrong.encode(), headers=ORIGIN).status_code == 403


def test_guessing_tokens_is_slowed_down(tmp_path: Path) -> None:
    client = client_of(tmp_path, None)
    answers = [client.post("/sign-in", content="x", headers=ORIGIN).status_code for _ in range(40)]
    assert 429 in answers


def test_a_stop_is_never_slowed_down(tmp_path: Path) -> None:
    client = client_of(tmp_path, "operate")
    notes = [click(client, action="note", note=f"{i}") for i in range(40)]
    assert 429 in notes
    assert click(client, action="stop all") == 200


def test_other_sites_and_other_names_are_refused(tmp_path: Path) -> None:
    client = client_of(tmp_path, "operate")
    body = json.dumps({"key": "k", "action": "stop all"})
    for headers in ({}, {"Origin": "http://evil.example"}, {"Origin": "null"}):
        assert client.post("/clicks", content=body, headers=headers).status_code == 403
    rebound = client.get("/ledger.csv", headers={"Host": "evil.example:8137"})
    assert rebound.status_code == 421
    assert OrderReader(tmp_path).latest() == Orders()


def test_a_proxy_that_encrypts_the_connection_is_the_consoles_own(tmp_path: Path) -> None:
    server = ConsoleServer(tmp_path, (HOST, "lab-pc"))
    client = TestClient(server.app, base_url="http://lab-pc")
    headers = {"Origin": "https://lab-pc"}
    token = server.tokens.operate
    assert client.post("/sign-in", content=token, headers=headers).status_code == 200
    body = json.dumps({"key": "k", "action": "stop all"})
    assert client.post("/clicks", content=body, headers=headers).status_code == 200
    elsewhere = {"Origin": "https://lab-pc.example"}
    assert client.post("/clicks", content=body, headers=elsewhere).status_code == 403


def test_answers_keep_other_sites_out(tmp_path: Path) -> None:
    server = ConsoleServer(tmp_path, (HOST,))
    client = TestClient(server.app, base_url=f"http://{HOST}")
    answer = client.post("/sign-in", content=server.tokens.watch, headers=ORIGIN)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    headers = client.get("/").headers
    assert headers["content-security-policy"].startswith("default-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"


def test_a_run_that_is_deleted_is_told_and_stays_deleted(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    server = ConsoleServer(run, (HOST,))

    async def two_messages() -> list[str]:
        changes = server._changes("watch")
        first = await anext(changes)
        shutil.rmtree(run)
        return [first, await anext(changes)]

    first, second = asyncio.run(two_messages())
    assert '"state"' in first
    assert f'"error": "{run}' in second
    assert not run.exists()


def test_tokens_stay_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    tokens = tokens_of(tmp_path)
    assert tokens_of(tmp_path) == tokens
    assert stat.S_IMODE((tmp_path / TOKENS).stat().st_mode) == 0o600
    (tmp_path / TOKENS).write_text('{"watch": "a", "operate": "b"}')
    with pytest.raises(ConfigError, match="long and different"):
        tokens_of(tmp_path)
    with pytest.raises(ConfigError, match="long and different"):
        Tokens(watch="x" * 32, operate="x" * 32)


def test_the_page_has_no_script_and_no_style_inside(tmp_path: Path) -> None:
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|https?://", page)
    for script in PAGE.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", script.read_text())
