"""How long an instruction may be, wherever it comes from."""

MAX_CHARACTERS = 1000
"""An instruction is a sentence."""
