"""One board with someone asking: a simulation, an instruction, and whether it is fulfilled.

`Tabletop` is one station, `TabletopVector` many; so a row of many is bit for bit equal to one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from gymnasium.utils.seeding import np_random

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import Look, look_named
from nearer.envs.tabletop.language import Family, Task, compose, parse
from nearer.envs.tabletop.layout import (
    ACTION_LIMIT_M,
    BANANA,
    BLOCKS,
    EFFECTOR_X_M,
    EFFECTOR_Y_M,
    Block,
    Layout,
)
from nearer.envs.tabletop.simulation import CONTROL_HZ, Simulation
from nearer.envs.tabletop.tasks import draw_start, propose, solved

CAMERA = "front"
BLOCK_FAMILIES = tuple(family for family in Family if family is not Family.BANANA)
_SLACK_M = 0.05
"""How far the effector may swing beyond its target's bounds."""

ACTION_SPACE = Box(-ACTION_LIMIT_M, ACTION_LIMIT_M, (2,), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What kind of tabletop it is.

    Attributes:
        families: which instructions are given.
        control_hz: actions a second, 5 or 10.
        height, width: of the learner's pictures, in pixels.
        pictures: whether it observes any.
        blocks: what lies on the board.
    """

    families: tuple[Family, ...]
    look: Look
    control_hz: int
    height: int
    width: int
    pictures: bool
    blocks: tuple[Block, ...]

    def observation_space(self) -> Space[Any]:
        """Return the space of lerobot's keys."""
        bounds = np.transpose([EFFECTOR_X_M, EFFECTOR_Y_M]) + np.array([[-_SLACK_M], [_SLACK_M]])
        parts: dict[str, Space[Any]] = {"agent_pos": Box(*bounds.astype(np.float32))}
        if self.pictures:
            shape = (self.height, self.width, 3)
            parts["pixels"] = Dict({CAMERA: Box(0, 255, shape, np.uint8)})
        return Dict(parts)


def read_settings(
    families: Sequence[str] = BLOCK_FAMILIES,
    look: str = "sim",
    control_hz: int = CONTROL_HZ,
    height: int = 96,
    width: int = 128,
    pictures: bool = True,
    blocks: Sequence[Block | str] | None = None,
) -> Settings:
    """Return what the keyword arguments of an env mean.

    Args:
        families: names of `language.Family`.
        look: "sim" or "real".
        control_hz: actions a second, 5 or 10.
        height: of the learner's pictures, in pixels.
        width: of the learner's pictures, in pixels.
        pictures: whether it observes any.
        blocks: of LanguageTable's eight, as `Block` or "red moon"; all when left out. The board
            of the banana has no others.

    Raises:
        EnvError: one of them cannot be.
    """
    wanted = _families(families)
    _check_settings(wanted, height, width, blocks)
    return Settings(
        families=wanted,
        look=look_named(look),
        control_hz=control_hz,
        height=height,
        width=width,
        pictures=pictures,
        blocks=(BANANA,)
        if Family.BANANA in wanted
        else _blocks(BLOCKS if blocks is None else blocks),
    )


def _check_settings(
    families: Sequence[Family], height: int, width: int, blocks: Sequence[Block | str] | None
) -> None:
    if Family.BANANA in families and blocks is not None:
        raise EnvError(
            f"blocks must be left out with a banana, got {', '.join(map(str, blocks))}; "
            "a banana lies alone on its board"
        )
    if height < 1 or width < 1:
        raise EnvError(
            f"height and width must be at least one pixel, got {height} and {width}; "
            "leave pictures out with pictures=False"
        )


class Station:
    """One board, its instruction, and the generator that draws both."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._simulation = Simulation(settings.blocks, settings.look, settings.control_hz)
        self._randomness: np.random.Generator | None = None
        self._task: Task | None = None
        self.instruction = ""

    def reset(
        self, seed: int | None, *, instruction: str | None = None, keep_board: bool = False
    ) -> None:
        """Lay out the board and ask for something: both are functions of the seed alone.

        Args:
            seed: None goes on with the generator of the last seed.
            instruction: what is asked for instead of something drawn.
            keep_board: leaves everything where it is, and asks for something possible there:
                practice without a reset.

        Raises:
            EnvError: the instruction is outside the grammar or names a block that is not there,
                nothing is possible, or there is no board to keep yet.
        """
        blocks, families = self._settings.blocks, self._settings.families
        # first, so that a bad instruction changes nothing
        asked = None if instruction is None else parse(instruction, blocks)
        if keep_board and self._task is None:
            raise EnvError("keep_board must follow a reset, got the first; reset without it once")
        if seed is not None or self._randomness is None:
            self._randomness, _ = np_random(seed)
        if keep_board:
            task = asked or propose(self.layout(), families, self._randomness)
        else:
            layout, drawn = draw_start(blocks, families, self._randomness)
            self._simulation.reset(layout)
            task = asked or drawn
        self._simulation.num_clipped = 0
        self._task = task
        self.instruction = instruction or compose(task, blocks, self._randomness)

    def step(self, action: Array) -> None:
        """Let the robot act once."""
        if self._task is None:
            raise EnvError("an env must be reset before it is stepped, got step; call reset first")
        self._simulation.step(action)

    def layout(self) -> Layout:
        """Return where everything is: the simulator's truth."""
        return self._simulation.layout()

    @property
    def task(self) -> Task:
        """Return what the instruction means."""
        if self._task is None:
            raise EnvError("a task must be given first, got none; call reset")
        return self._task

    def info(self) -> dict[str, Any]:
        """Return whether the instruction is fulfilled, and how many actions were clipped."""
        is_success = self._task is not None and solved(self._task, self.layout())
        return {"is_success": is_success, "clipped": self._simulation.num_clipped}

    def agent_pos(self) -> Array:
        """Return the effector's x and y, in metres."""
        return self._simulation.effector().astype(np.float32)

    def picture(self) -> Array:
        """Return the learner's picture."""
        return self._simulation.picture(self._settings.height, self._settings.width)

    def fine_picture(self, height: int, width: int) -> Array:
        """Return a picture for people."""
        return self._simulation.fine_picture(height, width)

    def close_pictures(self) -> None:
        """Give back what this thread takes this board's pictures with."""
        self._simulation.close_pictures()


def read_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the options of a reset.

    Raises:
        EnvError: there is one that is not known.
    """
    known = {"instruction", "keep_board", "reset_mask"}
    unknown = sorted(set(options or {}) - known)
    if unknown:
        raise EnvError(f"options must be of {sorted(known)}, got {unknown}; leave them out")
    return dict(options or {})


def _families(names: Sequence[str]) -> tuple[Family, ...]:
    known = [str(family) for family in Family]
    unknown = [name for name in names if name not in known]
    if isinstance(names, str) or unknown or not names:
        raise EnvError(
            f"families must be a tuple of {', '.join(known)}, got {names!r}; leave it out for all"
        )
    families = tuple(map(Family, names))
    if Family.BANANA in families and len(families) > 1:
        raise EnvError(
            f"families must be banana alone or without it, got {', '.join(families)}; "
            "make one env for each"
        )
    return families


def _blocks(names: Sequence[Block | str]) -> tuple[Block, ...]:
    known = {str(block): block for block in BLOCKS}
    unknown = [str(name) for name in names if str(name) not in known]
    if isinstance(names, str) or unknown or not names or len(set(map(str, names))) < len(names):
        raise EnvError(
            f"blocks must be different ones of {', '.join(known)}, "
            f"got {', '.join(map(str, names)) or 'none'}; leave it out for all eight"
        )
    return tuple(known[str(name)] for name in names)
