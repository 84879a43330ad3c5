"""The sizes that an env, a data set and a checkpoint must agree on."""

from dataclasses import replace

import pytest

from nearer.core.action_chunks import Chunking
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces

NEEDED = Spaces(
    agent_pos=2, environment_state=1, action=2, cameras=(Camera("top", 24, 32),), control_hz=5
)


def test_mismatch_equal_spaces_is_none() -> None:
    assert NEEDED.mismatch(NEEDED) is None


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"agent_pos": 3}, "sizes", "must have the spaces of the checkpoint, agent_pos 2"),
        ({"environment_state": 0}, "sizes", "got agent_pos 2, environment_state 0"),
        ({"action": 7}, "sizes", "action 7"),
        ({"control_hz": 10}, "rate", "must be controlled at the 5 Hz of the checkpoint, got 10 Hz"),
        ({"cameras": ()}, "camera", "must have the camera top 24x32 of the checkpoint, got none"),
        (
            {"cameras": (Camera("top", 48, 64),)},
            "camera",
            "must have the camera top 24x32 of the checkpoint, got top 48x64",
        ),
    ],
)
def test_mismatch_other_spaces_names_the_needed_and_the_given(
    change: dict[str, object], kind: str, text: str
) -> None:
    mismatch = replace(NEEDED, **change).mismatch(NEEDED)
    assert mismatch is not None
    assert mismatch.kind == kind
    assert text in mismatch.text


def test_mismatch_env_without_a_rate_and_with_more_cameras_is_none() -> None:
    more = (*NEEDED.cameras, Camera("wrist", 8, 8))
    assert replace(NEEDED, control_hz=None, cameras=more).mismatch(NEEDED) is None


def test_mismatch_without_actions_or_cameras_ignores_them() -> None:
    offered = replace(NEEDED, action=7, cameras=())
    assert offered.mismatch(NEEDED, actions=False, cameras=False) is None


def test_spaces_in_relative_chunks_without_a_joint_for_each_action_are_refused() -> None:
    spaces = Spaces(agent_pos=4, environment_state=2, action=2)
    with pytest.raises(ConfigError, match=r"--relative .* got 4 joints and 2 numbers; leave it"):
        spaces.in_chunks(Chunking(relative=True))
