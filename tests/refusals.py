"""A command that is refused, as tests of several commands look at it."""

import pytest

from nearer.cli import main


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 1) -> str:
    """Return the one sentence with which the command line refuses these arguments."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    said = capsys.readouterr().err
    assert left.value.code == code, said
    assert said.startswith("nearer: "), said
    assert said.count("\n") == 1, said
    assert "Traceback" not in said
    return said
