"""Settings of Stage 2 that cannot work together."""

import pytest

from nearer.algorithm.improve_settings import Practice
from nearer.core.errors import ConfigError


def test_check_room_of_action_chunks_counts_control_steps() -> None:
    practice = Practice(
        max_env_steps=1000, updates_per_iteration=2, batch_size=30, max_steps=100, discount=0.9
    )
    practice.check_room(num_robots=7, chunk=5)  # 5 * 60 + 7 * 100
    with pytest.raises(ConfigError, match=r"1060 or more, .* decisions of 6 control steps"):
        practice.check_room(num_robots=7, chunk=6)
