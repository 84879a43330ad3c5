"""What can go wrong, as sentences for people.

    NearerError                 everything below; the command line prints it without a traceback
    ├── ConfigError             a setting, or a combination of settings, that cannot work
    ├── DatasetError            a data set that cannot be read or written as it stands
    ├── CheckpointError         weights that do not load, or do not fit the env or data set
    ├── EnvError                an environment that is unknown or does not fit the policy
    ├── MessageError            what a client sent that the server cannot answer
    ├── Alarmed                 an audit's alarm has ended practice, as it was asked to
    ├── Interrupted             Ctrl-C, after everything in flight has been written
    └── ReportedElsewhere       another process of the run has reported why; this one is silent

Every message says what was seen, what must hold and which command helps.
`DatasetError` and `CheckpointError` are also `ValueError`s. `ConfigError` is none, since tyro would
put a ValueError of a config into a box of its own.
"""

_BEGINNING, _END = 1500, 500  # characters of a sentence that are shown


class NearerError(Exception):
    """Base of all errors that nearer raises for people to read.

    What was seen may be as long as a stranger liked: the middle of a long sentence is left out.
    """

    def __init__(self, sentence: str = "") -> None:
        if len(sentence) > _BEGINNING + _END:
            sentence = f"{sentence[:_BEGINNING]} ... {sentence[-_END:]}"
        super().__init__(sentence)


class ConfigError(NearerError):
    """A setting, or a combination of settings, cannot work."""


class DatasetError(NearerError, ValueError):
    """A data set cannot be read or written as it stands."""


class CheckpointError(NearerError, ValueError):
    """Weights do not load, or do not fit the env or data set."""


class EnvError(NearerError):
    """An environment is unknown or does not fit the policy."""


class MessageError(NearerError):
    """A client of `nearer serve` sent what cannot be answered; the client reads the sentence."""


class Alarmed(NearerError):
    """An audit of Stage 2 has raised an alarm, and practice was to end there."""


class Interrupted(NearerError):
    """The user asked to stop; everything in flight has been written."""


class ReportedElsewhere(NearerError):
    """Another process of the same run has reported why it ends; this one must be silent."""
