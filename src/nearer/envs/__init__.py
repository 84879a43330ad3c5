"""Environments that come with nearer, under Gymnasium ids."""

import gymnasium

_TABLETOPS: dict[str, dict[str, object]] = {
    "Tabletop": {},
    "TabletopBlock2Block": {"families": ("block2block",)},
    "TabletopBlock2Place": {"families": ("block2place",)},
    "TabletopBlock2Relative": {"families": ("block2relative",)},
    "TabletopPoint": {"families": ("point",)},
    "TabletopSeparate": {"families": ("separate",)},
    "BananaTable": {"families": ("banana",)},
}


def register_envs() -> None:
    """Make the ids `nearer/...` known to Gymnasium; doing it twice is harmless.

    Names of modules only: MuJoCo is imported when a tabletop is made.
    """
    _register("PointMass", "nearer.envs.point_mass:PointMass", {})
    for name, settings in _TABLETOPS.items():
        _register(name, "nearer.envs.tabletop.env:Tabletop", settings)
        _register(f"{name}Real", "nearer.envs.tabletop.env:Tabletop", settings | {"look": "real"})


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
