"""Settings of an env, as flags give them."""

import pytest

from nearer.core.errors import ConfigError
from nearer.fleets.env_settings import EnvSettings, shown


def test_kwargs_pairs_are_json_where_they_can_be() -> None:
    given = ("obs_type=pixels", "size=96", "gain=1.5", "flip=true", "tasks=[1, 2]", "name=a=b")
    assert EnvSettings(env_kwargs=given).kwargs == {
        "obs_type": "pixels",
        "size": 96,
        "gain": 1.5,
        "flip": True,
        "tasks": [1, 2],
        "name": "a=b",
    }


def test_kwargs_json_object_is_taken_as_it_is() -> None:
    settings = EnvSettings(env_kwargs=('{"obs_type": "state", "nested": {"a": null}}',))
    assert settings.kwargs == {"obs_type": "state", "nested": {"a": None}}
    assert EnvSettings().kwargs == {}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("pixels",), "must be KEY=VALUE or one JSON object, got 'pixels'"),
        (("=3",), "must be KEY=VALUE"),
        (("a b=3",), "must be KEY=VALUE"),
        (("a=1", "a=2"), "must name a once"),
        (('{"a": ',), "must be KEY=VALUE or one JSON object"),
        (("a=1", '{"b": 2}'), "must be KEY=VALUE"),
    ],
)
def test_kwargs_that_are_none_are_refused(given: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"--env-kwargs {sentence}"):
        EnvSettings(env_kwargs=given)


def test_rename_keeps_the_order_and_knows_cameras() -> None:
    given = ("b/joints=agent_pos", "a=agent_pos", "top=pixels/top", "view=pixels")
    assert list(EnvSettings(rename=given).renamed.items()) == [
        ("b/joints", "agent_pos"),
        ("a", "agent_pos"),
        ("top", "pixels/top"),
        ("view", "pixels"),
    ]


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (("joints",), "must be pairs NAME=NEW_NAME, got 'joints'"),
        (("=agent_pos",), "must be pairs NAME=NEW_NAME"),
        (("a=",), "must be pairs NAME=NEW_NAME"),
        (("a=agent_pos", "a=pixels"), "must give each name once"),
        (("joints=state",), "must name agent_pos, .* got state for joints"),
        (("a=pixels/",), "must name agent_pos"),
        (("a=pixels/b/c",), "must name agent_pos"),
    ],
)
def test_rename_to_no_key_of_lerobot_is_refused(pairs: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"--rename {sentence}"):
        EnvSettings(rename=pairs)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"instruction": "  "}, "--instruction must have 1 to 1000 characters, got 0"),
        ({"fps": 0}, "--fps must be 1 or more"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        EnvSettings(**settings)  # type: ignore[arg-type]


def test_shown_is_what_the_flag_takes() -> None:
    given = ("obs_type=pixels", "size=96")
    assert tuple(shown(EnvSettings(env_kwargs=given).kwargs).split()) == given
