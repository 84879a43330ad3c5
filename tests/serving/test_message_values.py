"""Values of a message: found by key or path, read as arrays, described."""

from typing import Any

import numpy as np
import pytest

from nearer.serving.message_values import as_array, described, names_in, value_at


def test_value_at_takes_a_key_before_a_path() -> None:
    message = {"a/b": 1, "a": {"b": 2, "c": {"d": 3}}, "x": 4}
    values = [value_at(message, key) for key in ("a/b", "a/c/d", "x", "y", "x/y", "a/c/e")]
    assert values == [1, 3, 4, None, None, None]


@pytest.mark.parametrize("value", [True, "1", [True], ["1"], {"a": 1}, None, 1.0])
def test_as_array_of_anything_but_arrays_and_lists_of_numbers_is_none(value: Any) -> None:
    assert as_array(value) is None


def test_as_array_of_a_list_has_its_numbers() -> None:
    array = as_array([1, 2.5])
    assert array is not None
    assert array.tolist() == [1, 2.5]


def test_names_in_a_message_are_paths_cut_short() -> None:
    assert (
        names_in({"images": {"top": 1, "low": 2}, "x": {}}) == "['images/top', 'images/low', 'x']"
    )
    assert names_in({str(i): 0 for i in range(20)}).endswith("'11'] and 8 more")
    assert len(names_in({"x" * 4000: {"y" * 4000: 0}})) < 100


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((2, 3), np.uint8), "uint8 of shape (2, 3)"),
        ("secret", "6 characters"),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "a dict of 1"),
        (10**80, "int " + "1" + "0" * 59),
    ],
)
def test_described_says_what_a_value_is_in_few_words(value: Any, words: str) -> None:
    assert described(value) == words
