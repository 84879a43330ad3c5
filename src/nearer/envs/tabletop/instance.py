"""One tabletop instance: a simulation, an instruction, and whether it has succeeded.

`Tabletop` is one instance, `TabletopVector` many; so a row of many is bit for bit equal to one.
"""

from contextlib import suppress

import numpy as np
from gymnasium.utils.seeding import np_random

from nearer.core.arrays import Array
from nearer.core.errors import EnvError
from nearer.envs.tabletop.language import TabletopTask, compose, parse
from nearer.envs.tabletop.layout import BlockLayout
from nearer.envs.tabletop.settings import TabletopSettings
from nearer.envs.tabletop.simulation import Simulation
from nearer.envs.tabletop.tasks import draw_start, draw_task, is_successful


class TabletopInstance:
    """A simulation, its instruction, and the generator that draws both."""

    def __init__(self, settings: TabletopSettings) -> None:
        self._settings = settings
        self._simulation = Simulation(settings.blocks, settings.appearance, settings.control_hz)
        self._rng: np.random.Generator | None = None
        self._task: TabletopTask | None = None
        self._episodes = 0
        self._on_this_board = 0
        self.instruction = ""

    def reset(
        self, seed: int | None, *, instruction: str | None = None, keep_board: bool = False
    ) -> None:
        """Draw a layout and an instruction: both are functions of the seed alone.

        With `board_episodes` above 1 that holds for the first episode of a board. Where no
        instruction is feasible on a board it is laid out anew before its time.

        Args:
            seed: None goes on with the generator of the last seed.
            instruction: to give in place of a drawn one.
            keep_board: leave everything where it is, and draw an instruction that is feasible
                there: practice without resets.

        Raises:
            EnvError: the instruction is outside the grammar or names a block that is not there,
                no task is feasible, or there is no board to keep yet.
        """
        blocks = self._settings.blocks
        # first, so that a bad instruction changes nothing
        given_task = None if instruction is None else parse(instruction, blocks)
        if keep_board and self._task is None:
            raise EnvError("keep_board must follow a reset, got the first; reset without it once")
        if seed is not None or self._rng is None:
            self._rng, _ = np_random(seed)
        families = self._settings.families_in(self._episodes)
        task = None
        if keep_board:
            task = given_task or draw_task(self.layout(), families, self._rng)
        elif 0 < self._on_this_board < self._settings.board_episodes:
            with suppress(EnvError):
                task = given_task or draw_task(self.layout(), families, self._rng)
        if task is None:
            # drawn even when an instruction is given, so that the layout is that of the seed
            layout, drawn_task = draw_start(blocks, families, self._rng)
            self._simulation.reset(layout)
            task = given_task or drawn_task
            self._on_this_board = 0
        self._episodes += 1
        self._on_this_board += 1
        self._simulation.num_clipped = 0
        self._task = task
        self.instruction = instruction or compose(task, blocks, self._rng)

    def step(self, action: Array) -> None:
        """Simulate one control step."""
        if self._task is None:
            raise EnvError("an env must be reset before it is stepped, got step; call reset first")
        self._simulation.step(action)

    def layout(self) -> BlockLayout:
        """Return the present layout (ground truth)."""
        return self._simulation.layout()

    @property
    def task(self) -> TabletopTask:
        """Return the task of the instruction."""
        if self._task is None:
            raise EnvError("a task must be given first, got none; call reset")
        return self._task

    @property
    def is_success(self) -> bool:
        """Return whether the task is solved (ground truth)."""
        return self._task is not None and is_successful(self._task, self.layout())

    @property
    def num_clipped(self) -> int:
        """Return the number of actions since the reset that were longer than the limit."""
        return self._simulation.num_clipped

    def agent_pos(self) -> Array:
        """Return the effector's x and y, in metres."""
        return self._simulation.effector().astype(np.float32)

    def camera_image(self) -> Array:
        """Return the image that a policy observes."""
        return self._simulation.camera_image(self._settings.height, self._settings.width)

    def render_image(self, height: int, width: int) -> Array:
        """Return an image for people."""
        return self._simulation.render_image(height, width)

    def close_renderers(self) -> None:
        """Free this thread's GL contexts of this instance's renderers."""
        self._simulation.close_renderers()
