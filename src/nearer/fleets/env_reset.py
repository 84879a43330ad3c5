"""Reset of a single Gymnasium env by a seed."""

from typing import Any

from nearer.fleets.find_env import AnyEnv


def seeded_reset(
    env: AnyEnv, seed: int, instruction: str | None = None
) -> tuple[Any, dict[str, Any]]:
    """Reset an env by a seed, and return observation and info.

    An instruction is passed as an option, which an env is free to carry out or not.

    An env that keeps the `seed` method of gym before 0.26 is seeded by it, too: Meta-World's
    `reset` ignores its seed.
    """
    seed_method = getattr(env.unwrapped, "seed", None)
    if callable(seed_method):
        seed_method(seed)
    options = {"instruction": instruction} if instruction else None
    return env.reset(seed=seed, options=options)
