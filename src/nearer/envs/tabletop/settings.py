"""Settings of a tabletop env, its spaces, and the options of a reset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from jaxtyping import Bool

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.appearance import Appearance, appearance_named
from nearer.envs.tabletop.language import InstructionFamily
from nearer.envs.tabletop.layout import (
    ACTION_LIMIT_M,
    BANANA,
    BLOCKS,
    EFFECTOR_X_M,
    EFFECTOR_Y_M,
    Block,
)
from nearer.envs.tabletop.simulation import CONTROL_HZ

CAMERA = "front"
BLOCK_FAMILIES = tuple(
    family for family in InstructionFamily if family is not InstructionFamily.BANANA
)
_OVERSHOOT_M = 0.05
"""How far the effector may swing beyond its target's bounds."""

ACTION_SPACE = Box(-ACTION_LIMIT_M, ACTION_LIMIT_M, (2,), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class TabletopSettings:
    """Settings of a tabletop env.

    Attributes:
        families: of the instructions that are given.
        control_hz: actions a second, 5 or 10.
        height, width: of the observed images, in pixels.
        images: whether images are observed.
        blocks: on the board.
        board_episodes: that a board serves before it is laid out anew.
        mixture_episodes: of one board, over which one family after the other joins the first.
    """

    families: tuple[InstructionFamily, ...]
    appearance: Appearance
    control_hz: int
    height: int
    width: int
    images: bool
    blocks: tuple[Block, ...]
    board_episodes: int
    mixture_episodes: int

    def families_in(self, episode: int) -> tuple[InstructionFamily, ...]:
        """Return the families that are given in the nth episode of one board, from 0 on."""
        if episode >= self.mixture_episodes:
            return self.families
        return self.families[: 1 + episode * (len(self.families) - 1) // self.mixture_episodes]

    def observation_space(self) -> Space[Any]:
        """Return the space of observations under lerobot's keys."""
        bounds = np.transpose([EFFECTOR_X_M, EFFECTOR_Y_M])
        bounds = bounds + np.array([[-_OVERSHOOT_M], [_OVERSHOOT_M]])
        parts: dict[str, Space[Any]] = {"agent_pos": Box(*bounds.astype(np.float32))}
        if self.images:
            shape = (self.height, self.width, 3)
            parts["pixels"] = Dict({CAMERA: Box(0, 255, shape, np.uint8)})
        return Dict(parts)


def read_settings(
    families: Sequence[str] = BLOCK_FAMILIES,
    appearance: str = "sim",
    control_hz: int = CONTROL_HZ,
    height: int = 96,
    width: int = 128,
    images: bool = True,
    blocks: Sequence[Block | str] | None = None,
    board_episodes: int = 1,
    mixture_episodes: int = 0,
) -> TabletopSettings:
    """Return the settings that the keyword arguments of an env stand for.

    Args:
        families: values of `language.InstructionFamily`.
        appearance: "sim" or "real".
        control_hz: actions a second, 5 or 10.
        height: of the observed images, in pixels.
        width: of the observed images, in pixels.
        images: whether images are observed.
        blocks: of LanguageTable's eight, as `Block` or "red moon"; all when left out. With the
            family banana, the banana is the only one.
        board_episodes: that a board serves before it is laid out anew, for practice without resets:
            everything stays where it is, and the next instruction is one that is feasible there. A
            start is then no function of its seed alone. 1: each episode has a new board.
        mixture_episodes: of one board, over which the families join one after the other, in the
            order of `families`, the easiest first; 0: all from the start.

    Raises:
        EnvError: an argument has no meaning, or two contradict each other.
    """
    known_families = _families(families)
    _check_settings(known_families, height, width, blocks)
    if board_episodes < 1 or mixture_episodes < 0:
        raise EnvError(
            "board_episodes must be 1 or more and mixture_episodes 0 or more, got "
            f"{board_episodes} and {mixture_episodes}; leave them out"
        )
    if InstructionFamily.BANANA in known_families:
        on_board = (BANANA,)
    else:
        on_board = _blocks(BLOCKS if blocks is None else blocks)
    return TabletopSettings(
        families=known_families,
        appearance=appearance_named(appearance),
        control_hz=control_hz,
        height=height,
        width=width,
        images=images,
        blocks=on_board,
        board_episodes=board_episodes,
        mixture_episodes=mixture_episodes,
    )


def _check_settings(
    families: Sequence[InstructionFamily],
    height: int,
    width: int,
    blocks: Sequence[Block | str] | None,
) -> None:
    if InstructionFamily.BANANA in families and blocks is not None:
        raise EnvError(
            f"blocks must be left out with a banana, got {', '.join(map(str, blocks))}; "
            "a banana lies alone on its board"
        )
    if height < 1 or width < 1:
        raise EnvError(
            f"height and width must be at least one pixel, got {height} and {width}; "
            "leave images out with images=False"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetOptions:
    """Options of a reset, one value a row.

    Attributes:
        rows: which rows are reset.
        instructions: to give; None: one is drawn.
        keep_board: whether everything stays where it is, and only the instruction is new.
    """

    rows: Bool[Array, "rows"]
    instructions: Sequence[str | None]
    keep_board: bool


def read_options(options: Mapping[str, object] | None, num_rows: int = 1) -> ResetOptions:
    """Return the options of a reset in Gymnasium's form.

    Args:
        options: "reset_mask" (one truth value a row; all when left out), "instruction" (one for
            all rows, or one a row) and "keep_board".
        num_rows: of the env.

    Raises:
        EnvError: there is an unknown option.
    """
    options = options or {}
    option_names = {"instruction", "keep_board", "reset_mask"}
    unknown = sorted(set(options) - option_names)
    if unknown:
        raise EnvError(f"options must be of {sorted(option_names)}, got {unknown}; leave them out")
    instructions = options.get("instruction")
    if instructions is None or isinstance(instructions, str):
        instructions = [instructions] * num_rows
    return ResetOptions(
        rows=np.asarray(options.get("reset_mask", np.ones(num_rows)), dtype=bool),
        instructions=cast(Sequence[str | None], instructions),
        keep_board=bool(options.get("keep_board", False)),
    )


def _families(names: Sequence[str]) -> tuple[InstructionFamily, ...]:
    family_names = [str(family) for family in InstructionFamily]
    unknown = [name for name in names if name not in family_names]
    if isinstance(names, str) or unknown or not names:
        raise EnvError(
            f"families must be a tuple of {', '.join(family_names)}, got {names!r}; "
            "leave it out for all"
        )
    families = tuple(map(InstructionFamily, names))
    if InstructionFamily.BANANA in families and len(families) > 1:
        raise EnvError(
            f"families must be banana alone or without it, got {', '.join(families)}; "
            "make one env for each"
        )
    return families


def _blocks(names: Sequence[Block | str]) -> tuple[Block, ...]:
    block_of = {str(block): block for block in BLOCKS}
    unknown = [str(name) for name in names if str(name) not in block_of]
    if isinstance(names, str) or unknown or not names or len(set(map(str, names))) < len(names):
        raise EnvError(
            f"blocks must be different ones of {', '.join(block_of)}, "
            f"got {', '.join(map(str, names)) or 'none'}; leave it out for all eight"
        )
    return tuple(block_of[str(name)] for name in names)
