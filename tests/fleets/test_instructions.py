"""The instruction of an episode, where env, user and data each may have one."""

import pytest

from nearer.core.errors import EnvError
from nearer.fleets.instructions import Instructions


def test_env_that_draws_instructions_is_never_overruled() -> None:
    assert Instructions("some/Env", None, "push").of_episode("pull") == "pull"
    assert Instructions("some/Env", "pull", None).of_episode("pull") == "pull"
    with pytest.raises(EnvError, match=r"left out .* got 'push' where some/Env asks for 'pull'"):
        Instructions("some/Env", "push", None).of_episode("pull")
    assert Instructions("some/Env", "push", None).of_episode(" ") == "push"


@pytest.mark.parametrize(
    ("given", "default", "attribute", "instruction"),
    [
        ("insert the peg", "put in", "insertion", "insert the peg"),
        (None, "put in", "insertion", "put in"),
        (None, None, "insertion", "insertion"),
        (None, "put in", "", "put in"),
    ],
)
def test_env_that_draws_none_has_the_users_the_datas_or_its_own(
    given: str | None, default: str | None, attribute: str, instruction: str
) -> None:
    assert Instructions("some/Env", given, default).of_env(attribute) == instruction


def test_no_instruction_at_all_is_refused() -> None:
    with pytest.raises(EnvError, match=r"got none; say what to do with --instruction"):
        Instructions("some/Env", None, None).of_env("")


def test_a_name_that_the_policy_does_not_know_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    instructions = Instructions("some/Env", None, "put in")
    instructions.of_env("put in")
    assert not caplog.messages
    for _ in range(2):
        instructions.of_env("insertion")
    (message,) = caplog.messages
    assert "calls its task 'insertion'; the policy is told 'put in'" in message
