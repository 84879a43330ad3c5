"""Environments that come with nearer. Importing this package registers their Gymnasium ids.

Registration names modules and imports none: MuJoCo is loaded when a tabletop is made, gym-aloha
when a pair of arms is.
"""

import re
from collections.abc import Callable
from typing import Any

import gymnasium

from nearer.core.errors import EnvError

_POINT_MASS = "nearer.envs.point_mass:PointMass"
_TABLETOP = "nearer.envs.tabletop.env:Tabletop"
_ALOHA = "nearer.envs.aloha.env:AlohaEnv"
_LEROBOT = "nearer.envs.robots.lerobot:LeRobotEnv"
LEROBOT = "lerobot"
"""The id of any robot of lerobot."""
_FAMILIES: dict[str, dict[str, object]] = {
    "Tabletop": {},
    "TabletopBlock2Block": {"families": ("block2block",)},
    "TabletopBlock2Place": {"families": ("block2place",)},
    "TabletopBlock2Relative": {"families": ("block2relative",)},
    "TabletopPoint": {"families": ("point",)},
    "TabletopSeparate": {"families": ("separate",)},
    "BananaTable": {"families": ("banana",)},
}
"""Keyword arguments by name; each name is also registered with the real appearance, as NAMEReal."""

_ALOHA_TASKS = {"AlohaInsertion": "insertion", "AlohaTransferCube": "transfer_cube"}


def register_envs() -> None:
    """Register the ids `nearer/...` and `lerobot`; ids that are registered already stay."""
    _register("PointMass", _POINT_MASS, {})
    for name, settings in _FAMILIES.items():
        _register(name, _TABLETOP, settings)
        _register(f"{name}Real", _TABLETOP, settings | {"appearance": "real"})
    for name, task in _ALOHA_TASKS.items():
        _register(name, _ALOHA, {"task": task})
    if LEROBOT not in gymnasium.registry:
        gymnasium.register(LEROBOT, _LEROBOT)


def register_env(make: Callable[..., gymnasium.Env[Any, Any]], env_id: str | None = None) -> str:
    """Make an env of one's own known by an id, and return the id, for configs and `make_fleet`.

        ENV = nearer.register_env(Cart)
        nearer.improve(ImproveConfig(env=ENV, run=RUN, out=OUT))

    It observes `agent_pos`, `environment_state` or `pixels`, as lerobot's envs do, and its `info`
    says `is_success`; see docs/python.md. Doing it twice is harmless.

    Args:
        make: an env class, or a function that makes an env.
        env_id: namespace/Name-v0; None: local/NAME-v0, by the name of the class.

    Raises:
        EnvError: the id is none, or another env has it.
    """
    env_id = f"local/{getattr(make, '__name__', '')}-v0" if env_id is None else env_id
    if not re.fullmatch(r"[\w:.-]+/[\w:.-]+-v\d+", env_id):
        raise EnvError(
            f"the id of an env must be like lab/Name-v0, got {env_id!r}; pass "
            "register_env(make, 'lab/Name-v0')"
        )
    registered = gymnasium.registry.get(env_id)
    if registered is not None and registered.entry_point is not make:
        raise EnvError(
            f"{env_id} must be an id that no other env has, got one that was registered before; "
            "pass register_env(make, 'lab/Name-v0')"
        )
    if registered is None:
        gymnasium.register(env_id, make)
    return env_id


def _register(name: str, entry_point: str, settings: dict[str, object]) -> None:
    env_id = f"nearer/{name}-v0"
    if env_id not in gymnasium.registry:
        gymnasium.register(
            id=env_id,
            entry_point=entry_point,
            vector_entry_point=f"{entry_point}Vector",
            kwargs=dict(settings),
        )


register_envs()
