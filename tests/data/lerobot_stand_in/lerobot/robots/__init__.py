"""Configs of robots register themselves when their package is imported."""

from typing import Any

import draccus


class RobotConfig(draccus.ChoiceRegistry):
    """A robot of lerobot."""


def make_robot_from_config(config: Any) -> Any:
    from lerobot.robots.bench_arm import BenchArm

    return BenchArm(config)
