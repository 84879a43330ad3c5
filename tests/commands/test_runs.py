"""Runs that a command continues, and episodes as the report shows them."""

from pathlib import Path

import numpy as np
import pytest

from document_values import header
from nearer.commands.runs import drawn, saved_config
from nearer.configs.improve import ImproveConfig
from nearer.configs.saved import config_document
from nearer.configs.sft import SFTConfig
from nearer.core.episode import EncodedObservation, Ended, Episode, Observation
from nearer.core.errors import ConfigError
from nearer.runs.documents import write_header


def test_saved_config_is_the_one_that_the_run_was_started_with(tmp_path: Path) -> None:
    started = SFTConfig(data="user/name", model="mlp", out=tmp_path)
    write_header(tmp_path, header("sft", config_document(started)))
    assert saved_config(SFTConfig(out=tmp_path, resume=True)) == started


def test_saved_config_of_another_commands_run_is_refused(tmp_path: Path) -> None:
    write_header(tmp_path, header("sft", {}))
    with pytest.raises(ConfigError) as refused:
        saved_config(ImproveConfig(out=tmp_path, resume=True))
    assert str(refused.value) == (
        f"{tmp_path} must be a run of nearer improve, got one of nearer sft; continue it with that "
        "command"
    )


def test_drawn_episode_has_its_numbers_and_how_it_ended() -> None:
    observation = Observation(
        agent_pos=np.float32([[0, 1], [2, 3]]), environment_state=np.float32([[4], [5]])
    )
    episode = Episode(
        robot=0,
        seed=11,
        instruction="push it",
        policy_version=0,
        observations=EncodedObservation.without_features(observation),
        actions=np.float32([[6, 7]]),
        log_prob=np.zeros(1, np.float32),
        ended=Ended.TIME_LIMIT,
    )
    shown = drawn(episode, chunk=3)
    assert (shown.seed, shown.chunk, shown.instruction) == (11, 3, "push it")
    assert shown.agent_pos == ((0, 1), (2, 3))
    assert shown.environment_state == ((4,), (5,))
    assert shown.actions == ((6, 7),)
    assert shown.ended == "time_limit"
