"""A fleet whose observations and actions are those that a model was trained on."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from nearer.algorithm.model import FoundationModel
from nearer.core.action_chunks import Chunking
from nearer.core.errors import ConfigError, EnvError
from nearer.core.interfaces import Fleet
from nearer.core.spaces import Spaces
from nearer.fleets.chunked import encoded_in_chunks
from nearer.fleets.encoded import encoders_of
from nearer.fleets.env_settings import AS_IT_IS, EnvSettings
from nearer.fleets.gym import make_fleet
from nearer.fleets.instructions import ChosenInstructions


@runtime_checkable
class Needs(Protocol):
    """What a fleet must know of a model that is to act in it."""

    @property
    def spaces(self) -> Spaces:
        """Return the sizes of its observations and decisions."""
        ...

    @property
    def only_instruction(self) -> str | None:
        """Return the instruction of all its demonstrations; None: they have several."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNeeds:
    """What a fleet must know of a model that is elsewhere; see `Needs`."""

    spaces: Spaces
    only_instruction: str | None


_REMEMBERED_BYTES = 2 * 1024**3


def fitting_fleet(
    env: str,
    num_robots: int,
    model: FoundationModel,
    reward: FoundationModel | None = None,
    settings: EnvSettings = AS_IT_IS,
    max_steps: int | None = None,
) -> Fleet:
    """Return a fleet of an env that fits a model, its images encoded by the model's vision encoder.

    Args:
        env: Gymnasium id.
        num_robots: copies of it.
        model: acts.
        reward: the reward model, which may have another vision encoder; None: none, or `model`.
        settings: how the env is made and read; without an instruction, the only one that `model`
            was trained on, if it was one.
        max_steps: see `make_fleet`.

    Raises:
        EnvError: the env has other sizes than a checkpoint, or not its cameras.
    """
    reward_encoder = reward.vision_encoder if reward else None
    fleet = unencoded_fleet(env, num_robots, model, reward, settings, max_steps)
    encoders = encoders_of(model.vision_encoder, reward_encoder, num_robots)
    return encoded_in_chunks(fleet, model.spaces.chunking, encoders)


def unencoded_fleet(
    env: str,
    num_robots: int,
    model: Needs,
    reward: Needs | None = None,
    settings: EnvSettings = AS_IT_IS,
    max_steps: int | None = None,
    chosen: ChosenInstructions | None = None,
) -> Fleet:
    """Return a fleet of an env as `fitting_fleet` does, with images and single control steps."""
    fleet = make_fleet(env, num_robots, settings, model.only_instruction, max_steps, chosen)
    try:
        _check_fits(env, fleet.spaces, model.spaces, "the checkpoint")
        if reward is not None:
            _check_fits(env, fleet.spaces, reward.spaces, "the reward's checkpoint")
    except EnvError:
        fleet.close()
        raise
    return fleet


def robots_with_room(model: FoundationModel, max_steps: int, most: int) -> int:
    """Return how many robots may act at once, where all features of an episode are kept."""
    width = model.vision_encoder.width if model.vision_encoder else 0
    decisions = model.spaces.chunking.decisions_within(max_steps) + 1
    return max(1, min(most, _REMEMBERED_BYTES // max(1, 4 * width * decisions)))


def check_same_chunks(policy: Chunking, reward: Chunking) -> None:
    """Raise ConfigError unless both count steps-to-go in the same chunks of control steps."""
    if policy.chunk != reward.chunk:
        raise ConfigError(
            f"the reward must decide on {policy.chunk} control steps at once, as the policy does, "
            f"got {reward.chunk}; train it with nearer sft --chunk {policy.chunk}"
        )
    if policy.decision_frames != reward.decision_frames:
        both = ("without", "with")
        raise ConfigError(
            f"the reward must be trained {both[policy.decision_frames]} --decision-frames, as the "
            f"policy was, got one {both[reward.decision_frames]} it; train it so"
        )


def _check_fits(env: str, offered: Spaces, needed: Spaces, whose: str) -> None:
    mismatch = offered.mismatch(needed, whose)
    if mismatch is None:
        return
    advice = {
        "sizes": "use the env that the demonstrations came from",
        "rate": f"record demonstrations at {offered.control_hz} Hz, or set the env to "
        f"{needed.control_hz} Hz",
        "camera": "rename or resize it in a gymnasium.ObservationWrapper",
    }
    raise EnvError(f"{env} {mismatch.text}; {advice[mismatch.kind]}")
