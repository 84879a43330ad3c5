"""`nearer watch`: where the page is, and what it says in place of a traceback."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from nearer.cli import main
from nearer.commands.watch import console_beside, run_watch
from nearer.configs.watch import WatchConfig
from nearer.core.errors import ConfigError
from nearer.runs.documents import FORMAT


def improving(run: Path, command: str = "improve") -> None:
    header = {
        "format": FORMAT,
        "command": command,
        "config": {"num_envs": 2},
        "git_revision": "",
        "versions": {},
        "created": "2026-11-30T03:00:00",
    }
    (run / "run.json").write_text(json.dumps(header))


def test_watch_shows_the_page_until_it_is_interrupted(tmp_path: Path) -> None:
    improving(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "nearer", "watch", str(tmp_path), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(3)]
    links = [re.search(r"http://127.0.0.1:\d+/#token=\S{32}", line) for line in said[1:]]
    assert links[0]
    assert links[1]
    assert links[0].group() != links[1].group()
    with urlopen(links[0].group().split("#")[0]) as answer:
        assert b"nearer console" in answer.read()
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert "robots go on" in rest
    assert process.returncode == 0


def test_watch_of_no_run_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["watch", str(tmp_path)])
    assert "must be the folder of a run, got none; pass the --out of" in " ".join(
        capsys.readouterr().err.split()
    )


def test_watch_of_a_stage_one_run_is_refused_in_words(tmp_path: Path) -> None:
    improving(tmp_path, "sft")
    with pytest.raises(ConfigError, match="must be a run of nearer improve, got one of nearer sft"):
        run_watch(WatchConfig(run=tmp_path, port=0), print)


def test_a_console_beside_practice_comes_with_the_run_and_goes_with_it(tmp_path: Path) -> None:
    said: list[str] = []
    with console_beside(tmp_path / "none", said.append):
        pass
    assert said == []
    with console_beside(tmp_path, said.append):
        improving(tmp_path)
        for _ in range(600):
            if len(said) == 3:
                break
            time.sleep(0.1)
        link = re.search(r"http://127.0.0.1:\d+/", said[1])
        assert link
        with urlopen(link.group()) as answer:
            assert b"nearer console" in answer.read()
    with pytest.raises(URLError):
        urlopen(link.group())


def test_watch_on_a_port_that_is_taken_is_refused_in_words(tmp_path: Path) -> None:
    improving(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = WatchConfig(run=tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match=r"--port must be free on 127.0.0.1, .* choose"):
            run_watch(config, print)


def test_watch_beyond_this_machine_must_know_its_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--host must be an address of this machine .* --names"):
        WatchConfig(run=tmp_path, host="0.0.0.0")
    assert WatchConfig(run=tmp_path, host="0.0.0.0", names=("lab-pc",)).names == ("lab-pc",)
