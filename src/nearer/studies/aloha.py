"""Two arms: gym-aloha's single insertion, from joints and the objects' poses, then from images.

Stage 1 on a third, two thirds and all of the demonstrations, practice from the two smaller parts,
as in the paper (section 4.2): chunks of five control steps relative to their start, ten decisions a
second, steps-to-go counted in chunks. And the paper's late-checkpoint rule: of a third, the
policy with the best held-out BC loss beside that of the last update.

From images: Stage 1 on a third and on all of the demonstrations, practice from all, since a third
leaves too few successes to learn from. As in the paper, whose cameras cannot see a full insertion
either, episodes of practice end on ground truth there, and success has a bonus.

Deviations from algorithm 1: a value baseline, PPO's clip and two epochs. And the standard deviation
of actions is small and the same everywhere: the one that is learned holds what demonstrators do
differently, and actions drawn with it drop the peg (docs/log.md).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from nearer.algorithm.improve_settings import Deviations, Practice
from nearer.algorithm.sft_settings import SFTTraining
from nearer.configs.collect import CollectConfig
from nearer.configs.eval import EvalConfig
from nearer.configs.improve import ImproveConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.configs.sft import Calibration, SFTConfig
from nearer.core.action_chunks import Chunking
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.evaluation.audit_settings import AuditPlan
from nearer.fleets.env_settings import EnvSettings
from nearer.models.settings import MLPConfig
from nearer.studies.recipe import Recipe
from nearer.studies.running import ensure_demonstrations, ensure_sft, load_or_run_eval
from nearer.studies.stage_success import (
    StageSuccess,
    before_practice,
    practised_stages,
    write_stages,
)

ENV_ID = "nearer/AlohaInsertion-v0"
STATES = EnvSettings(env_kwargs=('{"images": false, "object_poses": true}',))
IMAGES = EnvSettings(env_kwargs=('{"cameras": ["front", "right_wrist"], "camera_hz": 10}',))
TIME_LIMIT_STEPS = 400  # 8 s; the scripted demonstrator: 229 on average, 0.987 within 400
PARTS: Mapping[str, int] = {"a third": 33, "two thirds": 67, "all": 100}
"""Percent of the demonstrations that Stage 1 learns from; the paper's 5 K, 10 K and 15 K."""
PARTS_OF_IMAGES: Mapping[str, int] = {"images, a third": 33, "images, all": 100}
_PRACTISED = ("a third", "two thirds", "images, all")
BEST_LOSS = "a third, best held-out loss"
_CHUNK = Chunking(chunk=5, relative=True)
_EVALUATION_SEED = 0  # the test starts; nothing was ever tuned on them
_SFT_UPDATES = 12_000
_PRACTICE_STEPS = 800_000
_SCALE = 0.04  # of 0.005 to 0.04 success was the same, of 0.08 lower (docs/log.md)
_GRIPPERS = (6, 13)  # of the 14 numbers of proprioception
_BONUS_CHUNKS = 20.0
_TITLE = "Two arms: success of the insertion by part of the data, before and after practice"


