"""Every document of a run is read back as it was written, and a damaged one is refused."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from document_values import AUDIT, calibration, drawn, evaluation, header, info_of, reward_report
from nearer.core.errors import ConfigError
from nearer.evaluation.baseline_settings import BaselineSettings
from nearer.runs.documents import Demonstrations, EncodingTime, Rollouts, TrackerIds
from nearer.runs.json_files import (
    UnexpectedJson,
    from_json,
    read_document,
    read_documents,
    to_json,
    write_document,
    write_documents,
)

DOCUMENTS = [
    header("sft", {"data": "here", "training": {"seed": 3}}),
    EncodingTime(seconds=1.5),
    TrackerIds(ids={"wandb": "0a"}),
    Demonstrations(episodes=(drawn(2),)),
    Rollouts(env="env", episodes=(drawn(2), drawn(3, "time_limit"))),
    info_of(evaluation(2, 3), "env"),
    calibration(),
    reward_report(),
    AUDIT,
]


@pytest.fixture(params=DOCUMENTS, ids=lambda document: type(document).__name__)
def document(request: pytest.FixtureRequest) -> object:
    return request.param


def test_read_document_written_document_is_equal(document: object, tmp_path: Path) -> None:
    write_document(tmp_path / "document.json", document)
    assert read_document(type(document), tmp_path / "document.json", "") == document


def test_read_documents_truncated_last_line_is_left_out(document: object, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    write_documents(path, [document, document])
    assert read_documents(type(document), path, "") == [document, document]
    path.write_text(path.read_text()[:-10])
    assert read_documents(type(document), path, "") == [document]


def keys_of(value: object, key: str = "") -> list[tuple[str, ...]]:
    """Return the path of every key of a JSON value, in lists of their first item."""
    if isinstance(value, dict):
        below = [(name, *rest) for name, item in value.items() for rest in keys_of(item)]
        return [*((name,) for name in value), *below]
    if isinstance(value, list) and value:
        return [("0", *rest) for rest in keys_of(value[0])]
    return []


def parent_of(value: object, path: tuple[str, ...]) -> dict[str, object]:
    for name in path[:-1]:
        value = value[0] if isinstance(value, list) else value[name]  # type: ignore[index]
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("damage", ["missing", "unknown", "other type"])
def test_read_document_damaged_key_is_refused(
    damage: str, document: object, tmp_path: Path
) -> None:
    free = {"config", "ids", "per_task", "curves", "at_threshold", "sources", "slices", "examples"}
    path = tmp_path / "document.json"
    keys = [key for key in keys_of(to_json(document)) if not free & {*key[:-1]}]
    for key in keys:
        value = json.loads(json.dumps(to_json(document)))
        parent, name = parent_of(value, key), key[-1]
        if damage == "missing":
            del parent[name]
        elif damage == "unknown":
            parent["unheard_of"] = 1
        else:
            parent[name] = [{}, name]
        path.write_text(json.dumps(value))
        try:
            read_document(type(document), path, "do this")
        except ConfigError as error:
            message = str(error)
            assert message.startswith(f"{path} must be as this version of nearer writes it, with ")
            assert message.endswith("; do this")
            assert ("unheard_of" if damage == "unknown" else name) in message
            assert "\n" not in message
        else:
            assert damage == "missing", f"{key} may be anything"


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_read_document_truncated_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    document = data.draw(st.sampled_from(DOCUMENTS))
    path = tmp_path_factory.mktemp("cut") / "document.json"
    write_document(path, document)
    text = path.read_text().rstrip()
    path.write_text(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.raises(ConfigError, match=r"must be a JSON file of a run, got: .*; do this"):
        read_document(type(document), path, "do this")


def test_read_document_impossible_value_is_refused(tmp_path: Path) -> None:
    (tmp_path / "document.json").write_text(json.dumps({"hidden": 0}))
    sentence = r"\.json must be .*, got: --baselines\.hidden must be 1 or more, got 0.*; do this"
    with pytest.raises(ConfigError, match=sentence):
        read_document(BaselineSettings, tmp_path / "document.json", "do this")


def test_read_document_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"document\.json must be a JSON file of a run, got: "):
        read_document(EncodingTime, tmp_path / "document.json", "do this")


class Place(NamedTuple):
    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    number: float
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Everything:
    flag: bool
    text: str
    kind: Literal["a", "b"]
    maybe: float | None
    either: int | str
    pair: tuple[float, int]
    inner: tuple[Inner, ...]
    named: Mapping[str, Inner]
    place: Place
    path: Path
    anything: object


floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | floats | st.text()
inners = st.builds(Inner, number=floats, count=st.integers())
everythings = st.builds(
    Everything,
    flag=st.booleans(),
    text=st.text(),
    kind=st.sampled_from(["a", "b"]),
    maybe=st.none() | floats,
    either=st.integers() | st.text(),
    pair=st.tuples(floats, st.integers()),
    inner=st.lists(inners).map(tuple),
    named=st.dictionaries(st.text(), inners),
    place=st.builds(Place, name=st.text(), size=st.integers()),
    path=st.lists(st.sampled_from("abc")).map(lambda names: Path(*names)),
    anything=scalars | st.lists(scalars) | st.dictionaries(st.text(), st.lists(scalars)),
)


@settings(deadline=None, max_examples=100)
@given(everythings)
def test_from_json_text_of_to_json_is_equal(document: Everything) -> None:
    assert from_json(Everything, json.loads(json.dumps(to_json(document)))) == document


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"number": True}, "number must be a finite number, got true"),
        ({"number": math.nan}, "number must be a finite number, got NaN"),
        ({"number": -math.inf}, "number must be a finite number, got -Infinity"),
        ({"number": None}, "number must be a finite number, got null"),
        ({"number": 1, "count": 1.0}, "count must be a whole number, got 1.0"),
        ({"number": 1, "count": "x" * 99}, 'count must be a whole number, got "xxx.*…'),
        ({"number": 1, "more": 2}, "more must be absent, got it beside number, count"),
        ({}, "number must be there, got no such key"),
        ([1], r"the document must be an object, got \[1\]"),
    ],
)
def test_from_json_unexpected_value_is_refused(value: object, sentence: str) -> None:
    with pytest.raises(UnexpectedJson, match=sentence):
        from_json(Inner, value)


def test_from_json_whole_number_becomes_a_float() -> None:
    number = from_json(Inner, {"number": 3}).number
    assert isinstance(number, float)


def test_from_json_partly_ignores_further_keys() -> None:
    assert from_json(Inner, {"number": 1, "more": 2}, partly=True) == Inner(number=1.0)
    with pytest.raises(UnexpectedJson, match="number must be there"):
        from_json(Inner, {"more": 2}, partly=True)
