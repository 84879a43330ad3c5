"""The two appearances of the tabletop: the plain simulator, and a stand-in for a real robot.

They differ in what a policy sees (colours, textures, lights, camera) and in what its actions do
(friction, mass, delay), so that transfer from one to the other can be studied.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nearer.core.errors import EnvError
from nearer.envs.tabletop.camera import PinholeCamera

Colour = tuple[float, float, float]
"""Red, green and blue, each in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """A directional light.

    Attributes:
        direction: in which the light travels.
        brightness: of a white surface that faces it, in [0, 1].
        casts_shadow: in images of `PRESENTATION_QUALITY`; observations have no shadows.
    """

    direction: tuple[float, float, float]
    brightness: float
    casts_shadow: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Appearance:
    """Colours, lights, camera and contact dynamics of a tabletop.

    Attributes:
        ambient: brightness of a white surface that no light reaches, in [0, 1].
        colours: of the blocks, by the word that names it.
        wood: whether the board has a wood grain; else it is plain.
        block_mass_kg: of each block; below 0.1 kg blocks jam when they are squeezed.
        drag_per_s: deceleration of a block on the board relative to its speed. Drag is viscous:
            force and torque are proportional to the velocity.
        friction: Coulomb's coefficient, between a block and what pushes it.
        delay_steps: control steps between an action and its effect.
    """

    name: str
    camera: PinholeCamera
    lights: tuple[Light, ...]
    ambient: float
    colours: Mapping[str, Colour]
    board: Colour
    rim: Colour
    floor: Colour
    effector: Colour
    wood: bool
    block_mass_kg: float
    drag_per_s: float
    friction: float
    delay_steps: int


SIM = Appearance(
    name="sim",
    camera=PinholeCamera(
        position_m=(0.83, 0.0, 0.684),
        target_m=(0.435, 0.0, 0.0),
        roll_rad=0.0,
        field_of_view_rad=np.deg2rad(42),
    ),
    lights=(
        Light(direction=(-0.3, 0.25, -1.0), brightness=0.5, casts_shadow=True),
        Light(direction=(0.5, -0.5, -1.0), brightness=0.15, casts_shadow=False),
    ),
    ambient=0.42,
    colours={
        "red": (0.86, 0.13, 0.12),
        "blue": (0.13, 0.31, 0.86),
        "green": (0.10, 0.62, 0.25),
        "yellow": (0.98, 0.80, 0.10),
    },
    board=(0.80, 0.80, 0.78),
    rim=(0.45, 0.47, 0.50),
    floor=(0.30, 0.32, 0.35),
    effector=(0.13, 0.12, 0.16),
    wood=False,
    block_mass_kg=0.2,
    drag_per_s=25.0,
    friction=0.4,
    delay_steps=0,
)

REAL = Appearance(
    name="real",
    camera=PinholeCamera(
        position_m=(0.85, 0.058, 0.628),
        target_m=(0.46, 0.01, 0.0),
        roll_rad=np.deg2rad(2.0),
        field_of_view_rad=np.deg2rad(46),
    ),
    lights=(
        Light(direction=(-0.2, -0.7, -1.0), brightness=0.5, casts_shadow=True),
        Light(direction=(-0.7, 0.6, -1.0), brightness=0.25, casts_shadow=False),
    ),
    ambient=0.3,
    colours={
        "red": (0.72, 0.16, 0.15),
        "blue": (0.16, 0.34, 0.66),
        "green": (0.22, 0.52, 0.28),
        "yellow": (0.90, 0.72, 0.20),
    },
    board=(0.74, 0.55, 0.37),
    rim=(0.30, 0.22, 0.16),
    floor=(0.20, 0.19, 0.19),
    effector=(0.20, 0.17, 0.20),
    wood=True,
    block_mass_kg=0.15,
    drag_per_s=40.0,
    friction=0.7,
    delay_steps=1,
)

APPEARANCES: Mapping[str, Appearance] = {appearance.name: appearance for appearance in (SIM, REAL)}


def appearance_named(name: str) -> Appearance:
    """Return an appearance by its name.

    Raises:
        EnvError: there is none of that name.
    """
    if name not in APPEARANCES:
        raise EnvError(f"appearance must be sim or real, got {name!r}; leave it out for sim")
    return APPEARANCES[name]
