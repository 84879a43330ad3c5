"""Environments that come with nearer. Importing this package registers their Gymnasium ids.

Registration names modules and imports none: MuJoCo is loaded when a tabletop is made.
"""

import gymnasium

_POINT_MASS = "nearer.envs.point_mass:PointMass"
_TABLETOP = "nearer.envs.tabletop.env:Tabletop"
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


def register_envs() -> None:
    """Register the ids `nearer/...` with Gymnasium; ids that are registered already stay."""
    _register("PointMass", _POINT_MASS, {})
    for name, settings in _FAMILIES.items():
        _register(name, _TABLETOP, settings)
        _register(f"{name}Real", _TABLETOP, settings | {"appearance": "real"})


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
