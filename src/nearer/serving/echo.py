"""What a request says of itself and its answer repeats: which answer belongs to which request.

A client that waited too long and asked again would otherwise take the late answer for the new one.

    request_id   text of up to 200 characters, or a whole number
    step         a whole number, such as the control step of the observation
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nearer.core.errors import MessageError

REQUEST_ID, STEP = "request_id", "step"
_MAX_ID = 200  # characters
_END = 1 << 63  # of whole numbers that every client's msgpack can hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """A request's own marks.

    Attributes:
        request_id: None: it has none.
        step: None: it has none.
    """

    request_id: str | int | None = None
    step: int | None = None

    def to_message(self) -> dict[str, object]:
        """Return the marks by name, as an answer repeats them; what is None is left out."""
        marks: dict[str, object] = {REQUEST_ID: self.request_id, STEP: self.step}
        return {name: mark for name, mark in marks.items() if mark is not None}

    def before(self, sentence: str) -> str:
        """Return a sentence that begins with the marks: an answer that is text repeats them so."""
        marks = ", ".join(f"{name} {mark}" for name, mark in self.to_message().items())
        return f"{marks}: {sentence}" if marks else sentence


def read_echo(message: Mapping[str, object]) -> Echo:
    """Return the marks of a message.

    Raises:
        MessageError: they are no text or numbers, or too long.
    """
    request_id, step = message.get(REQUEST_ID), message.get(STEP)
    if isinstance(request_id, str):
        if len(request_id) > _MAX_ID:
            raise MessageError(
                f"{REQUEST_ID} must have up to {_MAX_ID} characters, got {len(request_id)}; send a "
                "number, or a shorter text"
            )
    elif request_id is not None and not _is_whole(request_id):
        raise MessageError(
            f"{REQUEST_ID} must be text or a whole number of 63 bits, got "
            f"{type(request_id).__name__}; count your requests, or leave it out"
        )
    if step is not None and not _is_whole(step):
        raise MessageError(
            f"{STEP} must be a whole number of 63 bits, got {type(step).__name__}; count the "
            "control steps, or leave it out"
        )
    # Built from what was checked, so that the types hold.
    return Echo(
        request_id=request_id if isinstance(request_id, str | int) else None,
        step=step if isinstance(step, int) else None,
    )


def _is_whole(value: object) -> bool:
    return type(value) is int and -_END <= value < _END
