"""The settings of every command, one file a command; nothing here imports torch or matplotlib.

flags      what flags of several commands share
folders    where a command writes unless it is told
saved      a config as run.json keeps it, and the config of a run that is continued

`nearer.configs.SFTConfig` and the others are loaded from their files when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearer.configs.collect import CollectConfig
    from nearer.configs.demo import DemoConfig
    from nearer.configs.eval import EvalConfig
    from nearer.configs.eval_reward import EvalRewardConfig
    from nearer.configs.export import ExportConfig
    from nearer.configs.improve import ImproveConfig
    from nearer.configs.label import LabelConfig
    from nearer.configs.pretrain import PretrainConfig
    from nearer.configs.push import CardConfig, PushConfig
    from nearer.configs.report import ReportConfig
    from nearer.configs.reproduce import ReproduceConfig
    from nearer.configs.serve import ServeConfig
    from nearer.configs.sft import Calibration, SFTConfig

__all__ = [
    "Calibration",
    "CardConfig",
    "CollectConfig",
    "DemoConfig",
    "EvalConfig",
    "EvalRewardConfig",
    "ExportConfig",
    "ImproveConfig",
    "LabelConfig",
    "PretrainConfig",
    "PushConfig",
    "ReportConfig",
    "ReproduceConfig",
    "SFTConfig",
    "ServeConfig",
]

_FILES = {
    "Calibration": "sft",
    "CardConfig": "push",
    "CollectConfig": "collect",
    "DemoConfig": "demo",
    "EvalConfig": "eval",
    "EvalRewardConfig": "eval_reward",
    "ExportConfig": "export",
    "ImproveConfig": "improve",
    "LabelConfig": "label",
    "PretrainConfig": "pretrain",
    "PushConfig": "push",
    "ReportConfig": "report",
    "ReproduceConfig": "reproduce",
    "SFTConfig": "sft",
    "ServeConfig": "serve",
}
"""Config -> file that defines it."""


def __getattr__(name: str) -> type:
    """Load a config when it is first used (PEP 562)."""
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
