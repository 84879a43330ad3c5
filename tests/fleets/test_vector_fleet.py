"""A vectorised env of which some rows are reset and stepped while others stand still."""

from typing import Any, ClassVar

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Text
from gymnasium.vector import AutoresetMode, VectorEnv

from nearer.core.errors import EnvError
from nearer.fleets.gym import VectorFleet


class Rows(VectorEnv[Any, Any, Any]):
    """Rows that were never reset hold nan; it steps all rows at once."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.DISABLED}
    single_observation_space = Dict({"agent_pos": Box(-9, 9, (1,))})
    single_action_space = Box(-1, 1, (1,))
    num_envs = 3
    task = "go on"

    def __init__(self) -> None:
        self.values = np.full((3, 1), np.nan, np.float32)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        mask = options["reset_mask"]
        self.values[mask] = 0
        return {"agent_pos": self.values.copy()}, {}

    def step(self, actions: Any) -> Any:
        self.values += actions
        ended = np.zeros(3, dtype=bool)
        return {"agent_pos": self.values.copy()}, ended, ended, ended, {"success": ended}


def test_rows_that_stand_still_may_hold_anything() -> None:
    fleet = VectorFleet(Rows())
    some = np.array([2, 0])
    starts = fleet.reset(some, [5, 6])
    assert starts.observation.agent_pos.tolist() == [[0], [0]]
    assert list(starts.instructions) == ["go on", "go on"]
    sensed = fleet.step(some, np.array([[0.5], [1.0]], np.float32))
    assert sensed.observation.agent_pos.tolist() == [[0.5], [1.0]]
    assert fleet.ground_truth(some).tolist() == [False, False]


def test_rows_that_act_are_checked() -> None:
    fleet = VectorFleet(Rows())
    fleet.reset(np.array([0]), [5])
    with pytest.raises(EnvError, match="must observe finite numbers, got nan in agent_pos"):
        fleet.step(np.array([1]), np.zeros((1, 1), np.float32))


def test_what_an_env_observes_and_nobody_reads_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class More(Rows):
        single_observation_space = Dict({"agent_pos": Box(-9, 9, (1,)), "goal": Box(-9, 9, (2,))})

    VectorFleet(Rows())
    assert not caplog.messages
    VectorFleet(More())
    assert caplog.messages == [
        "More observes goal besides, which is not read; --rename goal=agent_pos reads it"
    ]


def test_an_unread_image_is_named_as_a_camera_and_text_as_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Seeing(Rows):
        single_observation_space = Dict(
            {"agent_pos": Box(-9, 9, (1,)), "a_task": Text(9), "wrist": Box(0, 255, (3, 8, 8))}
        )

    class Reading(Rows):
        single_observation_space = Dict({"agent_pos": Box(-9, 9, (1,)), "task": Text(9)})

    VectorFleet(Seeing())
    VectorFleet(Reading())
    assert caplog.messages == [
        "Seeing observes a_task, wrist besides, which is not read; --rename wrist=pixels/wrist "
        "reads it",
        "Reading observes task besides, which is not read",
    ]


def test_info_that_is_no_dict_is_refused() -> None:
    class Silent(Rows):
        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return super().reset(seed=seed, options=options)[0], None

    with pytest.raises(EnvError, match="must report a dict as info, got None"):
        VectorFleet(Silent()).reset(np.array([0]), [5])
