"""Who may do what: a token for those who watch, another for those who operate."""

import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nearer.core.errors import ConfigError
from nearer.runs.files import disk_errors_as_sentences, temporary_path
from nearer.runs.json_files import read_document, to_json

TOKENS = "console-tokens.json"
Role = Literal["watch", "operate"]
_LENGTH = 24  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The tokens of a run's console; the same after a restart, so that open pages go on."""

    watch: str
    operate: str

    def __post_init__(self) -> None:
        """Refuse tokens that could be guessed."""
        if min(len(self.watch), len(self.operate)) < _LENGTH or self.watch == self.operate:
            raise ConfigError("tokens must be long and different; remove their file")

    def role(self, token: str) -> Role | None:
        """Return what a token allows; takes as long for a wrong one as for a right one."""
        given = token.encode()
        operates = secrets.compare_digest(given, self.operate.encode())
        watches = secrets.compare_digest(given, self.watch.encode())
        return "operate" if operates else "watch" if watches else None


def tokens_of(run: Path) -> Tokens:
    """Return the tokens of a run, new ones the first time; only their owner can read the file.

    Raises:
        ConfigError: the file is damaged.
        NearerError: the disk does not take it.
    """
    path = run / TOKENS
    if path.exists():
        return read_document(Tokens, path, "remove it, and new tokens are made")
    tokens = Tokens(watch=secrets.token_urlsafe(_LENGTH), operate=secrets.token_urlsafe(_LENGTH))
    with disk_errors_as_sentences(path):
        temporary = temporary_path(path)
        temporary.unlink(missing_ok=True)  # of a killed process, whoever may read it
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            json.dump(to_json(tokens), handle)
        os.replace(temporary, path)
    return tokens
