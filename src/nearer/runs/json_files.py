"""JSON files as frozen dataclasses: one strict reader and one writer for every document of a run.

    write_document(path, document)        frozen dataclass -> file
    read_document(kind, path, advice)     file -> frozen dataclass, or a sentence
    write_documents, read_documents       the same for files with a document a line

A file has the keys of its dataclass, no more and no fewer (a field with a default may be missing).
Fields are bool, int, float, str, Path, None, Literal, nested dataclasses, unions of these,
tuple[X, ...], tuple[X, Y], named tuples, Mapping[str, X], and object for a JSON value that stays
as it is.
A float must be finite: nan and inf are refused.
"""

import json
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from nearer.core.errors import ConfigError
from nearer.runs.files import append_line, write_json, write_lines

Document = TypeVar("Document")
"""A frozen dataclass whose fields are JSON values, see above."""

_LONGEST = 60  # characters of a wrong value that a sentence quotes


class UnexpectedJson(ValueError):
    """A JSON value is not of the form that is expected.

    Attributes:
        key: where, such as curves.rollouts.recall[3]; "" for the document itself.
        expected: what there must be.
        got: what there is, as a sentence quotes it.
    """

    def __init__(self, key: str, expected: str, got: str) -> None:
        super().__init__(f"{key or 'the document'} must be {expected}, got {got}")
        self.key = key
        self.expected = expected
        self.got = got


def read_document(
    kind: type[Document], path: Path, advice: str, *, partly: bool = False
) -> Document:
    """Return the document that `write_document` wrote.

    Args:
        kind: its dataclass.
        path: its file.
        advice: what to do if it cannot be read; ends the sentence.
        partly: whether the file may have further keys, at every level.

    Raises:
        ConfigError: no such file, no JSON, or not of this form: the sentence names the key.
    """
    return document_of(kind, read_json_object(path, advice), path, advice, partly=partly)


def document_of(
    kind: type[Document], value: object, path: Path, advice: str, *, partly: bool = False
) -> Document:
    """Return a document of the JSON value that stands in the file `path`; see `read_document`."""
    try:
        return from_json(kind, value, partly=partly)
    except UnexpectedJson as error:
        raise ConfigError(
            f"{path} must be as this version of nearer writes it, with "
            f"{error.key or 'the document'} {error.expected}, got {error.got}; {advice}"
        ) from error
    except ConfigError as error:  # of a dataclass that checks its own values
        raise ConfigError(
            f"{path} must be as this version of nearer writes it, got: {error}; {advice}"
        ) from error


def require(is_right: bool, rule: str, got: object) -> None:
    """Raise ConfigError, which `read_document` makes a sentence of, unless a document keeps a rule.

    Args:
        is_right: whether it does.
        rule: "NAMES must BE SO".
        got: what they are.
    """
    if not is_right:
        raise ConfigError(f"{rule}, got {_quoted(to_json(got))}")


def write_document(path: Path, document: object) -> None:
    """Write a document, whole or not at all.

    Raises:
        NearerError: the disk does not take it.
    """
    write_json(path, cast(dict[str, Any], to_json(document)))


def read_documents(kind: type[Document], path: Path, advice: str) -> list[Document]:
    """Return the documents of a file of lines, empty if there is none.

    A last line that a kill cut short is left out.

    Raises:
        ConfigError: a line is not of this form.
    """
    return [document_of(kind, line, path, advice) for line in read_lines(path, advice)]


def write_documents(path: Path, documents: Sequence[object]) -> None:
    """Write documents, one a line, whole or not at all.

    Raises:
        NearerError: the disk does not take it.
    """
    write_lines(path, [cast(dict[str, Any], to_json(document)) for document in documents])


def append_document(path: Path, document: object) -> None:
    """Add a document to a file of lines; it survives a power cut.

    Raises:
        NearerError: the disk does not take it.
    """
    append_line(path, cast(dict[str, Any], to_json(document)))


def read_json_object(path: Path, advice: str) -> Mapping[str, object]:
    """Return the JSON object of a file, or raise a sentence that ends in the advice."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} must be a JSON file of a run, got: {error}; {advice}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {_quoted(document)}; {advice}")
    return cast(dict[str, object], document)


def read_lines(path: Path, advice: str = "restore it") -> list[dict[str, Any]]:
    """Return the JSON objects of a file of lines; a last line cut short by a kill is left out.

    Raises:
        ConfigError: it cannot be read, or another line is no JSON object.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} must be a file of JSON lines, got: {error}; {advice}") from error
    *whole, cut_short = lines
    records = [
        _json_line(line, f"line {number} of {path}", advice)
        for number, line in enumerate(whole, 1)
        if line.strip()
    ]
    try:
        last: Any = json.loads(cut_short)
    except (ValueError, RecursionError):
        return records
    return [*records, last] if isinstance(last, dict) else records


def _json_line(line: str, where: str, advice: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} must be JSON, got: {error}; {advice}") from error
    if not isinstance(record, dict):
        raise ConfigError(f"{where} must be a JSON object, got {_quoted(record)}; {advice}")
    return cast(dict[str, Any], record)


