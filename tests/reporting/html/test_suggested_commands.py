"""Every command that the page suggests is one that the command line knows."""

import shlex

import pytest

from nearer.cli import main
from nearer.reporting.html import suggested_commands

SUGGESTED = {
    name: value
    for name, value in vars(suggested_commands).items()
    if name.isupper() and isinstance(value, str)
}


@pytest.mark.parametrize("command", SUGGESTED.values(), ids=SUGGESTED)
def test_suggested_command_has_flags_of_its_help(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, name, *arguments = shlex.split(command)
    assert program == "nearer"
    with pytest.raises(SystemExit):
        main([name, "--help"])
    described = capsys.readouterr().out
    for flag in (word for word in arguments if word.startswith("--")):
        assert flag in described
