"""Action chunks for slow models: the next decision is asked for while the present chunk runs.

                 o_0                     o_1                 o_2
    chunk 0      |0 . . . . 5|6 7|
    chunk 1                  |0 1|2 . . 5|6 7|               chunk of 8, 2 ahead
    chunk 2                              |0 1|2 . . 5|6 7|

`step` returns with the observation `ahead` control steps before the chunk's end. The rest of the
chunk runs in a thread, while the rollout checks and decides. The first `ahead` actions of the next
chunk are for the time that has passed by then: they are left out, so what was executed and what
comes next are joined in time. Idea: Black et al. 2025 (arXiv:2506.07339), without inpainting.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import Bool, Float32, Int64

from nearer.core.action_chunks import Chunking
from nearer.core.arrays import Array
from nearer.core.chunk_actions import split_decisions
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Fleet, Sensed, Starts
from nearer.core.spaces import Spaces
from nearer.fleets.wrapper import FleetWrapper

_ROBOT = np.zeros(1, np.int64)


def whole_chunks(control_steps: int, chunking: Chunking, ahead: int) -> int:
    """Return a time limit that counts whole chunks, for so many control steps that are executed."""
    return control_steps * chunking.chunk // (chunking.chunk - ahead)


class AheadFleet(FleetWrapper):
    """One robot that executes chunks, each decided before the one before it has ended.

    Vision encoders are where `encoded_in_chunks` has them. Ground truth is that of the observation
    returned. A decision counts as a whole chunk everywhere, though it leaves out `ahead` of its
    actions; `whole_chunks` says what a time limit becomes. All calls of the robot come from one
    thread.

    Args:
        fleet: one robot, by control steps.
        chunking: of the policy.
        ahead: control steps that a decision may take.
        recording: False: nobody will ask for ground truth, which the env may not have.

    Raises:
        ConfigError: several robots, or a chunk that is not longer than twice `ahead`.
    """

    def __init__(
        self, fleet: Fleet, chunking: Chunking, ahead: int, *, recording: bool = True
    ) -> None:
        super().__init__(fleet)
        if fleet.num_robots != 1:
            raise ConfigError(
                f"--fleet.decide-ahead must go with one robot a process, got {fleet.num_robots}; "
                "set --fleet.processes to --num-envs"
            )
        if chunking.chunk <= 2 * ahead:
            raise ConfigError(
                f"--fleet.decide-ahead must be less than half of the policy's chunk of "
                f"{chunking.chunk} control steps, got {ahead}; choose less, or train with a longer "
                "--chunk"
            )
        self._spaces = fleet.spaces.in_chunks(chunking)
        self._ahead = ahead
        self._recording = recording
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._rest: Future[Sensed] | None = None
        self._agent_pos = np.zeros((1, self._spaces.agent_pos), np.float32)
        self._success = np.zeros(1, dtype=bool)

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of observations and decisions."""
        return self._spaces

    def reset(self, robots: Int64[Array, "robots"], seeds: Sequence[int]) -> Starts:
        """Reset the robot once the last chunk has ended."""
        self._finish_rest()
        starts = self._thread.submit(super().reset, robots, seeds).result()
        self._observed(starts)
        return starts

    def step(
        self, robots: Int64[Array, "robots"], actions: Float32[Array, "robots action"]
    ) -> Sensed:
        """Execute a chunk up to the moment at which the next is to be decided."""
        chunk = self._spaces.chunking.chunk
        steps = split_decisions(self._spaces.chunking, actions, self._agent_pos)[0]
        rest = self._finish_rest()
        if rest is not None and rest.env_ended[0]:
            self._observed(rest)
            return rest
        first = 0 if rest is None else self._ahead
        now = steps[first : chunk - self._ahead]
        sensed = self._thread.submit(self._execute, now).result()
        self._observed(sensed)
        if not sensed.env_ended[0]:
            self._rest = self._thread.submit(self._execute, steps[chunk - self._ahead :])
        return sensed

    def ground_truth(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return the simulator's ground truth of the observation returned last."""
        return self._success[robots]

    def close(self) -> None:
        """Close the fleet once the last chunk has ended."""
        self._finish_rest()
        self._thread.shutdown()
        super().close()

    def _finish_rest(self) -> Sensed | None:
        """Wait for the chunk before to end; None: the episode has none."""
        rest, self._rest = self._rest, None
        return rest.result() if rest is not None else None

    def _execute(self, steps: Float32[Array, "steps axes"]) -> Sensed:
        sensed = self.fleet.step(_ROBOT, steps[:1])
        for step in range(1, len(steps)):
            if sensed.env_ended[0]:
                break
            sensed = self.fleet.step(_ROBOT, steps[step : step + 1])
        return sensed

    def _observed(self, sensed: Starts | Sensed) -> None:
        self._agent_pos = sensed.observation.agent_pos
        if self._recording:
            self._success = self.fleet.ground_truth(_ROBOT)
