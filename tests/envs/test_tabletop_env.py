"""The tabletop as Gymnasium envs: contracts, determinism, instructions, bad input."""

import hashlib
import os
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from nearer.core.episode import EncodedObservation, Observation
from nearer.core.errors import EnvError
from nearer.envs import register_envs
from nearer.envs.tabletop import gl, renderer
from nearer.envs.tabletop.env import Tabletop, TabletopVector
from nearer.envs.tabletop.language import Family
from nearer.envs.tabletop.layout import BLOCKS
from nearer.envs.tabletop.simulation import Simulation
from nearer.envs.tabletop.tasks import draw_layout, solved
from nearer.fleets.gym import make_fleet
from nearer.testing import check_fleet

register_envs()

FAMILIES = {
    "Tabletop": set(Family) - {Family.BANANA},
    "TabletopBlock2Block": {Family.BLOCK_TO_BLOCK},
    "TabletopBlock2Place": {Family.BLOCK_TO_PLACE},
    "TabletopBlock2Relative": {Family.BLOCK_TO_RELATIVE},
    "TabletopPoint": {Family.POINT},
    "TabletopSeparate": {Family.SEPARATE},
    "BananaTable": {Family.BANANA},
}
DIGEST = """
import hashlib, numpy as np
from nearer.envs.tabletop.env import Tabletop
env, digest = Tabletop(look="real"), hashlib.sha256()
seen, info = env.reset(seed=11)
for step in range(12):
    digest.update(seen["agent_pos"].tobytes() + seen["pixels"]["front"].tobytes())
    seen = env.step(np.float32([0.04 * np.cos(step), 0.04 * np.sin(step)]))[0]
digest.update(env.layouts(np.arange(1))[0].poses.tobytes() + info["instruction"].encode())
"""


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


def row(seen: dict[str, Any], i: int) -> dict[str, Any]:
    return {key: row(part, i) if isinstance(part, dict) else part[i] for key, part in seen.items()}


