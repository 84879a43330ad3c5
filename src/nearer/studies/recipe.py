"""A recipe: the configs of a whole run."""

from dataclasses import dataclass

from nearer.configs.collect import CollectConfig
from nearer.configs.eval import EvalConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import SFTConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The configs of a whole run, in the order in which they are run."""

    collect: CollectConfig
    sft: SFTConfig
    eval_sft: EvalConfig
    improve: ImproveConfig
    eval_improve: EvalConfig
