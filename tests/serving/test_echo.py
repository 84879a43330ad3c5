"""The marks of a request that its answer repeats."""

from typing import Any

import pytest

from nearer.core.errors import MessageError
from nearer.serving.echo import Echo, read_echo


@pytest.mark.parametrize(
    "marks",
    [
        {},
        {"request_id": "a7", "step": 0},
        {"request_id": 12},
        {"request_id": "", "step": -1},
        {"request_id": (1 << 63) - 1, "step": -(1 << 63)},
    ],
)
def test_read_echo_gives_back_what_was_sent(marks: dict[str, Any]) -> None:
    assert read_echo({"prompt": "go", **marks}).to_message() == marks


@pytest.mark.parametrize(
    ("marks", "sentence"),
    [
        ({"request_id": "x" * 201}, "request_id must have up to 200 characters, got 201; send"),
        ({"request_id": 1.5}, "request_id must be text or a whole number of 63 bits, got float"),
        ({"request_id": True}, "request_id must be .* got bool"),
        ({"request_id": [1]}, "request_id must be .* got list"),
        ({"request_id": b"x"}, "request_id must be .* got bytes"),
        ({"request_id": 1 << 63}, "request_id must be .* 63 bits"),
        ({"step": "1"}, "step must be a whole number of 63 bits, got str; count the control"),
        ({"step": False}, "step must be .* got bool"),
        ({"step": 1 << 63}, "step must be .* 63 bits"),
    ],
)
def test_read_echo_other_kinds_and_sizes_are_refused(marks: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MessageError, match=sentence):
        read_echo(marks)


def test_echo_before_a_sentence_names_the_marks() -> None:
    assert Echo(request_id=7, step=3).before("no") == "request_id 7, step 3: no"
    assert Echo().before("no") == "no"
