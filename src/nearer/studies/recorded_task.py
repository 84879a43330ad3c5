"""Both stages on a task of another simulator, from demonstrations of its states.

PushT and Meta-World's tasks, as `nearer demo pusht` and `nearer demo metaworld` run them. Env, its
settings and time limit are the data set's own. Their scripted demonstrators are in
examples/demonstrators/.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.sft_settings import SFTTraining
from nearer.commands.runs import as_saved
from nearer.configs.collect import CollectConfig
from nearer.configs.demo import RecordedTask
from nearer.configs.eval import EvalConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import Calibration, SFTConfig
from nearer.core.errors import ConfigError
from nearer.evaluation.audit_settings import AuditPlan
from nearer.fleets.env_settings import EnvSettings
from nearer.models.settings import MLPConfig
from nearer.studies.recipe import Recipe

_EVALUATION_SEED = 0  # the test starts; nothing was ever tuned on them
_NUM_ENVS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """How much a task takes.

    Attributes:
        env: Gymnasium id of the data set's env.
        script: makes the data set.
        sft_updates: gradient updates of Stage 1.
        practice_steps: control steps of Stage 2, at most.
        test_kwargs: settings of the env for test starts, where they differ.
    """

    env: str
    script: str
    sft_updates: int
    practice_steps: int
    test_kwargs: Mapping[str, object]


_TASKS: Mapping[RecordedTask, _Task] = {
    "pusht": _Task(
        env="gym_pusht/PushT-v0",
        script="pusht_pusher.py",
        sft_updates=6000,
        practice_steps=100_000,
        test_kwargs={},
    ),
    "metaworld": _Task(
        env="Meta-World/MT1",
        script="metaworld_expert.py push-v3",
        sft_updates=2000,
        practice_steps=60_000,
        test_kwargs={"seed": 2},  # goals of nobody else; trials were evaluated on those of 1
    ),
}


def recorded_task(
    which: RecordedTask, data: Path | None, out: Path, seed: int = 0, quick: bool = False
) -> Recipe:
    """Return the recipe of a task; its demonstrations are those of the data set.

    Args:
        which: the task.
        data: data set that the task's scripted demonstrator has recorded.
        out: folder for runs and report.
        seed: of everything that is trained or practised; the test starts stay the same.
        quick: a few seconds' worth of everything, as a smoke test; learns little.

    Raises:
        ConfigError: there is no data set, or it is another env's.
    """
    task = _TASKS[which]
    collected = _collected(which, task, data)
    sft_run, practice_run = out / "sft", out / "practice"
    evaluation = EvalConfig(
        checkpoint=sft_run,
        env=collected.env,
        env_settings=_with_kwargs(collected.env_settings, task.test_kwargs),
        episodes=10 if quick else 300,
        max_steps=collected.max_steps,
        num_envs=_NUM_ENVS,
        seed=_EVALUATION_SEED,
        videos=0,
    )
    return Recipe(
        collect=collected,
        sft=SFTConfig(
            data=str(collected.out),
            model="mlp",
            out=sft_run,
            mlp=MLPConfig(num_bins=collected.max_steps + 1),
            calibration=Calibration(
                env=collected.env,
                env_settings=collected.env_settings,
                rollouts=10 if quick else 100,
                rollout_steps=collected.max_steps,
                min_precision=0.9,
            ),
            training=SFTTraining(
                updates=100 if quick else task.sft_updates,
                validate_every=100 if quick else 500,
                seed=seed,
            ),
        ),
        eval_sft=evaluation,
        improve=ImproveConfig(
            run=sft_run,
            env=collected.env,
            env_settings=collected.env_settings,
            out=practice_run,
            num_envs=_NUM_ENVS,
            fleet="lockstep",
            practice=Practice(
                max_env_steps=3_000 if quick else task.practice_steps,
                updates_per_iteration=8,
                batch_size=128,
                learning_rate=5e-5,  # at 2e-4 push-v3 collapsed (docs/log.md)
                max_steps=collected.max_steps,
                seed=seed,
            ),
            audits=AuditPlan(on_alarm="continue"),  # a study measures what comes of it
            deviate=Deviations(ppo_clip=0.2, baseline="value", epochs=4),
        ),
        eval_improve=replace(evaluation, checkpoint=practice_run),
    )


def _collected(which: RecordedTask, task: _Task, data: Path | None) -> CollectConfig:
    """Return the settings that the data set was collected with."""
    advice = (
        f"pip install 'nearer[{which}]', run python examples/demonstrators/{task.script} --out "
        f"DATA, then nearer demo {which} --data DATA"
    )
    if data is None:
        raise ConfigError(f"--data must name demonstrations of {which}, got none; {advice}")
    collected = as_saved(CollectConfig(out=data, resume=True))
    if collected.env != task.env:
        raise ConfigError(
            f"--data must name demonstrations of {task.env}, got {data}, of {collected.env}; "
            f"{advice}"
        )
    return collected


def _with_kwargs(settings: EnvSettings, kwargs: Mapping[str, object]) -> EnvSettings:
    """Return the settings of an env with some of its keyword arguments replaced."""
    return replace(settings, env_kwargs=(json.dumps({**settings.kwargs, **kwargs}),))
