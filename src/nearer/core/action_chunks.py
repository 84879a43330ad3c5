"""Decisions that cover several control steps: action chunks, absolute or relative to their start.

Everything between data set and env speaks of decisions: a model chooses one, an episode has a row
for each, steps-to-go counts them. Only the two edges know of control steps: `chunked`
(algorithm/demonstrations.py) and `ChunkFleet` (fleets/chunked.py); they convert arrays with
core/chunk_actions.py. The paper's Aloha decides on 5 steps of 14 joints at once and executes all
of them. No numpy here, since these are flags too.
"""

from dataclasses import dataclass

from nearer.core.errors import ConfigError
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """What a decision is made of.

    Attributes:
        chunk: control steps a decision covers; all are executed.
        relative: chunks of joint positions, less those at their start.
        decision_frames: with --chunk, learn from those frames alone on which a policy decides;
            images of the others are not encoded, on robots neither.
    """

    chunk: int = 1
    relative: bool = False
    decision_frames: bool = False

    def __post_init__(self) -> None:
        check_settings(self, chunk="[1, inf)")
        if self.decision_frames and self.chunk == 1:
            raise ConfigError(
                "--decision-frames must come with --chunk of 2 or more, got 1, where a policy "
                "decides on every frame; leave it out"
            )

    @property
    def is_plain(self) -> bool:
        """Return whether a decision is just the action of one control step."""
        return self.chunk == 1 and not self.relative

    @property
    def unit(self) -> str:
        """Name what steps-to-go counts, in words."""
        return "steps" if self.chunk == 1 else f"chunks of {self.chunk} steps"

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
