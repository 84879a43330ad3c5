"""The tabletop as MuJoCo models: one for physics, one for rendering.

Blocks slide in x and y and turn about z; nothing falls or tips, which is five times as fast as free
bodies. The physics model has no visual geometry, the render model no colliders; both have the same
coordinates, so an image is a function of `qpos`.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nearer.core.arrays import Array
from nearer.envs.gl import Model, mujoco
from nearer.envs.tabletop.appearance import Appearance
from nearer.envs.tabletop.layout import (
    BANANA,
    BLOCK_HEIGHT_M,
    BLOCK_X_M,
    BLOCK_Y_M,
    EFFECTOR_RADIUS_M,
    WORKSPACE_X_M,
    WORKSPACE_Y_M,
    Block,
)
from nearer.envs.tabletop.meshes import (
    Mesh,
    banana_tips,
    block_mesh,
    prism_corners,
    radius_of_gyration_m,
    shape,
)
from nearer.envs.tabletop.textures import wood

TIMESTEP_S = 1 / 150
"""When blocks are pushed by 30 mm a step, 99 % of overlaps are below 1.4 mm; with a timestep of
10 ms, below 2.4 mm."""
_CONTACT_S = 2 * TIMESTEP_S
"""Time constant of a contact: the stiffest that MuJoCo allows is two timesteps."""
_EFFECTOR_MASS_KG = 0.2
_EFFECTOR_FORCE_N = 3.0
# critically damped (d = 2 sqrt(k m)): after 0.2 s the effector has gone 97 % of its way
_EFFECTOR_STIFFNESS_N_M, _EFFECTOR_DAMPING_NS_M = 150.0, 11.0
# blocks touch everything; the effector passes over the rim
_BLOCK_TOUCHES = {"contype": 1, "conaffinity": 3}
_EFFECTOR_TOUCHES = {"contype": 2, "conaffinity": 0}
_RIM_TOUCHES = {"contype": 1, "conaffinity": 1}
_EFFECTOR_TIP_M, _EFFECTOR_TOP_M = 0.01, 0.1
_RIM_HEIGHT_M, _RIM_WIDTH_M = 0.008, 0.01
_BOARD_MARGIN_M = 0.022
_BANANA_AXIS_M = 0.017
_FLOOR_Z_M, _FLOOR_HALF_M = -0.02, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Rendering quality of an image.

    A software renderer spends its time on faces, shadow maps and samples, hardly on pixels.

    Attributes:
        chamfer_m: of the blocks' edges; none when zero.
        round_sides: number of sides of the effector's cylinder.
        samples: a pixel; 0 for no anti-aliasing.
        shadow_map: its edge in pixels; 0 for no shadows.
    """

    chamfer_m: float
    round_sides: int
    samples: int
    shadow_map: int


OBSERVATION_QUALITY = Quality(chamfer_m=0.0, round_sides=12, samples=4, shadow_map=0)
PRESENTATION_QUALITY = Quality(chamfer_m=0.0015, round_sides=32, samples=4, shadow_map=1024)


def physics_model(blocks: Sequence[Block], appearance: Appearance) -> Model:
    """Return the model that is stepped; qpos is x, y, yaw of each block, then the effector's x, y.

    Elliptic friction cones, and few iterations of Newton's solver: contacts are few, and
    warm-started from the step before.
    """
    root = _root(TIMESTEP_S)
    _add(
        _section(root, "default"),
        "geom",
        friction=(appearance.friction, 0, 0),
        solref=(_CONTACT_S, 1),
    )
    world = _section(root, "worldbody")
    for block in blocks:
        _add_colliders(_add_block_body(world, block, appearance), _section(root, "asset"), block)
    if BANANA in blocks:
        _add_rim_colliders(world)
    effector = _add_effector_body(world)
    # seen from the side a capsule is a cylinder, and it collides faster
    capsule = {"type": "capsule", "size": (EFFECTOR_RADIUS_M, 0.04)}
    _add(effector, "geom", pos=(0, 0, BLOCK_HEIGHT_M / 2), **capsule, **_EFFECTOR_TOUCHES)
    for axis in "xy":
        _add(
            _section(root, "actuator"),
            "position",
            joint=f"effector {axis}",
            kp=_EFFECTOR_STIFFNESS_N_M,
            kv=_EFFECTOR_DAMPING_NS_M,
            forcerange=(-_EFFECTOR_FORCE_N, _EFFECTOR_FORCE_N),
        )
    return _compiled(root, {})


