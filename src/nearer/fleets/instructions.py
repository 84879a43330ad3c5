"""Which instruction an episode has: its own, the user's, the only one of the data, or the env's."""

import logging

from nearer.core.errors import EnvError

_LOG = logging.getLogger(__name__)


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

    def of_episode(self, drawn: str) -> str:
        """Return the instruction of an episode for which the env drew one.

        Raises:
            EnvError: the user gave another one, or the env drew none.
        """
        if not drawn.strip():
            return self.of_env("")
        if self._given not in (None, drawn):
            raise EnvError(
                "--instruction must be left out for an env that gives its own, got "
                f"{self._given!r} where {self._env_id} asks for {drawn!r}"
            )
        return drawn

    def of_env(self, attribute: str) -> str:
        """Return the instruction of every episode of an env that draws none.

        Args:
            attribute: the env's own `task_description` or `task`; empty: it has none.

        Raises:
            EnvError: nobody says what to do.
        """
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
