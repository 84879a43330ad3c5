"""The settings of every command, one file a command; nothing here imports torch or matplotlib.

    flags      what flags of several commands share
    folders    where a command writes without --out
    saved      a config as run.json keeps it, and the config of a run that is continued

`nearer.configs.SFTConfig` and the others are loaded when they are first used, and so are the parts
that they are made of, such as `nearer.configs.SFTTraining`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearer.algorithm.early_stopping import PlateauRule
    from nearer.algorithm.improve_settings import Deviations, Practice
    from nearer.algorithm.sft_settings import SFTTraining
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
    from nearer.configs.watch import WatchConfig
    from nearer.core.action_chunks import Chunking
    from nearer.evaluation.audit_settings import AuditPlan
    from nearer.models.settings import MLPConfig, SmallVLAConfig, VLMConfig

__all__ = [
    "AuditPlan",
    "Calibration",
    "CardConfig",
    "Chunking",
    "CollectConfig",
    "DemoConfig",
    "Deviations",
    "EvalConfig",
    "EvalRewardConfig",
    "ExportConfig",
    "ImproveConfig",
    "LabelConfig",
    "MLPConfig",
    "PlateauRule",
    "Practice",
    "PretrainConfig",
    "PushConfig",
    "ReportConfig",
    "ReproduceConfig",
    "SFTConfig",
    "SFTTraining",
    "ServeConfig",
    "SmallVLAConfig",
    "VLMConfig",
    "WatchConfig",
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
    "WatchConfig": "watch",
}
"""Config -> file that defines it."""

_PARTS = {
    "AuditPlan": "nearer.evaluation.audit_settings",
    "Chunking": "nearer.core.action_chunks",
    "Deviations": "nearer.algorithm.improve_settings",
    "MLPConfig": "nearer.models.settings",
    "PlateauRule": "nearer.algorithm.early_stopping",
    "Practice": "nearer.algorithm.improve_settings",
    "SFTTraining": "nearer.algorithm.sft_settings",
    "SmallVLAConfig": "nearer.models.settings",
    "VLMConfig": "nearer.models.settings",
}
"""Part of a config -> module that defines it, beside what it sets."""


def __getattr__(name: str) -> type:
    """Load a config when it is first used (PEP 562)."""
    if name in _PARTS:
        return getattr(import_module(_PARTS[name]), name)
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)
