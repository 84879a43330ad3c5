"""Check an env from the command line.

python -m nearer.testing nearer/PointMass-v0
python -m nearer.testing lerobot --env-kwargs '{"type": "so101_follower", ...}'
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from nearer.configs.flags import Flat
from nearer.core.errors import NearerError
from nearer.fleets.env_settings import EnvSettings
from nearer.testing.env_contract import check_env
from nearer.testing.env_report import EnvContractError


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckEnvConfig:
    """Try a live env, and say what is wrong with it and why.

    Attributes:
        env: Gymnasium id.
        real_robot: it is one, though not a RobotEnv.
        steps: control steps of each episode.
    """

    env: tyro.conf.Positional[str]
    real_robot: bool = False
    steps: int = 40
    env_settings: Annotated[EnvSettings, Flat] = field(default_factory=EnvSettings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report, and return 0, or 1 if there are errors."""
    config = tyro.cli(CheckEnvConfig, args=arguments, prog="python -m nearer.testing")
    try:
        real_robot = True if config.real_robot else None
        report = check_env(
            config.env, config.env_settings, real_robot=real_robot, steps=config.steps
        )
    except EnvContractError as broken:
        print(broken.report)
        return 1
    except NearerError as error:
        print(error, file=sys.stderr)
        return 1
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
