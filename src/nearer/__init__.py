"""Robots that get better by practising: two-stage post-training of embodied foundation models.

The public names, each loaded when it is first used: `import nearer` itself imports nothing.

    collect, label                env or data set  -> LeRobotDataset, labels beside it
    sft, improve, evaluate        Stage 1, Stage 2 and a measurement of either
    configs                       their settings
    register_env, make_fleet      an env of one's own, and copies of it that practise
    Agent, RewardModel            a trained policy and reward model, on observations in numpy
    from_pretrained               the same as torch modules
    Observation, Episode, ...     the values and contracts between them, to implement your own
    testing                       contract tests for what you implemented

docs/python.md shows them in use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearer import configs, testing
    from nearer.algorithm.model import FoundationModel
    from nearer.commands.collect import collect_demonstrations as collect
    from nearer.commands.eval import run_eval as evaluate
    from nearer.commands.improve import run_improve as improve
    from nearer.commands.label import run_label as label
    from nearer.commands.sft import run_sft as sft
    from nearer.core.episode import Episode, Observation, ScoredEpisode
    from nearer.core.errors import NearerError
    from nearer.core.interfaces import Fleet, Policy, TerminationRule
    from nearer.core.spaces import Spaces
    from nearer.core.vision import VisionEncoder
    from nearer.envs import register_env
    from nearer.evaluation.reward_model import RewardModel
    from nearer.fleets.gym import make_fleet
    from nearer.models.pretrained import from_pretrained
    from nearer.serving.agent import Agent

    __version__: str

__all__ = [
    "Agent",
    "Episode",
    "Fleet",
    "FoundationModel",
    "NearerError",
    "Observation",
    "Policy",
    "RewardModel",
    "ScoredEpisode",
    "Spaces",
    "TerminationRule",
    "VisionEncoder",
    "__version__",
    "collect",
    "configs",
    "evaluate",
    "from_pretrained",
    "improve",
    "label",
    "make_fleet",
    "register_env",
    "sft",
    "testing",
]

_WHERE = {
    "Agent": "nearer.serving.agent:Agent",
    "Episode": "nearer.core.episode:Episode",
    "Fleet": "nearer.core.interfaces:Fleet",
    "FoundationModel": "nearer.algorithm.model:FoundationModel",
    "NearerError": "nearer.core.errors:NearerError",
    "Observation": "nearer.core.episode:Observation",
    "Policy": "nearer.core.interfaces:Policy",
    "RewardModel": "nearer.evaluation.reward_model:RewardModel",
    "ScoredEpisode": "nearer.core.episode:ScoredEpisode",
    "Spaces": "nearer.core.spaces:Spaces",
    "TerminationRule": "nearer.core.interfaces:TerminationRule",
    "VisionEncoder": "nearer.core.vision:VisionEncoder",
    "collect": "nearer.commands.collect:collect_demonstrations",
    "configs": "nearer.configs",
    "evaluate": "nearer.commands.eval:run_eval",
    "from_pretrained": "nearer.models.pretrained:from_pretrained",
    "improve": "nearer.commands.improve:run_improve",
    "label": "nearer.commands.label:run_label",
    "make_fleet": "nearer.fleets.gym:make_fleet",
    "register_env": "nearer.envs:register_env",
    "sft": "nearer.commands.sft:run_sft",
    "testing": "nearer.testing",
}
"""Public name -> module, or module:name, that it is loaded from."""


def __getattr__(name: str) -> object:
    """Load a public name when it is first used (PEP 562), and keep it."""
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("nearer")
    elif name in _WHERE:
        module, _, member = _WHERE[name].partition(":")
        value = import_module(module)
        value = getattr(value, member) if member else value
    else:
        raise AttributeError(_unknown(name), name=name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _unknown(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, __all__, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(__all__)}"
    return f"module 'nearer' has no attribute {name!r}{hint}"
