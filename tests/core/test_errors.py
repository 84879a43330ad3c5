"""Errors for people: which of them a program may catch as what."""

import pytest

from nearer.core import errors
from nearer.core.errors import CheckpointError, ConfigError, DatasetError, EnvError, NearerError

ALL = [error for error in vars(errors).values() if isinstance(error, type)]


@pytest.mark.parametrize("error", ALL)
def test_errors_are_nearer_errors_that_the_overview_names(error: type[Exception]) -> None:
    assert issubclass(error, NearerError)
    assert error.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("error", ALL)
def test_errors_of_data_and_weights_alone_are_value_errors(error: type[Exception]) -> None:
    """Were ConfigError one, tyro would print it in a box of its own, without our sentence."""
    assert issubclass(error, ValueError) == (error in (DatasetError, CheckpointError))
    assert ConfigError in ALL


@pytest.mark.parametrize("kind", [ConfigError, DatasetError, CheckpointError, EnvError])
def test_sentence_keeps_its_beginning_and_its_advice_whatever_it_quotes(
    kind: type[NearerError],
) -> None:
    sentence = str(kind("a must be b, got " + "x" * 100_000 + "; mend it"))
    assert sentence.startswith("a must be b, got xxx")
    assert sentence.endswith("xxx; mend it")
    assert len(sentence) < 2010
    assert str(kind("short")) == "short"
