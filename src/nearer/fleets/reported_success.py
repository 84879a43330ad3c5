"""Success as an env reports it in `info`, a row a robot; an env that never does is told apart."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Bool, Int64

from nearer.core.arrays import Array
from nearer.core.errors import EnvError

KEYS = ("is_success", "success")
"""Keys of `info`, the first that is there counts: lerobot's, and Meta-World's."""


class ReportedSuccess:
    """What the envs of a fleet last reported."""

    def __init__(self, env_id: str, num_robots: int) -> None:
        self._env_id = env_id
        self._done = np.zeros(num_robots, dtype=bool)
        self._silent = np.zeros(num_robots, dtype=bool)

    def begin(self, robots: Int64[Array, "robots"], info: Mapping[str, Any]) -> None:
        """Note what envs said at a reset, where they need not say anything: a start is no success.

        Args:
            robots: rows of the fleet.
            info: of one env for one robot; of several, arrays with a row each of these.

        Raises:
            EnvError: what they report is neither true nor false.
        """
        reported = self._reported(robots, info)
        self._done[robots] = False if reported is None else reported
        self._silent[robots] = False

    def note(self, robots: Int64[Array, "robots"], info: Mapping[str, Any]) -> None:
        """Note what envs said after a step.

        Raises:
            EnvError: what they report is neither true nor false.
        """
        reported = self._reported(robots, info)
        self._done[robots] = False if reported is None else reported
        self._silent[robots] = reported is None

    def of(self, robots: Int64[Array, "robots"]) -> Bool[Array, "robots"]:
        """Return whether the instructions of these robots are done.

        Raises:
            EnvError: an env did not say so after its last step.
        """
        if self._silent[robots].any():
            raise EnvError(
                f"{self._env_id} must report is_success (or success) in the info of every step, "
                "got neither: its success cannot be measured; report it in a gymnasium.Wrapper, or "
                "do without ground truth (nearer improve --audits person, or --audit-every 0)"
            )
        return self._done[robots]

    def _reported(
        self, robots: Int64[Array, "robots"], info: Mapping[str, Any]
    ) -> Bool[Array, "robots"] | None:
        key = next((key for key in KEYS if key in info), None)
        if key is None:
            return None
        values = np.broadcast_to(np.asarray(info[key]), (len(robots),))
        strange = [value for value in cast(Sequence[Any], values.tolist()) if value not in (0, 1)]
        if strange:
            raise EnvError(
                f"{self._env_id} must report {key} as true or false, got {strange[0]!r}; mend the "
                "env"
            )
        return values.astype(bool)
