"""An env of another package, made, read and acted in; run by compatibility.py.

    python read_env.py ENV_ID [KEY=VALUE ...]

Prints one JSON line: what it observes, its rate and time limit, whether it reports success and
whether the same seed gives the same start.
"""

import json
import sys

import numpy as np

from nearer.core.errors import EnvError
from nearer.fleets.env_settings import EnvSettings
from nearer.fleets.find_env import make_env, time_limit
from nearer.fleets.gym import make_fleet

STEPS = 5


def read_env(env: str, env_kwargs: tuple[str, ...]) -> dict[str, object]:
    """Return what was found."""
    settings = EnvSettings(env_kwargs=env_kwargs, instruction="do the task")
    fleet = make_fleet(env, 2, settings)
    both = np.arange(2)
    starts = [fleet.reset(both, [7, 8]).observation.state for _ in range(2)]
    low, high = np.clip(np.array(fleet.spaces.action_limits, np.float32), -1e6, 1e6)
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        actions = rng.uniform(low, high, (2, len(low))).astype(np.float32)
        observed = fleet.step(both, actions).observation
    try:
        fleet.ground_truth(both)
        success = "reported"
    except EnvError:
        success = "not reported"
    fleet.close()
    return {
        "observes": str(fleet.spaces),
        "control_hz": fleet.spaces.control_hz,
        "time_limit": time_limit(make_env(env, settings)),
        "success": success,
        "same_seed_same_start": bool(np.array_equal(*starts)),
        "finite": bool(np.isfinite(observed.state).all()),
    }


if __name__ == "__main__":
    print(json.dumps(read_env(sys.argv[1], tuple(sys.argv[2:]))))
