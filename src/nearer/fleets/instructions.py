"""Which instruction an episode has: its own, the user's, the only one of the data, or the env's."""

import logging
from collections.abc import Mapping

from nearer.core.errors import EnvError

_LOG = logging.getLogger(__name__)


class ChosenInstructions:
    """What people want the next episode of each robot to be about."""

    def __init__(self) -> None:
        self._of_robot: Mapping[int, str] = {}

    def choose(self, of_robot: Mapping[int, str]) -> None:
        """Replace all choices; for robots that are not named the env chooses."""
        self._of_robot = of_robot

    def of(self, robot: int) -> str | None:
        """Return the choice for a robot."""
        return self._of_robot.get(robot)


class Instructions:
    """The instruction of each episode of one env.

    An env that draws one for each episode is never overruled: its success is that instruction's.
    An attribute `task` is often a name ("insertion") and no sentence, so the user's instruction
    and the only one that a policy was trained on come before it.
    """

    def __init__(self, env_id: str, given: str | None, default: str | None) -> None:
        """Keep what is known before the first episode.

        Args:
            env_id: Gymnasium id.
            given: by the user; None: nothing.
            default: the only one of the data; None: there are several, or nobody knows.
        """
        self._env_id = env_id
        self._given = given
        self._default = default
        self._told = False

    def of_episode(self, drawn: str, chosen: str | None = None) -> str:
        """Return the instruction of an episode for which the env drew one.

        Args:
            drawn: by the env.
            chosen: by people, for this episode, who asked the env for it.

        Raises:
            EnvError: the user gave another one, the env drew none, or not the one chosen.
        """
        if not drawn.strip():
            return self.of_env("", chosen)
        if chosen not in (None, drawn):
            raise EnvError(
                f"{self._env_id} must take its instruction from reset's options['instruction'], "
                f"got {drawn!r} where {chosen!r} was asked for; let the env choose"
            )
        if self._given not in (None, drawn):
            raise EnvError(
                "--instruction must be left out for an env that gives its own, got "
                f"{self._given!r} where {self._env_id} asks for {drawn!r}"
            )
        return drawn

    def of_env(self, attribute: str, chosen: str | None = None) -> str:
        """Return the instruction of every episode of an env that draws none.

        Args:
            attribute: the env's own `task_description` or `task`; empty: it has none.
            chosen: by people, for this episode.

        Raises:
            EnvError: nobody says what to do.
        """
        if chosen:
            return chosen
        instruction = self._given or self._default or attribute
        if not instruction.strip():
            raise EnvError(
                f"{self._env_id} must give an instruction, in info['instruction'] or an attribute "
                'task, got none; say what to do with --instruction "..."'
            )
        if self._given is None and attribute not in ("", instruction) and not self._told:
            self._told = True
            _LOG.warning(
                "%s calls its task %r; the policy is told %r, the only instruction that it was "
                "trained on; pass --instruction to say something else",
                *(self._env_id, attribute, instruction),
            )
        return instruction
