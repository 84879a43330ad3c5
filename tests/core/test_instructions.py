"""How long an instruction may be."""

import pytest

from nearer.core.errors import ConfigError
from nearer.core.instructions import MAX_CHARACTERS, check_instruction


@pytest.mark.parametrize("instruction", ["push the T", "x" * MAX_CHARACTERS])
def test_instruction_of_a_sentence_is_taken(instruction: str) -> None:
    check_instruction(instruction)


@pytest.mark.parametrize("instruction", ["", "  ", "x" * (MAX_CHARACTERS + 1)])
def test_instruction_of_nothing_or_a_book_is_refused(instruction: str) -> None:
    with pytest.raises(ConfigError, match="--instruction must have 1 to 1000 characters"):
        check_instruction(instruction)
