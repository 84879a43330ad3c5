"""Decisions that cover several control steps: action chunks, absolute or relative to their start.

Everything between data set and env speaks of decisions: a model chooses one, an episode has a row
for each, steps-to-go counts them. Only the two edges know of control steps: `chunked`
(demonstrations.py) and `ChunkFleet` (fleet/chunks.py). The paper's Aloha decides on 5 steps of 14
joints at once and executes all of them.
"""

from dataclasses import dataclass

from jaxtyping import Float32

from nearer.core.arrays import Array
from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """What a decision is made of.

    `join` makes decisions of actions, `split` makes actions of decisions; each undoes the other,
    but for the rounding of one sum where the chunk is relative.

    Attributes:
        chunk: control steps a decision covers; all are executed.
        relative: chunks of joint positions, less those at their start.
    """

    chunk: int = 1
    relative: bool = False

    def __post_init__(self) -> None:
        check_settings(self, chunk="[1, inf)")

    @property
    def is_plain(self) -> bool:
        """Return whether a decision is just the action of one control step."""
        return self.chunk == 1 and not self.relative

    @property
    def unit(self) -> str:
        """Name what steps-to-go counts, in words."""
        return "steps" if self.chunk == 1 else f"chunks of {self.chunk} steps"

    def join(
        self,
        actions: Float32[Array, "*batch chunk axes"],
        agent_pos: Float32[Array, "*batch joints"],
    ) -> Float32[Array, "*batch action"]:
        """Return decisions: the actions of each chunk side by side, step after step.

        Args:
            actions: of every control step, in the env's units.
            agent_pos: joints at the start of each chunk.
        """
        actions = actions - agent_pos[..., None, :] if self.relative else actions
        *batch, chunk, axes = actions.shape
        return actions.reshape(*batch, chunk * axes)

    def split(
        self,
        decisions: Float32[Array, "*batch action"],
        agent_pos: Float32[Array, "*batch joints"],
    ) -> Float32[Array, "*batch chunk axes"]:
        """Return the actions of every control step, as the env takes them.

        Args:
            decisions: as `join` makes them.
            agent_pos: joints at the start of each chunk.
        """
        *batch, action = decisions.shape
        actions = decisions.reshape(*batch, self.chunk, action // self.chunk)
        return actions + agent_pos[..., None, :] if self.relative else actions

    def decisions_within(self, control_steps: int) -> int:
        """Return how many whole chunks fit into a time limit.

        Raises:
            ConfigError: not even one does.
        """
        if control_steps < self.chunk:
            raise ConfigError(
                "a time limit must leave room for one chunk of the policy, which is "
                f"{self.chunk} control steps, got {control_steps}; raise --max-steps or "
                "--calibration.rollout-steps"
            )
        return control_steps // self.chunk

    def decision_rate(self, control_hz: int) -> int:
        """Return decisions a second, rounded to a whole number of 1 or more as data sets want."""
        return max(1, round(control_hz / self.chunk))


PLAIN = Chunking()
"""A decision is the action of one control step, as the env takes it."""
