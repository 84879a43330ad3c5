"""The paper's ablation of pretraining at our size.

Three variants of the built-in model (`models/pointing/variants.py`): multimodal, unimodal, scratch.
As in the paper, each variant gives the reward while the policy is always the multimodal one; and
besides, each variant practises with its own reward. Steps and order of the data are the same for
all three, and the vision encoder of each is first trained through both objectives. Without that
(--objective-updates 0) the multimodal runs are those of the headline, in the same folder.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nearer.commands.eval_reward import run_eval_reward
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.configs.sft import SFTConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.intervals import Rate
from nearer.datasets.split import read_split
from nearer.envs.tabletop.language import names
from nearer.envs.tabletop.layout import BLOCKS
from nearer.evaluation.calibration import read_calibration
from nearer.evaluation.reward_report import REWARD_REPORT, read_reward_report
from nearer.evaluation.threshold import ThresholdChoice
from nearer.models.pointing.vocabulary import HELD_OUT
from nearer.models.settings import VARIANTS
from nearer.runs.hub import CALIBRATION
from nearer.runs.metrics import number, read_metrics
from nearer.studies.headline import ensure_collected, recipe_for
from nearer.studies.pretraining_results import (
    AblationPoint,
    AblationReward,
    Condition,
    Role,
    pretraining_figure,
    pretraining_table,
)
from nearer.studies.recipe import Recipe
from nearer.studies.running import ensure_practice, ensure_sft, load_or_run_eval, write_files

_RERUN_ADVICE = "run nearer reproduce pretraining again"
REAL_ENV_ID = "nearer/TabletopBlock2BlockReal-v0"
LEFT_OUT = tuple(
    name
    for block in BLOCKS
    if (block.colour, block.shape) in HELD_OUT
    for name in names(block, BLOCKS)
)
"""Names of the blocks that multimodal pretraining has never seen, and that can be left out of the
demonstrations as well: pretraining has seen the colour and the shape of each, but not together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantRun:
    """One variant at one seed and fraction of the demonstrations.

    Attributes:
        percent: of the data set.
        variant: multimodal, unimodal or scratch.
        recipe: of this variant's model.
        multimodal_recipe: of the multimodal model; the same object for the multimodal variant.
        demonstrations: number that Stage 1 is trained on.
        condition: trained, or few where they are fewer than any fraction.
    """

    percent: int
    seed: int
    variant: str
    recipe: Recipe
    multimodal_recipe: Recipe
    demonstrations: int
    condition: Condition = "trained"

    def point(
        self,
        success: Rate,
        *,
        stage: int = 1,
        role: Role = "policy",
        condition: Condition | None = None,
        demonstrations: int | None = None,
        practice_run: Path | None = None,
        practice_episodes: int = 0,
    ) -> AblationPoint:
        """Return the record of a success rate that was measured on this run."""
        kept = practice_run and (practice_run / "checkpoints" / "policy").resolve().name
        return AblationPoint(
            percent=self.percent,
            stage=stage,
            seed=self.seed,
            variant=self.variant,
            role=role,
            condition=condition or self.condition,
            demonstrations=demonstrations or self.demonstrations,
            practice_episodes=practice_episodes,
            kept_iteration=int(kept or 0),
            n_success=success.successes,
            n_episodes=success.total,
        )


