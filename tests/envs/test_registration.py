"""The Gymnasium ids of nearer's environments."""

import subprocess
import sys

import gymnasium

from nearer.envs import register_envs


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_import_registers_ids_and_loads_neither_mujoco_nor_torch() -> None:
    printed = python(
        "import sys, gymnasium, nearer.envs; "
        "print('nearer/BananaTableReal-v0' in gymnasium.registry, "
        "{'mujoco', 'torch'} & sys.modules.keys())"
    )
    assert printed.strip() == "True set()"


def test_import_of_the_tabletop_loads_no_torch() -> None:
    printed = python("import sys, nearer.envs.tabletop.env; print('torch' in sys.modules)")
    assert printed.strip() == "False"


def test_register_envs_twice_changes_nothing() -> None:
    before = dict(gymnasium.registry)
    register_envs()
    assert gymnasium.registry == before
    assert len([env_id for env_id in before if env_id.startswith("nearer/")]) == 17
