"""nearer serve: addresses and tokens, which models are served, Ctrl-C."""

import os
import re
import signal
import stat
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nearer.cli import parse
from nearer.commands.serve import (
    ServeConfig,
    load_served,
    run_serve,
    server_of,
    server_token,
)
from nearer.core.errors import ConfigError
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model, save_checkpoint
from refusals import refused
from serving_helpers import OLD_CLIENT, POINT_MASS, client, mlp, state_message

pytestmark = OLD_CLIENT


def test_serve_config_public_address_without_token_is_refused() -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "a.name"):
        with pytest.raises(ConfigError, match="--host must be an address of this machine alone"):
            ServeConfig(checkpoint=Path("run"), host=host)
        ServeConfig(checkpoint=Path("run"), host=host, token_file=Path("token"))
    for host in ("127.0.0.1", "::1", "localhost"):
        ServeConfig(checkpoint=Path("run"), host=host)


def test_server_token_new_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "new" / "token"
    token = server_token(path, lines.append)
    assert token is not None
    assert len(token) >= 32
    assert [line.endswith(token) for line in lines] == [True]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert server_token(path, lines.append) == token
    assert len(lines) == 1
    for bad in ("short", "with blanks in the middle", "ü" * 20, ""):
        path.write_text(bad)
        with pytest.raises(ConfigError, match="--token-file must") as error:
            server_token(path, lines.append)
        assert not bad or bad not in str(error.value)
    with pytest.raises(ConfigError, match="--token-file must be a file"):
        server_token(tmp_path, lines.append)


def test_load_served_run_uses_its_reward_model_and_threshold(
    stage_one: Path, tmp_path: Path
) -> None:
    run = stage_one / "sft"
    policy, reward = load_served(ServeConfig(checkpoint=run))
    expected = load_model(run, build_model, "reward")
    for loaded, saved in zip(reward.model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(loaded, saved)
    assert reward.threshold_steps is not None
    assert load_served(ServeConfig(checkpoint=run, threshold=7.0))[1].threshold_steps == 7.0
    assert policy.spaces.action == 2
    save_checkpoint(tmp_path / "000001", mlp(), None)
    alone, termination = load_served(ServeConfig(checkpoint=tmp_path / "000001"))
    assert alone is termination.model
    assert termination.threshold_steps is None
    other = mlp(replace(POINT_MASS, agent_pos=7))
    save_checkpoint(tmp_path / "000002", other, None)
    with pytest.raises(ConfigError, match="--reward must read what the policy reads"):
        load_served(ServeConfig(checkpoint=run, reward=tmp_path / "000002"))


def test_run_serve_ctrl_c_stops_the_server(stage_one: Path) -> None:
    lines: list[str] = []
    responses: list[Any] = []

    def drive(port: int) -> None:
        with client(port) as robot:
            responses.append(robot.infer(state_message()))
        os.kill(os.getpid(), signal.SIGINT)

    def tell(line: str) -> None:
        lines.append(line)
        if address := re.search(r"ws://127\.0\.0\.1:(\d+), Ctrl-C", line):
            threading.Thread(target=drive, args=(int(address[1]),)).start()

    run_serve(ServeConfig(checkpoint=stage_one / "sft", port=0), tell)
    assert responses[0]["actions"].shape == (1, 2)
    assert "done" in responses[0]
    assert lines[-1].startswith("stopped")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--rename", "state"], "--rename must be pairs NAME=NEW_NAME, got 'state'; correct it"),
        (["--rename", "=agent_pos"], "--rename must be pairs NAME=NEW_NAME, got '=agent_pos'"),
        (["--rename", "state="], "--rename must be pairs NAME=NEW_NAME"),
        (["--instruction", ""], "--instruction must have 1 to 1000 characters, got 0"),
        (["--answer-s", "0"], "--answer-s must be a finite number above 0"),
        (["--reconnect-s", "-1"], "--reconnect-s must be 0 or more, got -1.0"),
        (
            ["--rename", "a=front"],
            "--rename must name what the checkpoint reads, one of agent_pos, ",
        ),
    ],
)
def test_serve_flags_that_cannot_work_are_refused(
    stage_one: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    assert sentence in refused(capsys, "serve", "--checkpoint", stage_one / "sft", *flags)


def test_server_of_renames_and_a_client_says_what_is_read_and_what_does_not_fit(
    stage_one: Path,
) -> None:
    _, config = parse(
        [
            *("serve", "--checkpoint", str(stage_one / "sft"), "--client", "aloha"),
            *("--rename", "joints=agent_pos", "--rename", "gripper=agent_pos"),
            *("--rename", "goal=environment_state"),
        ]
    )
    assert config.renames[1] == ("gripper", "agent_pos")
    lines: list[str] = []
    server_of(config, lines.append)
    assert lines == [
        "observation.state is read from joints and then gripper",
        "observation.environment_state is read from goal",
        "openpi's aloha client expects answers of 25 x 14 actions, this checkpoint's have 1 x 2: "
        "change the client's action_horizon",
    ]


def test_serve_missing_package_is_refused(
    stage_one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nearer.serving.server", None)
    message = refused(capsys, "serve", "--checkpoint", stage_one / "sft")
    assert "pip install 'nearer[serve]'" in message