def reproduce_aloha(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[StageSuccess]:
    """Run what is missing and return all results; files are written as results come."""
    rows: list[StageSuccess] = []
    for seed in config.seeds:
        for row in _measure(config, seed, on_progress):
            rows.append(row)
            write_stages(config.out, _TITLE, rows)
    return rows


def _measure(
    config: ReproduceConfig, seed: int, on_progress: ProgressCallback
) -> Iterator[StageSuccess]:
    for parts, recipe_of in ((PARTS, states_recipe), (PARTS_OF_IMAGES, images_recipe)):
        total = ensure_demonstrations(recipe_of(config, seed, 100).collect, on_progress)
        for name, percent in parts.items():
            recipe = recipe_of(config, seed, percent)
            ensure_sft(recipe, on_progress)
            part = total * percent // 100
            if name in _PRACTISED:
                yield from practised_stages(recipe, "aloha", name, seed, part, on_progress)
            else:
                success = load_or_run_eval(recipe.eval_sft, on_progress).success
                yield before_practice("aloha", name, seed, part, success)
    percent = PARTS["a third"]
    recipe = _best_loss(states_recipe(config, seed, percent))
    total = ensure_demonstrations(recipe.collect, on_progress)
    ensure_sft(recipe, on_progress)
    success = load_or_run_eval(recipe.eval_sft, on_progress).success
    yield before_practice("aloha", BEST_LOSS, seed, total * percent // 100, success)


def states_recipe(config: ReproduceConfig, seed: int, percent: int) -> Recipe:
    """Return both stages on a part of the demonstrations, from joints and poses.

    Args:
        config: demonstrations and test starts; with `quick`, a minute's worth of everything.
        seed: of everything that is trained or practised; data set and test starts stay the same.
        percent: of the demonstrations.
    """
    root = config.out / "aloha"
    data = root / "demonstrations"
    out = root / f"seed{seed}-percent{percent}"
    sft_run, practice_run = out / "sft", out / "practice"
    updates = 100 if config.quick else _SFT_UPDATES
    evaluation = EvalConfig(
        checkpoint=sft_run,
        env=ENV_ID,
        env_settings=STATES,
        episodes=10 if config.quick else config.episodes,
        max_steps=TIME_LIMIT_STEPS,
        num_envs=25,
        seed=_EVALUATION_SEED,
        videos=0,
    )
    return Recipe(
        collect=CollectConfig(
            env=ENV_ID,
            env_settings=STATES,
            episodes=20 if config.quick else config.demonstrations,
            max_steps=TIME_LIMIT_STEPS,
            num_envs=16,
            seed=0,
            out=data,
        ),
        sft=SFTConfig(
            data=str(data),
            model="mlp",
            out=sft_run,
            fraction=percent / 100,
            chunking=_CHUNK,
            mlp=MLPConfig(hidden=512, num_bins=81, min_scale=_SCALE, max_scale=_SCALE),
            calibration=Calibration(
                env=ENV_ID,
                env_settings=STATES,
                rollouts=10 if config.quick else 100,
                rollout_steps=TIME_LIMIT_STEPS,
                min_precision=0.9,
            ),
            training=SFTTraining(
                updates=updates,
                validate_every=updates // 12,
                learning_rate=1e-3,
                weight_decay=0.1,
                policy_checkpoint="last",
                reward_checkpoint="last",
                seed=seed,
            ),
        ),
        eval_sft=evaluation,
        improve=ImproveConfig(
            run=sft_run,
            env=ENV_ID,
            env_settings=STATES,
            out=practice_run,
            num_envs=16,
            fleet="lockstep",  # as measured, however many cores there are
            practice=Practice(
                max_env_steps=17_000 if config.quick else _PRACTICE_STEPS,
                updates_per_iteration=16,
                batch_size=128,
                learning_rate=3e-6,  # at 3e-5 it collapsed within five iterations (docs/log.md)
                max_steps=TIME_LIMIT_STEPS,
                seed=seed,
            ),
            audits=AuditPlan(on_alarm="continue"),  # a study measures what comes of it
            deviate=Deviations(ppo_clip=0.2, baseline="value", epochs=2),
        ),
        eval_improve=replace(evaluation, checkpoint=practice_run),
    )


def images_recipe(config: ReproduceConfig, seed: int, percent: int) -> Recipe:
    """Return both stages on a part of the demonstrations, from images and joints.

    Args: see `states_recipe`.
    """
    recipe = states_recipe(config, seed, percent)
    data = recipe.collect.out.with_name("demonstrations-images")
    out = recipe.sft.out.parent.with_name(f"seed{seed}-images-percent{percent}")
    sft_run, practice_run = out / "sft", out / "practice"
    evaluation = replace(recipe.eval_sft, checkpoint=sft_run, env_settings=IMAGES)
    return Recipe(
        collect=replace(recipe.collect, env_settings=IMAGES, out=data),
        sft=replace(
            recipe.sft,
            data=str(data),
            out=sft_run,
            chunking=replace(recipe.sft.chunking, decision_frames=True),
            mlp=replace(recipe.sft.mlp, images=True, grippers=_GRIPPERS),
            calibration=replace(recipe.sft.calibration, env_settings=IMAGES),
        ),
        eval_sft=evaluation,
        improve=replace(
            recipe.improve,
            run=sft_run,
            env_settings=IMAGES,
            out=practice_run,
            deviate=replace(
                recipe.improve.deviate, end_on_ground_truth=True, success_bonus=_BONUS_CHUNKS
            ),
        ),
        eval_improve=replace(evaluation, checkpoint=practice_run),
    )


def _best_loss(recipe: Recipe) -> Recipe:
    """Return the same Stage 1, of which the policy with the best held-out BC loss is kept."""
    out = recipe.sft.out.with_name("sft-best-loss")
    training = replace(recipe.sft.training, policy_checkpoint="best")
    return replace(
        recipe,
        sft=replace(recipe.sft, out=out, training=training),
        eval_sft=replace(recipe.eval_sft, checkpoint=out),
    )
