"""From actions of control steps to decisions, and back.

`join_actions` and `split_decisions` undo each other, but for the rounding of one sum where the
chunk is relative.
"""

from jaxtyping import Float32

from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array


def join_actions(
    chunking: Chunking,
    actions: Float32[Array, "*batch chunk axes"],
    agent_pos: Float32[Array, "*batch joints"],
) -> Float32[Array, "*batch action"]:
    """Return decisions: the actions of each chunk side by side, step after step.

    Args:
        chunking: what a decision is made of.
        actions: of every control step, in the env's units.
        agent_pos: joints at the start of each chunk.
    """
    actions = actions - agent_pos[..., None, :] if chunking.relative else actions
    *batch, chunk, axes = actions.shape
    return actions.reshape(*batch, chunk * axes)


def split_decisions(
    chunking: Chunking,
    decisions: Float32[Array, "*batch action"],
    agent_pos: Float32[Array, "*batch joints"],
) -> Float32[Array, "*batch chunk axes"]:
    """Return the actions of every control step, as the env takes them.

    Args:
        chunking: what a decision is made of.
        decisions: as `join_actions` makes them.
        agent_pos: joints at the start of each chunk.
    """
    *batch, action = decisions.shape
    actions = decisions.reshape(*batch, chunking.chunk, action // chunking.chunk)
    return actions + agent_pos[..., None, :] if chunking.relative else actions
