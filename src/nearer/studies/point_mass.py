"""The point-mass recipe: what `nearer demo point-mass` runs.

Differs from the authors' notebook (docs/log.md has the trials): bins of one step, since the
detector needs to tell 0 steps from 1; an eighth of the Stage-1 updates, at a larger and falling
rate; N * B = 1,024 as 8 updates of 128, which never collapsed where 16 of 64 did.
"""

from pathlib import Path

from nearer.algorithm.improve_settings import Practice
from nearer.algorithm.sft_settings import SFTTraining
from nearer.configs.collect import CollectConfig
from nearer.configs.eval import EvalConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import Calibration, SFTConfig
from nearer.envs.point_mass import ENV_ID, TIME_LIMIT_STEPS
from nearer.evaluation.audit_settings import AuditPlan
from nearer.studies.recipe import Recipe

_EVALUATION_SEED = 0  # the test starts; nothing was ever tuned on them


def point_mass(
    out: Path, seed: int = 0, episodes: int | None = None, quick: bool = False
) -> Recipe:
    """Return the point-mass recipe.

    Args:
        out: folder for data set, runs and report.
        seed: of everything that is trained or practised; the test starts stay the same.
        episodes: demonstrations; 10,000 unless given.
        quick: a few seconds' worth of everything, as a smoke test; learns little.
    """
    data, sft_run, practice_run = out / "demonstrations", out / "sft", out / "practice"
    return Recipe(
        collect=CollectConfig(
            env=ENV_ID,
            out=data,
            episodes=episodes or 10_000,
            max_steps=TIME_LIMIT_STEPS,
            num_envs=500,
            seed=seed,
        ),
        sft=_sft(data, sft_run, seed, quick),
        eval_sft=_evaluation(sft_run, quick),
        improve=_improve(sft_run, practice_run, seed, quick),
        eval_improve=_evaluation(practice_run, quick),
    )


def _sft(data: Path, out: Path, seed: int, quick: bool) -> SFTConfig:
    return SFTConfig(
        data=str(data),
        model="mlp",
        out=out,
        calibration=Calibration(env=ENV_ID, rollouts=50 if quick else 200),
        training=SFTTraining(
            updates=200 if quick else 6144, validate_every=100 if quick else 512, seed=seed
        ),
    )


def _improve(run: Path, out: Path, seed: int, quick: bool) -> ImproveConfig:
    practice = Practice(
        max_env_steps=6_000 if quick else 131_072,
        updates_per_iteration=8,
        batch_size=128,
        learning_rate=2e-4,
        max_steps=TIME_LIMIT_STEPS,
        seed=seed,
    )
    audits = AuditPlan(on_alarm="continue")  # a study measures what comes of it
    return ImproveConfig(
        run=run, env=ENV_ID, out=out, fleet="lockstep", practice=practice, audits=audits
    )


def _evaluation(run: Path, quick: bool) -> EvalConfig:
    return EvalConfig(
        checkpoint=run, env=ENV_ID, episodes=50 if quick else 1000, seed=_EVALUATION_SEED
    )
