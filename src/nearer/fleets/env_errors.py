"""What goes wrong inside an env, which may be anybody's code, as a sentence."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager

import gymnasium
import numpy as np

from nearer.core.episode import Observation
from nearer.core.errors import EnvError, NearerError
from nearer.core.spaces import Spaces

_SHOWN_SEEDS = 3


@contextmanager
def running(
    env_id: str, call: str, seeds: Sequence[int | None] = ()
) -> Generator[None, None, None]:
    """Let an env do one call, and name it if it raises.

    The error ends the command: an episode that a broken env cut short says nothing of the task,
    and leaving it out would favour those that did not get so far.

    Args:
        env_id: whose code runs.
        call: the method that is called, such as "step".
        seeds: of the episodes that it is in the middle of, each with its start and sampling.

    Raises:
        EnvError: the env raised; what it raised is the cause.
    """
    try:
        yield
    except NearerError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}".rstrip(": ")
        raise EnvError(
            f"{env_id} must {call} without an error, got {said}{_on(seeds)}; what was finished is "
            "written, mend the env, NEARER_TRACEBACK=1 shows where it failed"
        ) from error


@contextmanager
def making(env_id: str) -> Generator[None, None, None]:
    """Let an env be made, and name it if it cannot be.

    Raises:
        EnvError: a package that it needs is missing, or the env raised.
    """
    with running(env_id, "be made"):
        try:
            yield
        except (gymnasium.error.Error, ImportError) as error:
            raise EnvError(
                f"{env_id} must be an env that can be made here, got: {error}; install what it "
                "needs"
            ) from error


@contextmanager
def reading(env_id: str) -> Generator[None, None, None]:
    """Let an observation be read, and name the env if it is not of the env's own space.

    Raises:
        EnvError: an entry is missing, or is no array of numbers.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise EnvError(
            f"{env_id} must observe what its observation_space says, got "
            f"{type(error).__name__}: {error}; mend the env"
        ) from error


def check_info(env_id: str, info: object) -> None:
    """Raise EnvError unless an env reports a dict beside what it observes."""
    if not isinstance(info, Mapping):
        raise EnvError(f"{env_id} must report a dict as info, got {info!r:.60}; mend the env")


def checked(env_id: str, spaces: Spaces, observation: Observation) -> Observation:
    """Return an observation, one row a robot, that is what the env's spaces promise.

    Raises:
        EnvError: another size, a camera that is missing, or numbers that are not finite.
    """
    for key, size, values in (
        ("agent_pos", spaces.agent_pos, observation.agent_pos),
        ("environment_state", spaces.environment_state, observation.environment_state),
    ):
        if values.shape[1:] != (size,):
            raise EnvError(
                f"{env_id} must observe {size} numbers as {key}, as its observation_space says, "
                f"got shape {values.shape[1:]}; mend the env"
            )
        strange = values[~np.isfinite(values)]
        if len(strange):
            raise EnvError(
                f"{env_id} must observe finite numbers, got {strange[0]} in {key}; mend the env"
            )
    for name, height, width in spaces.cameras:
        image = observation.images.get(name)
        got = "none" if image is None else f"{image.dtype} of shape {image.shape[1:]}"
        if got != f"uint8 of shape {(height, width, 3)}":
            raise EnvError(
                f"{env_id} must show camera {name} as uint8 of shape {(height, width, 3)}, as its "
                f"observation_space says, got {got}; mend the env"
            )
    return observation


def _on(seeds: Sequence[int | None]) -> str:
    numbers = [str(seed) for seed in seeds if seed is not None]
    if not numbers:
        return ""
    more = ", ..." if len(numbers) > _SHOWN_SEEDS else ""
    plural = "s" if len(numbers) > 1 else ""
    return f" with seed{plural} {', '.join(numbers[:_SHOWN_SEEDS])}{more}"