def reproduce_pretraining(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[AblationPoint]:
    """Run what is missing and return all results; files are written as results come.

    Stage 1 of all variants comes first: it takes minutes, and practice takes hours.
    """
    total = ensure_collected(config, on_progress)
    points: list[AblationPoint] = []
    rewards: list[AblationReward] = []

    def record(new_points: Iterable[AblationPoint]) -> None:
        for point in new_points:
            points.append(point)
            write_results(config.out, points, rewards)

    for seed in config.seeds:
        runs = [
            run
            for percent in config.fractions
            for run in variant_runs(config, seed, percent, total)
        ]
        for run in runs:
            record(measure_stage_1(run, on_progress))
            rewards.append(measure_reward(run, on_progress))
        if config.few:
            for run in _few_demonstration_runs(config, seed, total):
                record(measure_trained(run, on_progress))
                rewards.append(measure_reward(run, on_progress))
        for run in runs:
            record(measure_unseen_pairs(run, on_progress))
        for run in runs:
            record(measure_stage_2(run, on_progress))
    return points


def variant_runs(config: ReproduceConfig, seed: int, percent: int, total: int) -> list[VariantRun]:
    """Return the three variants at one seed and fraction; the multimodal one is the headline's.

    Args:
        config: of the whole reproduction.
        seed: of everything.
        percent: of the data set.
        total: demonstrations of the data set.
    """
    recipe = recipe_for(config, seed, percent)
    recipe, root = _through_objectives(recipe, recipe.sft.out.parent, config)
    return _runs_of_variants(recipe, root, seed, percent, round(total * percent / 100))


def _few_demonstration_runs(config: ReproduceConfig, seed: int, total: int) -> list[VariantRun]:
    """Return the three variants with too few demonstrations to learn to see from them."""
    few = min(config.few, total)
    recipe = recipe_for(config, seed, 100)
    recipe = replace(recipe, sft=replace(recipe.sft, fraction=few / total))
    recipe, root = _through_objectives(recipe, config.out / f"seed{seed}_few{few}", config)
    runs = _runs_of_variants(recipe, root, seed, round(100 * few / total), few)
    return [replace(run, condition="few") for run in runs]


def _through_objectives(recipe: Recipe, root: Path, config: ReproduceConfig) -> tuple[Recipe, Path]:
    """Return the recipe whose vision encoder both objectives train, and the folder of its runs."""
    updates = min(config.objective_updates, 4) if config.quick else config.objective_updates
    if not updates:
        return recipe, root
    sft = replace(recipe.sft, vision_encoder_objective_updates=updates)
    return replace(recipe, sft=sft), root / "through-objectives"


def _runs_of_variants(
    recipe: Recipe, root: Path, seed: int, percent: int, demonstrations: int
) -> list[VariantRun]:
    multimodal = _moved(recipe, root)
    return [
        VariantRun(
            percent=percent,
            seed=seed,
            variant=variant,
            demonstrations=demonstrations,
            recipe=multimodal if variant == "multimodal" else _moved(recipe, root / variant, model),
            multimodal_recipe=multimodal,
        )
        for model, variant in VARIANTS.items()
    ]


def _moved(recipe: Recipe, root: Path, model: str = "small-vla") -> Recipe:
    """Return the same recipe for another model, in folders of its own."""
    sft, practice = root / "sft", root / "practice"
    return replace(
        recipe,
        sft=replace(recipe.sft, model=model, out=sft),
        eval_sft=replace(recipe.eval_sft, checkpoint=sft),
        improve=replace(recipe.improve, run=sft, out=practice),
        eval_improve=replace(recipe.eval_improve, checkpoint=practice),
    )


def measure_trained(run: VariantRun, on_progress: ProgressCallback) -> Iterator[AblationPoint]:
    """Yield Stage 1 under the conditions of the demonstrations."""
    ensure_sft(run.recipe, on_progress)
    yield run.point(load_or_run_eval(run.recipe.eval_sft, on_progress).success)


def measure_stage_1(run: VariantRun, on_progress: ProgressCallback) -> Iterator[AblationPoint]:
    """Yield Stage 1 under the conditions of the demonstrations, and with the other appearance."""
    yield from measure_trained(run, on_progress)
    recipe = run.recipe
    out = recipe.sft.out / "eval-other-appearance"
    real = replace(recipe.eval_sft, env=REAL_ENV_ID, out=out)
    success = load_or_run_eval(real, on_progress).success
    yield run.point(success, condition="other-appearance")


def measure_unseen_pairs(run: VariantRun, on_progress: ProgressCallback) -> Iterator[AblationPoint]:
    """Yield Stage 1 from demonstrations that never name some colour-shape pairs.

    The test starts are the same; those whose instruction names such a pair are counted apart.
    """
    recipe = run.recipe
    out = recipe.sft.out.with_name("sft-without-pairs")
    training = replace(recipe.sft.training, leave_out=LEFT_OUT)
    without = replace(
        recipe,
        sft=replace(recipe.sft, training=training, out=out),
        eval_sft=replace(recipe.eval_sft, checkpoint=out),
    )
    ensure_sft(without, on_progress)
    results = load_or_run_eval(without.eval_sft, on_progress).results
    demonstrations = count_demonstrations(without.sft)
    conditions: tuple[tuple[Condition, bool], ...] = (("unseen-pairs", True), ("seen-pairs", False))
    for condition, names_pair in conditions:
        outcomes = [
            result.success for result in results if names_left_out(result.instruction) is names_pair
        ]
        success = Rate(successes=sum(outcomes), total=len(outcomes))
        yield run.point(success, condition=condition, demonstrations=demonstrations)


def names_left_out(instruction: str) -> bool:
    """Return whether an instruction names a pair that was left out of the demonstrations."""
    return any(f" {phrase} " in f" {instruction} " for phrase in LEFT_OUT)


def count_demonstrations(config: SFTConfig) -> int:
    """Return the number of demonstrations that a run is trained on."""
    return len(read_split(config.out).episodes)


def measure_stage_2(run: VariantRun, on_progress: ProgressCallback) -> Iterator[AblationPoint]:
    """Yield practice of the multimodal policy with the variant's reward, and of its own policy."""
    if run.recipe is run.multimodal_recipe:
        yield from _measure_practice(run, run.recipe, ("reward", "policy"), on_progress)
        return
    with_reward = _multimodal_practice_with_reward(run, on_progress)
    yield from _measure_practice(run, with_reward, ("reward",), on_progress)
    yield from _measure_practice(run, run.recipe, ("policy",), on_progress)


def _measure_practice(
    run: VariantRun, recipe: Recipe, roles: Sequence[Role], on_progress: ProgressCallback
) -> Iterator[AblationPoint]:
    """Yield the result of a recipe's practice, once in each of its roles."""
    episodes = ensure_practice(recipe, on_progress)
    success = load_or_run_eval(recipe.eval_improve, on_progress).success
    for role in roles:
        yield run.point(
            success,
            stage=2,
            role=role,
            practice_run=recipe.improve.out,
            practice_episodes=episodes,
        )


def measure_reward(run: VariantRun, on_progress: ProgressCallback) -> AblationReward:
    """Return losses and errors on validation episodes, and detection on multimodal rollouts.

    All variants detect success in rollouts of the multimodal policy: in rollouts of a policy that
    never succeeds there is nothing to detect, and no threshold to choose.
    """
    sft = run.recipe.sft.out
    losses = read_metrics(sft)[-1]
    calibration = read_calibration(sft / CALIBRATION, _RERUN_ADVICE)
    choice: ThresholdChoice
    if run.recipe is run.multimodal_recipe:
        choice, rollouts = calibration, "labelled rollouts"
    else:
        choice, rollouts = _calibration_for_multimodal(run, on_progress), "rollouts"
    detector = choice.at_threshold[rollouts]
    return AblationReward(
        percent=run.percent,
        seed=run.seed,
        variant=run.variant,
        demonstrations=run.demonstrations,
        loss_bc=number(losses["sft/val_loss_bc"]),
        loss_steps_to_go=number(losses["sft/val_loss_steps_to_go"]),
        error_steps=calibration.reliability.mean_absolute_error_steps,
        rank_correlation=calibration.rank_correlation,
        threshold_steps=choice.threshold_steps,
        precision=detector.precision,
        recall=detector.recall,
        num_detections=detector.num_detections,
    )


def _multimodal_practice_with_reward(run: VariantRun, on_progress: ProgressCallback) -> Recipe:
    """Return the practice of the multimodal policy with the variant's model as its reward.

    The threshold is chosen on that policy's rollouts, not on those of the variant's own policy.
    """
    multimodal = run.multimodal_recipe
    out = run.recipe.improve.out.with_name("reward")
    threshold = _calibration_for_multimodal(run, on_progress).threshold_steps
    return replace(
        multimodal,
        improve=replace(
            multimodal.improve, reward=run.recipe.sft.out, threshold=threshold, out=out
        ),
        eval_improve=replace(multimodal.eval_improve, checkpoint=out),
    )


def _calibration_for_multimodal(run: VariantRun, on_progress: ProgressCallback) -> ThresholdChoice:
    """Return how the variant detects success on rollouts of the multimodal policy."""
    sft, calibration = run.recipe.sft, run.multimodal_recipe.sft.calibration
    folder = sft.out.with_name("calibration-for-multimodal")
    if not (folder / REWARD_REPORT).is_file():
        config = EvalRewardConfig(
            checkpoint=sft.out,
            env=calibration.env,
            policy=run.multimodal_recipe.sft.out,
            rollouts=calibration.rollouts,
            rollout_steps=calibration.rollout_steps,
            min_precision=calibration.min_precision,
            baseline_updates=0,
            seed=sft.training.seed,
            out=folder,
        )
        run_eval_reward(config, on_progress)
    recommended = read_reward_report(folder / REWARD_REPORT, _RERUN_ADVICE).recommended
    assert recommended is not None, "rollouts are labelled by ground truth"
    return recommended


def write_results(
    folder: Path, points: Sequence[AblationPoint], rewards: Sequence[AblationReward]
) -> None:
    """Write numbers, table and figure, each whole or not at all."""
    write_files(
        folder,
        {
            "pretraining.json": json.dumps([asdict(point) for point in points], indent=1) + "\n",
            "pretraining-rewards.json": json.dumps([asdict(r) for r in rewards], indent=1) + "\n",
            "pretraining.md": pretraining_table(points),
            "pretraining.svg": pretraining_figure(points),
        },
    )