def render_model(
    blocks: Sequence[Block], appearance: Appearance, quality: Quality, height: int, width: int
) -> Model:
    """Return the model that is rendered; it is never stepped."""
    root = _root(TIMESTEP_S)
    _add(root, "statistic", center=(0.375, 0, 0), extent=1)
    _set_quality(_section(root, "visual"), appearance, quality, height, width)
    world = _section(root, "worldbody")
    _add_camera_and_lights(world, appearance, height / width)
    _add_board(world, _section(root, "asset"), appearance)
    for word in sorted({block.shape for block in blocks}):
        _add_mesh(_section(root, "asset"), word, block_mesh(word, quality.chamfer_m))
    for block in blocks:
        body = _add_block_body(world, block, appearance)
        _add_visual(body, "mesh", appearance.colours[block.colour], mesh=block.shape)
        if block == BANANA:
            _add_banana_tips(body, appearance)
    half = (_EFFECTOR_TOP_M - _EFFECTOR_TIP_M) / 2
    _add_visual(
        _add_effector_body(world),
        "cylinder",
        appearance.effector,
        size=(EFFECTOR_RADIUS_M, half),
        pos=(0, 0, _EFFECTOR_TIP_M + half),
    )
    return _compiled(root, {"board.png": _png(wood(appearance.board))} if appearance.wood else {})


def _root(timestep_s: float) -> Element:
    root = Element("mujoco")
    _add(root, "compiler", angle="radian")
    option = _add(
        root,
        "option",
        timestep=timestep_s,
        integrator="implicitfast",
        cone="elliptic",
        iterations=5,
    )
    _add(option, "flag", gravity="disable")
    return root


def _add_block_body(world: Element, block: Block, appearance: Appearance) -> Element:
    """Add a body that slides and turns on the board, with viscous drag spread over its area."""
    body = _add(world, "body", name=str(block))
    yaw_inertia = appearance.block_mass_kg * radius_of_gyration_m(block.shape) ** 2
    centre = (0, 0, BLOCK_HEIGHT_M / 2)
    inertia = (yaw_inertia,) * 3
    _add(body, "inertial", pos=centre, mass=appearance.block_mass_kg, diaginertia=inertia)
    braking = appearance.block_mass_kg * appearance.drag_per_s
    for axis, limits in (((1, 0, 0), BLOCK_X_M), ((0, 1, 0), BLOCK_Y_M)):
        # the rim limits the joints; a banana is long and yaws, so its rim is made of walls
        rim = {"limited": "true", "range": limits} if block != BANANA else {}
        _add(body, "joint", type="slide", axis=axis, damping=braking, **rim)
    _add(body, "joint", type="hinge", axis=(0, 0, 1), damping=yaw_inertia * appearance.drag_per_s)
    return body


def _add_effector_body(world: Element) -> Element:
    body = _add(world, "body", name="effector")
    _add(body, "inertial", pos=(0, 0, 0), mass=_EFFECTOR_MASS_KG, diaginertia=(1e-3,) * 3)
    _add(body, "joint", name="effector x", type="slide", axis=(1, 0, 0))
    _add(body, "joint", name="effector y", type="slide", axis=(0, 1, 0))
    return body


def _add_colliders(body: Element, assets: Element, block: Block) -> None:
    outline = shape(block.shape)
    for number, piece in enumerate(outline.pieces):
        name = f"{block.shape} {number}"
        if assets.find(f"mesh[@name='{name}']") is None:
            corners = prism_corners(outline.points[list(piece)], BLOCK_HEIGHT_M)
            _add(assets, "mesh", name=name, vertex=corners)
        _add(body, "geom", type="mesh", mesh=name, **_BLOCK_TOUCHES)


def _add_rim_colliders(world: Element) -> None:
    """Add a wall along each edge of the workspace, which the effector passes through."""
    for centre, half in _rim_boxes(0.05):
        _add(world, "geom", type="box", pos=(*centre, 0), size=(*half, 0.05), **_RIM_TOUCHES)


