"""Find an env by its Gymnasium id, in whichever package registers it, and make it.

PointMass-v0              registered by Gymnasium or by a package that is imported
gym_pusht/PushT-v0        the package gym_pusht registers it; `Meta-World/MT1`: metaworld
ale_py:ALE/Pong-v5        the package ale_py registers it
lerobot                   a robot of lerobot; nearer.envs registers it
"""

import difflib
import inspect
import logging
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, cast

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.wrappers import TimeLimit

from nearer.core.errors import EnvError
from nearer.core.opengl import choose_backend
from nearer.fleets.env_errors import making
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings

_LOG = logging.getLogger(__name__)
AnyEnv = gymnasium.Env[Any, Any]
_OF_MAKE = tuple(
    name
    for name, parameter in inspect.signature(gymnasium.make).parameters.items()
    if name != "id" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
)
"""Keyword arguments of `gymnasium.make` itself, which every env accepts."""
_OF_NEARER = {"lerobot": "nearer.envs"}
"""Ids without a namespace -> the module of nearer that registers them."""


def make_env(env_id: str, settings: EnvSettings = AS_IT_IS, **kwargs: Any) -> AnyEnv:
    """Return one env.

    Args:
        env_id: Gymnasium id, as the module lists them.
        settings: what it is made with.
        kwargs: further arguments of `gymnasium.make`, which take precedence.

    Raises:
        EnvError: there is no such env, it has no such setting, or it cannot be made.
    """
    spec = env_spec(env_id)
    check_kwargs(spec, settings.kwargs)
    # Without Gymnasium's checker, which only warns: the fleet refuses what is wrong (`checked`).
    arguments = {"disable_env_checker": True}
    arguments |= {name: value for name, value in settings.kwargs.items() if name in _OF_MAKE}
    # The rest goes by the spec: an env's own `id`, as a robot has one, would be taken for make's.
    rest = {name: value for name, value in settings.kwargs.items() if name not in _OF_MAKE}
    with making(env_id):
        return gymnasium.make(replace(spec, kwargs={**spec.kwargs, **rest}), **arguments | kwargs)


def env_spec(env_id: str) -> EnvSpec:
    """Return what an env was registered as, once the package that registers it is imported.

    Raises:
        EnvError: no package that can be imported registers it; the sentence names those tried.
    """
    choose_backend()
    module, colon, name = env_id.rpartition(":")
    candidates = [module] if colon else _packages(name)
    if name in _OF_NEARER and not colon:
        candidates = [_OF_NEARER[name]]
    tried: list[str] = []
    for candidate in candidates:
        if name in gymnasium.registry and not colon:
            break
        if _exists(candidate):
            with making(env_id):
                import_module(candidate)
            tried.append(f"imported {candidate}")
        else:
            tried.append(f"no module named {candidate}")
    if name not in gymnasium.registry:
        raise EnvError(
            f"the env must be a registered Gymnasium id, got {env_id!r}{_told(tried)}; "
            f"{_advice(name, bool(colon))}"
        )
    return gymnasium.registry[name]


def portable_spec(env_id: str) -> EnvSpec:
    """Return what an env was registered as, for `register_here` in another process.

    An env that a script registers is unknown there.

    Raises:
        EnvError: there is no such env, or what makes it has no name in another process.
    """
    spec = env_spec(env_id)
    try:
        pickle.dumps(spec)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise EnvError(
            f"{env_id} must be made by a class or function that other processes can import, got "
            f"{spec.entry_point}: {error}; move it to the top of a module, or choose --fleet "
            "lockstep"
        ) from error
    return spec


def register_here(spec: EnvSpec) -> None:
    """Register an env of another process, unless this one knows it."""
    gymnasium.registry.setdefault(spec.id, spec)


def time_limit(env: AnyEnv) -> int | None:
    """Return the control steps after which Gymnasium ends an episode of an env; None: never.

    What an env's own code wraps it in may end an episode before its registered limit.
    """
    return min(_limits(env), default=None)


def _limits(env: Any) -> Iterator[int]:
    """Yield the limits of the wrappers of an env."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            yield cast(Any, env)._max_episode_steps
        env = cast(Any, env).env


def tell_time_limit(env: AnyEnv, env_id: str, settings: EnvSettings, max_steps: int) -> None:
    """Warn where Gymnasium ends an episode of an env before `max_steps` control steps."""
    limit = time_limit(env)
    if limit is None or limit >= max_steps:
        return
    of_make = settings.kwargs.get("max_episode_steps") or env_spec(env_id).max_episode_steps
    advice = (
        f"to go on, pass --env-kwargs max_episode_steps={max_steps}"
        if limit == of_make
        else f"its own code does so, choose --max-steps {limit}"
    )
    _LOG.warning(
        "%s ends its episodes after %d steps, before --max-steps %d; %s",
        *(env_id, limit, max_steps, advice),
    )


def env_class(env_id: str) -> str:
    """Return the last part of an id, such as PushT-v0: what a data set calls its robot."""
    return env_id.rpartition(":")[2].rpartition("/")[2]


def observation_advice(spec: EnvSpec | None) -> str:
    """Return which settings of an env may change what it observes, for the end of a refusal."""
    if spec is None:
        return ""
    defaults = _settings_of(spec) or {}
    names = [name for name, value in defaults.items() if "obs" in name and isinstance(value, str)]
    if not names:
        return ""
    examples = " ".join(f"{name}=... (now {defaults[name]})" for name in names)
    return f"choose what it observes with --env-kwargs {examples}, or "


def check_kwargs(spec: EnvSpec, kwargs: Mapping[str, Any]) -> None:
    """Raise EnvError unless an env accepts these keyword arguments."""
    accepted = _settings_of(spec)
    if accepted is None:
        return
    for name in kwargs:
        if name not in (*accepted, *_OF_MAKE):
            there = ", ".join(accepted) or "none"
            raise EnvError(
                f"--env-kwargs must name settings of {spec.id}, got {name}; it has {there}"
            )


def _settings_of(spec: EnvSpec) -> dict[str, object] | None:
    """Return an env's keyword arguments and their values; None: it accepts any, or who knows."""
    try:
        creator = spec.entry_point
        creator = load_env_creator(creator) if isinstance(creator, str) else creator
        if creator is None:
            return None
        parameters = inspect.signature(cast(Any, creator)).parameters.values()
    except (ImportError, AttributeError, TypeError, ValueError):
        return None
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return {parameter.name: parameter.default for parameter in parameters} | dict(spec.kwargs)


def _packages(name: str) -> list[str]:
    """Return which packages may register an id such as `Meta-World/MT1`: those of its namespace.

    Its envs are registered by the package or by its module `envs`.
    """
    namespace, slash, _ = name.partition("/")
    if not slash:
        return []
    word = namespace.replace("-", "_")
    spellings = dict.fromkeys((word, word.lower(), word.replace("_", "").lower()))
    packages = [spelling for spelling in spellings if spelling.isidentifier()]
    return [
        module
        for package in packages
        for module in ((package, f"{package}.envs") if _exists(package) else (package,))
    ]


def _exists(module: str) -> bool:
    """Tell whether a module can be imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # of a package that is not there, or no name of a module
        return False


def _told(tried: list[str]) -> str:
    return f" ({', '.join(tried)})" if tried else ""


def _advice(name: str, module_named: bool) -> str:
    close = difflib.get_close_matches(name, list(gymnasium.registry), n=1, cutoff=0.4)
    if close:
        return f"did you mean {close[0]}?"
    if module_named:
        return "install the package, or put its folder on PYTHONPATH"
    return "install the package that registers it, or name that as PACKAGE:ID"
