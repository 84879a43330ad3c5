"""Settings of `nearer card` and `nearer push`."""

import re
from dataclasses import dataclass
from pathlib import Path

import tyro

from nearer.core.errors import ConfigError
from nearer.runs.hub import check_hub_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CardConfig:
    """Write the model card of a run, without a network.

    Attributes:
        run: of nearer sft or nearer improve.
        name: of the model on the hub.
        evaluation: eval_info.json of its policy; none: eval/ in the run.
        license: of the weights; none: apache-2.0, or left open if others' weights are in it.
        out: file; none: it is printed.
    """

    run: tyro.conf.Positional[Path]
    name: str = "user/name"
    evaluation: Path | None = None
    license: str | None = None
    out: Path | None = None

    def __post_init__(self) -> None:
        check_hub_id(self.name)
        _check_license(self.license)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushConfig:
    """Upload a run's policy, reward, calibration and model card to the Hugging Face hub.

    Attributes:
        run: of nearer sft or nearer improve.
        name: of the model on the hub, user/name.
        private: only you see it, if it is new.
        evaluation: eval_info.json of its policy; none: eval/ in the run.
        license: of the weights; none: apache-2.0, or left open if others' weights are in it.
    """

    run: tyro.conf.Positional[Path]
    name: tyro.conf.Positional[str]
    private: bool = False
    evaluation: Path | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        check_hub_id(self.name)
        _check_license(self.license)


def _check_license(name: str | None) -> None:
    if name is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,60}", name):
        raise ConfigError(
            "--license must be an identifier of the hub's such as apache-2.0, mit or other, got "
            f"{name!r}; see the list in the hub's documentation"
        )