def _rim_boxes(width_m: float) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return centre and half size of the four sides of a frame around the workspace."""
    (near, far), (right, left) = WORKSPACE_X_M, WORKSPACE_Y_M
    middle, half_x, half_y = (near + far) / 2, (far - near) / 2, (left - right) / 2
    half = width_m / 2
    return [
        ((near - half, 0.0), (half, half_y + width_m)),
        ((far + half, 0.0), (half, half_y + width_m)),
        ((middle, right - half), (half_x, half)),
        ((middle, left + half), (half_x, half)),
    ]


def _set_quality(
    visual: Element, appearance: Appearance, quality: Quality, height: int, width: int
) -> None:
    dark = (0, 0, 0)
    ambient = (appearance.ambient,) * 3
    _add(visual, "global", offheight=height, offwidth=width)
    _add(visual, "headlight", ambient=ambient, diffuse=dark, specular=dark)
    _add(
        visual,
        "quality",
        shadowsize=quality.shadow_map,
        offsamples=quality.samples,
        numslices=quality.round_sides,
        numstacks=2,
        numquads=1,
    )
    _add(visual, "map", znear=0.1, zfar=10, shadowclip=1.3)


def _add_camera_and_lights(world: Element, appearance: Appearance, height_to_width: float) -> None:
    right, up, _ = appearance.camera.axes()
    _add(
        world,
        "camera",
        pos=appearance.camera.position_m,
        xyaxes=(*right, *up),
        fovy=np.rad2deg(appearance.camera.vertical_view_rad(height_to_width)),
    )
    for light in appearance.lights:
        _add(
            world,
            "light",
            directional="true",
            pos=np.array([0.375, 0, 0]) - light.direction,
            dir=light.direction,
            diffuse=(light.brightness,) * 3,
            specular=(light.brightness * 0.5,) * 3,
            castshadow=str(light.casts_shadow).lower(),
        )


def _add_board(world: Element, assets: Element, appearance: Appearance) -> None:
    (near, far), (_, left) = WORKSPACE_X_M, WORKSPACE_Y_M
    middle = (near + far) / 2
    half = (far - middle + _BOARD_MARGIN_M, left + _BOARD_MARGIN_M)
    floor = (_FLOOR_HALF_M, _FLOOR_HALF_M, 1)
    _add_visual(world, "plane", appearance.floor, size=floor, pos=(0, 0, _FLOOR_Z_M))
    slab = (*half, 0.009)
    _add_visual(world, "box", appearance.rim, size=slab, pos=(middle, 0, -0.01))
    top: dict[str, tuple[float, ...]] = {"size": (*half, 1), "pos": (middle, 0, 0)}
    if appearance.wood:
        _add(assets, "texture", name="board", type="2d", file="board.png")
        _add(assets, "material", name="board", texture="board", texuniform="false")
        _add_visual(world, "plane", (1, 1, 1), material="board", **top)
    else:
        _add_visual(world, "plane", appearance.board, **top)
    for centre, (half_x, half_y) in _rim_boxes(_RIM_WIDTH_M):
        size = (half_x, half_y, _RIM_HEIGHT_M / 2)
        _add_visual(world, "box", appearance.rim, size=size, pos=(*centre, _RIM_HEIGHT_M / 2))


def _add_banana_tips(body: Element, appearance: Appearance) -> None:
    for (x, y), half in zip(banana_tips(), (0.010, 0.004), strict=True):
        place = {"pos": (x, y, _BANANA_AXIS_M), "euler": (np.pi / 2, 0, np.pi)}
        _add_visual(body, "cylinder", appearance.rim, size=(0.005, half), **place)


def _add_visual(parent: Element, kind: str, colour: tuple[float, ...], **attributes: Any) -> None:
    _add(parent, "geom", type=kind, rgba=(*colour, 1), contype=0, conaffinity=0, **attributes)


def _add_mesh(assets: Element, name: str, mesh: Mesh) -> None:
    """Add a visual mesh; it has no bottom, so its inertia must be computed as that of a shell."""
    _add(
        assets,
        "mesh",
        name=name,
        vertex=mesh.vertices,
        normal=mesh.normals,
        face=mesh.faces,
        inertia="shell",
    )


def _section(root: Element, tag: str) -> Element:
    """Return a section of the model, adding it when it is not there."""
    section = root.find(tag)
    return SubElement(root, tag) if section is None else section


def _add(parent: Element, tag: str, **attributes: Any) -> Element:
    """Add an element; numbers and arrays are written as MuJoCo reads them."""
    return SubElement(parent, tag, {key: _text(value) for key, value in attributes.items()})


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return " ".join(f"{number:.9g}" for number in np.ravel(value))


def _png(image: UInt8[Array, "h w c"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="png")
    return file.getvalue()


def _compiled(root: Element, files: dict[str, bytes]) -> Model:
    return mujoco.MjModel.from_xml_string(tostring(root, encoding="unicode"), files)
