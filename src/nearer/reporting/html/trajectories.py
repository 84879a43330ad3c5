"""Paths of point-mass rollouts as small multiples, ten a row: data, Stage 1, Stage 2."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

from nearer.reporting.html.colours import FRAME, GOAL, INK, MUTED, WASH
from nearer.reporting.html.run_data import Rollout
from nearer.reporting.html.svg import Paint

ROW_LENGTH = 10
_GOAL_RADIUS_M = 0.15  # of the env
_HALF_M = 1.2  # half the side of the area shown
_PITCH_M = 2 * _HALF_M + 0.22  # from tile to tile
_ROW_PITCH_M = 2 * _HALF_M + 0.78  # leaves room for the text below a tile
_NAME_WIDTH_M = 2.1
_SHADES = 8  # opacities of the dots, from the first observation to the last
_PIXELS_A_METRE = 40.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Rollouts of one policy, or of the data; the second line of a name is set in small type."""

    name: str
    colour: str
    rollouts: tuple[Rollout, ...]


def can_draw(rollouts: Sequence[Rollout]) -> bool:
    """Tell whether the arrays have the sizes of the point mass: 4 of the agent, 2 of the goal."""
    return all(
        rollout.agent_pos.ndim == 2
        and rollout.agent_pos.shape[1:] == (4,)
        and rollout.environment_state.shape == (len(rollout.agent_pos), 2)
        for rollout in rollouts
    )


def size_of(rows: Sequence[Row]) -> tuple[int, int]:
    """Return width and height of the figure, in CSS pixels."""
    width, height = _extent(rows)
    return round(width * _PIXELS_A_METRE), round(height * _PIXELS_A_METRE)


def paint_rows(rows: Sequence[Row]) -> Paint:
    """Paint all rows on one pair of axes, in metres; every tile shows the same area."""

    def paint(axes: Axes) -> None:
        width, height = _extent(rows)
        axes.set(xlim=(0, width), ylim=(-height, 0))
        axes.set_axis_off()
        for index, row in enumerate(rows):
            top = -index * _ROW_PITCH_M
            stage, _, run = row.name.partition("\n")
            bold: dict[str, Any] = {"color": row.colour, "fontsize": 12, "fontweight": "bold"}
            axes.text(0, top - _HALF_M, stage, va="center", **bold)
            axes.text(0, top - _HALF_M - 0.36, run, color=MUTED, fontsize=10, va="center")
            for column, rollout in enumerate(row.rollouts[:ROW_LENGTH]):
                _tile(axes, rollout, row.colour, _NAME_WIDTH_M + column * _PITCH_M, top)

    return paint


def _extent(rows: Sequence[Row]) -> tuple[float, float]:
    return _NAME_WIDTH_M + ROW_LENGTH * _PITCH_M, len(rows) * _ROW_PITCH_M


def _tile(axes: Axes, rollout: Rollout, colour: str, left: float, top: float) -> None:
    centre = np.array([left + _HALF_M, top - _HALF_M])
    side = 2 * _HALF_M
    frame = Rectangle((left, top - side), side, side, facecolor=WASH, edgecolor="none")
    axes.add_patch(frame)
    path = rollout.agent_pos[:, :2] + centre
    goal = rollout.environment_state[-1] + centre
    disc = Circle((goal[0], goal[1]), _GOAL_RADIUS_M, facecolor=GOAL, edgecolor="none")
    artists = [axes.add_patch(disc), *axes.plot(*path.T, color=FRAME, linewidth=0.8)]
    for part, dots in enumerate(np.array_split(path, min(_SHADES, len(path)))):
        opacity = 0.35 + 0.65 * part / (_SHADES - 1)
        style: dict[str, Any] = {"alpha": opacity, "markersize": 2.2, "markeredgewidth": 0}
        artists += axes.plot(*dots.T, "o", color=colour, **style)
    start: dict[str, Any] = {"markersize": 4.5, "markerfacecolor": "white", "markeredgewidth": 1.1}
    artists += axes.plot(*path[0], "o", markeredgecolor=INK, **start)
    for artist in artists:
        artist.set_clip_path(frame)
    words = f"{rollout.num_steps} steps" if rollout.success else f"failed at {rollout.num_steps}"
    axes.text(
        left + _HALF_M,
        top - side - 0.12,
        words,
        ha="center",
        va="top",
        fontsize=10.5,
        color=MUTED if rollout.success else INK,
        fontweight="normal" if rollout.success else "bold",
    )