@pytest.mark.parametrize("env_id", ["nearer/Tabletop-v0", "nearer/BananaTableReal-v0"])
def test_gymnasium_accepts_it(env_id: str) -> None:
    env = gymnasium.make(env_id, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.reset(seed=0)
    assert env.render().shape == (360, 640, 3)
    env.close()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("look", ["", "Real"])
def test_every_id_asks_for_its_families(name: str, look: str) -> None:
    env_id = f"nearer/{name}{look}-v0"
    envs = gymnasium.make_vec(env_id, 12, vectorization_mode="vector_entry_point", pictures=False)
    _, info = envs.reset(seed=0)
    asked = {task.family for task in envs.unwrapped.tasks(np.arange(12))}
    assert asked <= FAMILIES[name]
    assert len(asked) >= min(3, len(FAMILIES[name]))
    assert not info["is_success"].any()
    envs.close()


@pytest.mark.parametrize("env_id", ["nearer/Tabletop-v0", "nearer/BananaTableReal-v0"])
def test_it_keeps_the_contract_of_fleets(env_id: str) -> None:
    fleet = make_fleet(env_id, 3)
    assert [str(camera) for camera in fleet.spaces.cameras] == ["front 96x128"]
    check_fleet(fleet)
    fleet.close()


def test_nothing_but_the_effector_and_pictures_is_observed() -> None:
    env = Tabletop(height=48, width=64)
    seen, _ = env.reset(seed=0)
    assert seen.keys() == {"agent_pos", "pixels"}
    assert seen["agent_pos"].shape == (2,)
    assert seen["pixels"]["front"].shape == (48, 64, 3)
    assert Tabletop(pictures=False).reset(seed=0)[0].keys() == {"agent_pos"}


@pytest.mark.parametrize("look", ["sim", "real"])
def test_vectorised_and_single_agree_bit_for_bit(look: str) -> None:
    many = TabletopVector(num_envs=3, num_threads=2, look=look)
    singles = [Tabletop(look=look) for _ in range(3)]
    seen, info = many.reset(seed=[5, 6, 7])
    alone = [env.reset(seed=5 + i) for i, env in enumerate(singles)]
    assert info["instruction"].tolist() == [one[1]["instruction"] for one in alone]
    draw = np.random.default_rng(0)
    observed = [one[0] for one in alone]
    for _ in range(15):
        assert all(equal(row(seen, i), observed[i]) for i in range(3))
        actions = draw.uniform(-0.11, 0.11, (3, 2)).astype(np.float32)
        seen, reward, _, _, info = many.step(actions)
        steps = [env.step(action) for env, action in zip(singles, actions, strict=True)]
        observed = [step[0] for step in steps]
        assert reward.tolist() == [step[1] for step in steps]
        assert info["clipped"].tolist() == [step[4]["clipped"] for step in steps]
    many.close()


def test_the_number_of_threads_changes_nothing() -> None:
    alike: list[Any] = []
    for num_threads in (1, 3):
        envs = TabletopVector(num_envs=4, num_threads=num_threads)
        envs.reset(seed=3)
        alike.append(envs.step(np.full((4, 2), 0.03, np.float32))[0])
        envs.close()
    assert equal(*alike)


def test_another_process_sees_the_same_bits() -> None:
    here: dict[str, Any] = {}
    exec(DIGEST, here)
    there = subprocess.run(
        [sys.executable, "-c", DIGEST + "print(digest.hexdigest())"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert there.stdout.strip() == here["digest"].hexdigest()
    assert here["digest"].hexdigest() != hashlib.sha256().hexdigest()


def test_only_masked_rows_are_reset() -> None:
    envs = TabletopVector(num_envs=3, height=24, width=32)
    envs.reset(seed=0)
    before = envs.step(np.full((3, 2), 0.02, np.float32))[0]
    mask = np.array([False, True, False])
    after, info = envs.reset(seed=[None, 99, None], options={"reset_mask": mask})
    assert [equal(row(before, i), row(after, i)) for i in range(3)] == [True, False, True]
    assert info["instruction"][1] == Tabletop(pictures=False).reset(seed=99)[1]["instruction"]
    envs.close()


def test_the_board_can_be_kept_for_another_instruction() -> None:
    env = Tabletop(pictures=False)
    env.reset(seed=4)
    env.step(np.float32([0.05, 0.0]))
    layout = env.layouts(np.arange(1))[0]
    asked = [env.reset(options={"keep_board": True})[1]["instruction"] for _ in range(5)]
    kept = env.layouts(np.arange(1))[0]
    assert np.array_equal(kept.poses, layout.poses)
    assert np.array_equal(kept.effector, layout.effector)
    assert len(set(asked)) > 1
    assert not solved(env.tasks(np.arange(1))[0], kept)
    again = [env.reset(seed=8, options={"keep_board": True})[1]["instruction"] for _ in range(2)]
    assert again[0] == again[1]


def test_an_instruction_can_be_given_and_leaves_the_board_as_it_is() -> None:
    env = Tabletop(pictures=False)
    drawn = env.reset(seed=4)[0]
    wish = "push the blue cube next to the green star"
    given, info = env.reset(seed=4, options={"instruction": wish})
    assert info["instruction"] == wish
    assert equal(drawn, given)
    assert [str(block) for block in env.tasks(np.arange(1))[0].blocks] == [
        "blue cube",
        "green star",
    ]


def test_actions_beyond_the_limit_are_clipped_and_counted() -> None:
    env = Tabletop(pictures=False)
    ends: list[Any] = []
    for size in (0.3, 0.1):
        env.reset(seed=1)
        seen, _, _, _, info = env.step(np.float32([size, 0.0]))
        ends.append(seen)
        assert info["clipped"] == (size > 0.1)
    assert equal(*ends)
    assert env.step(np.float32([-0.5, 0.0]))[4]["clipped"] == 1
    assert env.reset(seed=1)[1]["clipped"] == 0


def test_the_demonstrator_sees_the_boards_of_its_env() -> None:
    envs = TabletopVector(num_envs=4, pictures=False, families=("point",))
    people, robots = envs.demonstrator(4), np.arange(4)
    seen, info = envs.reset(seed=0)
    rngs = [np.random.default_rng(i) for i in robots]
    people.begin(robots, rngs)
    reached = np.zeros(4, dtype=bool)
    for _ in range(60):
        observation = EncodedObservation.without_features(
            Observation(agent_pos=seen["agent_pos"], environment_state=np.zeros((4, 0), np.float32))
        )
        actions = people.act(observation, list(info["instruction"]), robots, rngs).actions
        seen, _, _, _, step_info = envs.step(actions)
        reached |= step_info["is_success"]
    assert reached.all()
    with pytest.raises(EnvError, match="must serve one robot, got 2"):
        Tabletop(pictures=False).demonstrator(2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"look": "photo"}, "look must be sim or real, got 'photo'"),
        ({"control_hz": 20}, "control_hz must be 5 or 10, got 20"),
        ({"families": ("juggle",)}, "families must be a tuple of block2block"),
        ({"families": ("banana", "point")}, "families must be banana alone or without it"),
        ({"families": ()}, "families must be"),
        ({"families": ("banana",), "blocks": ("blue cube",)}, "blocks must be left out"),
        ({"blocks": ("pink cube",)}, "blocks must be different ones of red moon"),
        ({"blocks": ("blue cube", "blue cube")}, "blocks must be different ones"),
        ({"height": 0}, "must be at least one pixel, got 0 and 128"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence):
        Tabletop(**settings)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"instruction": "dance"}, "instruction must"),
        ({"instruction": "push the yellow star to the blue cube"}, "is not on the board"),
        ({"keep_bord": True}, "options must be of .*got \\['keep_bord'\\]"),
    ],
)
def test_requests_that_cannot_be_are_refused_and_lose_nothing(
    options: dict[str, Any], sentence: str
) -> None:
    env = Tabletop(pictures=False, blocks=("blue cube", "red moon", "green star"))
    env.reset(seed=0)
    before = env.layouts(np.arange(1))[0]
    with pytest.raises(EnvError, match=sentence):
        env.reset(seed=1, options=options)
    assert np.array_equal(env.layouts(np.arange(1))[0].poses, before.poses)


