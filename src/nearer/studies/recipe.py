"""A recipe: the configs of a whole run."""

from dataclasses import dataclass

from nearer.configs import CollectConfig, EvalConfig, ImproveConfig, SFTConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The configs of a whole run, in the order in which they are run."""

    collect: CollectConfig
    sft: SFTConfig
    eval_sft: EvalConfig
    improve: ImproveConfig
    eval_improve: EvalConfig
