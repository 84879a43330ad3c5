"""Environments that come with nearer, under Gymnasium ids."""

import gymnasium


def register_envs() -> None:
    """Make the ids `nearer/...` known to Gymnasium; doing it twice is harmless."""
    if "nearer/PointMass-v0" not in gymnasium.registry:
        gymnasium.register(
            id="nearer/PointMass-v0",
            entry_point="nearer.envs.point_mass:PointMass",
            vector_entry_point="nearer.envs.point_mass:PointMassVector",
        )
