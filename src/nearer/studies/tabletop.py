"""The tabletop recipe from images and language: what `nearer demo` runs.

Block2Block with eight blocks: "move the blue moon to the red pentagon". The constants are the
paper's where they can be; what differs, and what was tried, is in docs/log.md.
"""

from pathlib import Path

from nearer.algorithm.early_stopping import PlateauRule
from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.sft_settings import SFTTraining
from nearer.configs.collect import CollectConfig
from nearer.configs.eval import EvalConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.sft import Calibration, SFTConfig
from nearer.models.settings import SmallVLAConfig
from nearer.studies.recipe import Recipe

ENV_ID = "nearer/TabletopBlock2Block-v0"
TIME_LIMIT_STEPS = (
    60  # 12 s; the scripted demonstrator: 27 steps on average, success 0.993 within 60
)
_EVALUATION_SEED = 0  # the test starts; nothing was ever tuned on them
_NUM_ENVS = 16


def tabletop(out: Path, seed: int = 0, episodes: int | None = None, quick: bool = False) -> Recipe:
    """Return the tabletop recipe.

    Args:
        out: folder for data set, runs and report.
        seed: of everything that is trained or practised; the test starts stay the same.
        episodes: demonstrations; 250 unless given.
        quick: a minute's worth of everything, as a smoke test; learns little.
    """
    data, sft_run, practice_run = out / "demonstrations", out / "sft", out / "practice"
    return Recipe(
        collect=CollectConfig(
            env=ENV_ID,
            out=data,
            episodes=episodes or (40 if quick else 250),
            max_steps=TIME_LIMIT_STEPS,
            min_observations=5,
            num_envs=32,
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
        out=out,
        vision_encoder_updates=10 if quick else 300,
        vla=SmallVLAConfig(mirror="y"),  # no instruction names the left or the right
        calibration=Calibration(
            env=ENV_ID,
            rollouts=20 if quick else 100,
            rollout_steps=TIME_LIMIT_STEPS,
            min_precision=0.9,
        ),
        training=SFTTraining(
            updates=200 if quick else 1500,
            validate_every=100 if quick else 250,
            batch_size=256,
            learning_rate=1e-3,
            weight_decay=0.1,
            policy_checkpoint="last",
            reward_checkpoint="last",
            seed=seed,
        ),
    )


def _improve(run: Path, out: Path, seed: int, quick: bool) -> ImproveConfig:
    practice = Practice(
        max_env_steps=5_000 if quick else 20_000,
        updates_per_iteration=16,
        batch_size=64,
        learning_rate=4e-4,
        weight_decay=1e-2,
        max_steps=TIME_LIMIT_STEPS,
        seed=seed,
    )
    return ImproveConfig(
        run=run,
        env=ENV_ID,
        out=out,
        num_envs=_NUM_ENVS,
        practice=practice,
        plateau=PlateauRule(block_iterations=4, patience_blocks=5),
        deviate=Deviations(ppo_clip=0.2, baseline="value", epochs=8),
    )


def _evaluation(run: Path, quick: bool) -> EvalConfig:
    return EvalConfig(
        checkpoint=run,
        env=ENV_ID,
        episodes=20 if quick else 200,
        max_steps=TIME_LIMIT_STEPS,
        num_envs=64,
        seed=_EVALUATION_SEED,
    )
