"""Envs found by their id, in the package that registers them, and told apart from none."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from commands.faulty_envs import SmallEnv
from nearer.core.errors import EnvError
from nearer.fleets.env_settings import EnvSettings
from nearer.fleets.find_env import (
    env_class,
    env_spec,
    make_env,
    observation_advice,
    portable_spec,
    register_here,
    time_limit,
)
from nearer.fleets.gym import make_fleet

PACKAGE = """
import gymnasium
from gymnasium.spaces import Box, Dict

class Line(gymnasium.Env):
    observation_space = Dict({"agent_pos": Box(-1, 1, (1,))})
    action_space = Box(-1, 1, (1,))

    def __init__(self, obs_type="state", size=3, render_mode=None):
        self.size = size
        self.obs_type = obs_type

def short_line():
    return gymnasium.wrappers.TimeLimit(Line(), max_episode_steps=20)

gymnasium.register("ID", "PACKAGE:Line", max_episode_steps=50)
gymnasium.register("Short-v0", "PACKAGE:short_line")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield an id that a package registers once it is imported, as `Some-World/Line-v0`."""
    text = PACKAGE.replace("ID", "Some-World/Line-v0").replace("PACKAGE", "someworld")
    (tmp_path / "someworld.py").write_text(text)
    (tmp_path / "broken.py").write_text("import no_such_driver\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "Some-World/Line-v0"
    for env_id in ("Some-World/Line-v0", "Short-v0"):
        gymnasium.registry.pop(env_id, None)
    for module in ("someworld", "broken"):
        sys.modules.pop(module, None)


def test_namespace_names_the_package_whatever_its_spelling(package: str) -> None:
    assert package not in gymnasium.registry
    assert env_spec(package).id == package


def test_module_named_before_the_id_is_imported(package: str) -> None:
    made = make_env(f"someworld:{package}", EnvSettings(env_kwargs=("size=5",)))
    assert made.unwrapped.size == 5  # type: ignore[attr-defined]
    assert env_class(f"someworld:{package}") == "Line-v0"


@pytest.mark.parametrize(
    ("env_id", "sentence"),
    [
        ("Some-World/Lines-v0", r"imported someworld.*\); did you mean Some-World/Line-v0\?"),
        ("nowhere:Zzz/Qqqqqqq-v77", r"\(no module named nowhere\); install the package, or put"),
        ("Else-Where/Zzz", r"\(no module named Else_Where, no .* elsewhere\); install the package"),
        ("::", "must be a registered Gymnasium id"),
        (
            "broken:Some/Thing-v7",
            "must be an env that can be made here, got: No module named 'no_s",
        ),
    ],
)
def test_unknown_id_names_what_was_tried(env_id: str, sentence: str, package: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        env_spec(env_id)


def test_setting_that_the_env_has_not_is_refused_with_those_it_has(package: str) -> None:
    with pytest.raises(EnvError, match="got colour; it has obs_type, size, render_mode"):
        make_env(package, EnvSettings(env_kwargs=("colour=red",)))


def test_observation_advice_names_the_envs_own_setting(package: str) -> None:
    assert "--env-kwargs obs_type=..." in observation_advice(env_spec(package))
    assert observation_advice(env_spec("nearer/PointMass-v0")) == ""
    assert observation_advice(None) == ""


def test_time_limit_is_gymnasiums_or_the_users(package: str) -> None:
    assert time_limit(make_env(package)) == 50
    longer = EnvSettings(env_kwargs=("max_episode_steps=70",))
    assert time_limit(make_env(package, longer)) == 70
    assert time_limit(make_env(package).unwrapped) is None


def test_time_limit_below_max_steps_is_told(package: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = EnvSettings(instruction="go")
    make_fleet(package, 1, settings, max_steps=50)
    assert not caplog.messages
    make_fleet(package, 2, settings, max_steps=60)
    assert caplog.messages == [
        f"{package} ends its episodes after 50 steps, before --max-steps 60; to go on, pass "
        "--env-kwargs max_episode_steps=60"
    ]


def test_time_limit_that_the_registry_does_not_name_is_told(
    package: str, caplog: pytest.LogCaptureFixture
) -> None:
    short, longer = "someworld:Short-v0", EnvSettings(env_kwargs=("max_episode_steps=90",))
    for settings in (EnvSettings(), longer):
        assert time_limit(make_env(short, settings)) == 20
    make_fleet(short, 1, longer, max_steps=30)
    assert caplog.messages == [
        "someworld:Short-v0 ends its episodes after 20 steps, before --max-steps 30; its own code "
        "does so, choose --max-steps 20"
    ]


def test_an_env_that_a_script_registers_is_known_to_other_processes() -> None:
    gymnasium.register("test/Here-v0", SmallEnv, disable_env_checker=True)
    try:
        spec = pickle.loads(pickle.dumps(portable_spec("test/Here-v0")))
    finally:
        del gymnasium.registry["test/Here-v0"]
    register_here(spec)
    try:
        assert isinstance(make_env("test/Here-v0").unwrapped, SmallEnv)
    finally:
        del gymnasium.registry["test/Here-v0"]


def test_an_env_that_other_processes_cannot_import_is_a_sentence() -> None:
    gymnasium.register("test/Nameless-v0", lambda: SmallEnv(), disable_env_checker=True)
    try:
        with pytest.raises(EnvError, match="must be made by a class or function that other"):
            portable_spec("test/Nameless-v0")
    finally:
        del gymnasium.registry["test/Nameless-v0"]
