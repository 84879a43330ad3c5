"""How long an instruction may be, wherever it comes from."""

from nearer.core.errors import ConfigError

MAX_CHARACTERS = 1000
"""An instruction is a sentence."""


def check_instruction(instruction: str, flag: str = "--instruction") -> None:
    """Raise ConfigError unless a user's instruction says something, in at most so many letters."""
    if not instruction.strip() or len(instruction) > MAX_CHARACTERS:
        raise ConfigError(
            f"{flag} must have 1 to {MAX_CHARACTERS} characters, got {len(instruction.strip())}; "
            "write one sentence, or leave it out"
        )