def to_json(value: object) -> object:
    """Return a document, or a value of one, as JSON values; `from_json` is its inverse."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    return _plain(value)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        items = cast(Mapping[str, object], value).items()
        return {name: _plain(item) for name, item in items}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in cast(Sequence[object], value)]
    return str(value) if isinstance(value, Path) else value


def from_json(kind: type[Document], value: object, *, partly: bool = False) -> Document:
    """Return a frozen dataclass of the JSON object that `to_json` made of it.

    Args:
        kind: the dataclass.
        value: a JSON value.
        partly: whether the object may have further keys, at every level.

    Raises:
        UnexpectedJson: a key is missing or unknown, or its value of another type.
    """
    return cast(Document, _parsed_dataclass(kind, value, "", partly))


def _parsed(hint: Any, value: object, key: str, partly: bool) -> object:
    """Return a JSON value as what a type hint says."""
    if hint is object:
        return value
    if is_dataclass(hint):
        return _parsed_dataclass(hint, value, key, partly)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _parsed_union(arguments, value, key, partly)
    if hasattr(hint, "_make"):
        return hint(*_parsed_tuple(tuple(_hints(hint).values()), value, key, partly))
    if origin is tuple:
        return _parsed_tuple(arguments, value, key, partly)
    if origin is Mapping:
        names = _object(value, key)
        return {
            name: _parsed(arguments[1], item, _below(key, name), partly)
            for name, item in names.items()
        }
    if origin is Literal:
        return _accepted(value in arguments, value, key, f"one of {', '.join(map(str, arguments))}")
    return _parsed_scalar(hint, value, key)


def _parsed_scalar(hint: Any, value: object, key: str) -> object:
    if hint is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # Compared, not converted: JSON has whole numbers that are no floats.
        is_finite = is_number and abs(cast(float, value)) <= sys.float_info.max
        _accepted(is_finite, value, key, "a finite number")
        return float(cast(float, value))
    if hint is int:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        is_whole = is_whole and abs(cast(int, value)) <= sys.float_info.max
        return _accepted(is_whole, value, key, "a whole number")
    if hint is bool:
        return _accepted(isinstance(value, bool), value, key, "true or false")
    if hint is Path:
        is_path = isinstance(value, str) and "\0" not in value
        return Path(str(_accepted(is_path, value, key, "a path")))
    if hint is str:
        return _accepted(isinstance(value, str), value, key, "a text")
    assert hint is types.NoneType, f"{key} has a type that JSON files cannot have: {hint}"
    return _accepted(value is None, value, key, "null")


def _accepted(is_right: bool, value: object, key: str, expected: str) -> object:
    if not is_right:
        raise UnexpectedJson(key, expected, _quoted(value))
    return value


def _parsed_union(kinds: Sequence[Any], value: object, key: str, partly: bool) -> object:
    """Return a JSON value as the first kind that it is of."""
    if value is None and types.NoneType in kinds:
        return None
    others = [kind for kind in kinds if kind is not types.NoneType]
    if len(others) == 1:  # the sentence says what was wrong inside
        return _parsed(others[0], value, key, partly)
    expected: list[str] = []
    for kind in others:
        try:
            return _parsed(kind, value, key, partly)
        except UnexpectedJson as error:
            expected.append(error.expected)
    raise UnexpectedJson(key, " or ".join(expected), _quoted(value))


def _parsed_tuple(
    kinds: Sequence[Any], value: object, key: str, partly: bool
) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        raise UnexpectedJson(key, "a list", _quoted(value))
    items = cast(Sequence[object], value)
    if kinds[-1] is Ellipsis:
        kinds = [kinds[0]] * len(items)
    if len(items) != len(kinds):
        raise UnexpectedJson(key, f"a list of {len(kinds)}", f"{len(items)}")
    return tuple(
        _parsed(kind, item, f"{key}[{index}]", partly)
        for index, (kind, item) in enumerate(zip(kinds, items, strict=True))
    )


def _parsed_dataclass(kind: Any, value: object, key: str, partly: bool) -> object:
    names, hints = _object(value, key), _hints(kind)
    unknown = [] if partly else sorted(names.keys() - hints.keys())
    if unknown:
        expected = ", ".join(hints)
        raise UnexpectedJson(_below(key, unknown[0]), "absent", f"it beside {expected}")
    for field in fields(kind):
        may_be_missing = field.default is not MISSING or field.default_factory is not MISSING
        if field.name not in names and not may_be_missing:
            raise UnexpectedJson(_below(key, field.name), "there", "no such key")
    values = {
        name: _parsed(hints[name], item, _below(key, name), partly)
        for name, item in names.items()
        if name in hints
    }
    return kind(**values)


def _object(value: object, key: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise UnexpectedJson(key, "an object", _quoted(value))
    return cast(dict[str, object], value)


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    """Return field -> type of a dataclass; resolving them takes longer than a whole document."""
    return get_type_hints(kind)


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _quoted(value: object) -> str:
    """Return a wrong value as a sentence quotes it: in JSON, and bounded."""
    try:
        text = json.dumps(value)
    except (ValueError, RecursionError):  # numbers of thousands of digits, lists a thousand deep
        return "what is too long to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
