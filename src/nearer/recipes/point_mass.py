"""The point mass, whole: what `nearer demo point-mass` runs.

Differs from the authors' notebook (docs/log.md has the trials): bins of one step, since the
detector needs to tell 0 steps from 1; an eighth of the Stage-1 updates, at a larger and falling
rate; N * B = 1,024 as 8 updates of 128, which never collapsed where 16 of 64 did.
"""

from dataclasses import dataclass
from pathlib import Path

from nearer.configs import Calibration, CollectConfig, EvalConfig, ImproveConfig, SFTConfig
from nearer.envs.point_mass import ENV_ID, TIME_LIMIT_STEPS
from nearer.improve import Practice
from nearer.sft import SFTTraining

_EVALUATION_SEED = 0  # the test starts; nothing was ever tuned on them


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The configs of a whole run, in the order in which they are run."""

    collect: CollectConfig
    sft: SFTConfig
    eval_sft: EvalConfig
    improve: ImproveConfig
    eval_improve: EvalConfig


def point_mass(out: Path, seed: int = 0, episodes: int = 10_000, quick: bool = False) -> Recipe:
    """Return the point-mass recipe.

    Args:
        out: folder for data set, runs and report.
        seed: of everything that is trained or practised; the test starts stay the same.
        episodes: demonstrations.
        quick: a few seconds' worth of everything, to see that the parts fit; learns little.
    """
    data, sft_run, practice_run = out / "demonstrations", out / "sft", out / "practice"
    evaluated = 50 if quick else 1000
    practice = Practice(
        max_env_steps=6_000 if quick else 131_072,
        updates_per_iteration=8,
        batch_size=128,
        learning_rate=2e-4,
        max_steps=TIME_LIMIT_STEPS,
        seed=seed,
    )
    return Recipe(
        collect=CollectConfig(
            env=ENV_ID, out=data, episodes=episodes, max_steps=TIME_LIMIT_STEPS, seed=seed
        ),
        sft=SFTConfig(
            data=str(data),
            out=sft_run,
            calibration=Calibration(env=ENV_ID, rollouts=50 if quick else 200),
            training=SFTTraining(
                updates=200 if quick else 6144, validate_every=100 if quick else 512, seed=seed
            ),
        ),
        eval_sft=EvalConfig(
            checkpoint=sft_run, env=ENV_ID, episodes=evaluated, seed=_EVALUATION_SEED
        ),
        improve=ImproveConfig(run=sft_run, env=ENV_ID, out=practice_run, practice=practice),
        eval_improve=EvalConfig(
            checkpoint=practice_run, env=ENV_ID, episodes=evaluated, seed=_EVALUATION_SEED
        ),
    )