def test_what_needs_a_reset_says_so() -> None:
    with pytest.raises(EnvError, match="keep_board must follow a reset"):
        Tabletop(pictures=False).reset(seed=0, options={"keep_board": True})
    with pytest.raises(EnvError, match="must be reset before it is stepped"):
        Tabletop(pictures=False).step(np.zeros(2, np.float32))


def test_missing_opengl_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise AttributeError(f"no library for {name}")

    monkeypatch.setattr(gl.importlib, "import_module", missing)
    simulation = Simulation()
    simulation.reset(draw_layout(BLOCKS, np.random.default_rng(0)))
    with pytest.raises(
        EnvError, match=r"pictures must have EGL or OSMesa.*apt-get install libegl1"
    ):
        simulation.picture(17, 19)
    monkeypatch.undo()
    assert simulation.picture(17, 19).shape == (17, 19, 3)


@pytest.mark.parametrize(
    ("installed", "asked_for", "sentence"),
    [
        ((), "", "got no libEGL.so.1 .*; run: apt-get install libegl1 libgl1-mesa-dri, or"),
        (("egl",), "osmesa", r"got no libOSMesa.so.8 \(MUJOCO_GL='osmesa'\); unset MUJOCO_GL, or"),
        (
            ("egl",),
            "glfw",
            "got no window .*; unset MUJOCO_GL, or make the env with pictures=False",
        ),
    ],
)
def test_what_opengl_lacks_is_named(
    installed: tuple[str, ...], asked_for: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_window(name: str) -> Any:
        raise RuntimeError("no window")

    monkeypatch.setattr(gl.importlib, "import_module", no_window)
    monkeypatch.setattr(gl, "_installed", lambda backend: backend in installed)
    monkeypatch.setattr(gl, "_asked_for", asked_for)
    monkeypatch.setenv("MUJOCO_GL", asked_for or "egl")
    simulation = Simulation()
    simulation.reset(draw_layout(BLOCKS, np.random.default_rng(0)))
    with pytest.raises(EnvError, match=sentence):
        simulation.picture(18, 20)


def test_a_window_that_cannot_be_opened_is_a_sentence() -> None:
    code = (
        "from nearer.envs.tabletop.env import Tabletop\n"
        "from nearer.core.errors import EnvError\n"
        "try: Tabletop().reset(seed=0)\n"
        "except EnvError as error: print(error)"
    )
    screenless = {**os.environ, "MUJOCO_GL": "glfw", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=screenless, capture_output=True, text=True, check=False)
    assert "pictures must have EGL or OSMesa, got " in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_forked_process_is_told_instead_of_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation()
    simulation.reset(draw_layout(BLOCKS, np.random.default_rng(0)))
    simulation.picture(24, 32)
    pid = os.getpid()
    monkeypatch.setattr(renderer.os, "getpid", lambda: pid + 1)
    with pytest.raises(EnvError, match=r"forked after the first picture.*forkserver"):
        simulation.picture(24, 32)


def test_importing_the_ids_imports_neither_mujoco_nor_torch() -> None:
    code = (
        "import sys, nearer.envs; nearer.envs.register_envs(); "
        "print(*sorted({'mujoco', 'torch'} & sys.modules.keys())); "
        "import nearer.envs.tabletop.env; print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.split() == ["False"]
