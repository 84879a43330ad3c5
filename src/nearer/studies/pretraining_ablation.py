"""The paper's ablation of pretraining at our size: whose reward, and whose policy, learns what.

The built-in model three ways (`models/pointing/rungs.py`): multimodal, unimodal, scratch. As the
paper does, the reward comes from each while the policy is always the multimodal one; and apart from
that, the policy comes from each. Steps and order of the data are the same for all three. The
multimodal runs are those of the headline, in the same folder.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nearer.commands.eval_reward import run_eval_reward
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.configs.sft import SFTConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.intervals import Rate
from nearer.datasets.split import read_split
from nearer.envs.tabletop.language import names
from nearer.envs.tabletop.layout import BLOCKS
from nearer.models.pointing.vocabulary import HELD_OUT
from nearer.models.settings import VARIANTS
from nearer.runs.hub import CALIBRATION
from nearer.runs.run import read_json, read_metrics
from nearer.studies.headline import (
    evaluated,
    finished_practice,
    finished_sft,
    recipe_of,
    whole_data,
    write_files,
)
from nearer.studies.pretraining_table import (
    LadderJudge,
    LadderPoint,
    Role,
    pretraining_figure,
    pretraining_table,
)
from nearer.studies.recipe import Recipe

_AGAIN = "run nearer reproduce pretraining again"
OTHER_LOOK = "nearer/TabletopBlock2BlockReal-v0"
LEFT_OUT = tuple(
    name
    for block in BLOCKS
    if (block.colour, block.shape) in HELD_OUT
    for name in names(block, BLOCKS)
)
"""Names of the blocks that joint pretraining has never seen, and that demonstrations can go without
as well: of each, colour and shape are known apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One rung at one seed and share.

    Attributes:
        share: percent.
        variant: multimodal, unimodal or scratch.
        own: what this rung's model goes through.
        multimodal: what the multimodal model goes through; the same as `own` on the highest rung.
        demonstrations: that Stage 1 learns from.
        measure: trained, or few where they are fewer than any share.
    """

    share: int
    seed: int
    variant: str
    own: Recipe
    multimodal: Recipe
    demonstrations: int
    measure: str = "trained"

    def point(
        self,
        success: Rate,
        *,
        stage: int = 1,
        role: Role = "policy",
        measure: str = "",
        demonstrations: int | None = None,
        practised: Path | None = None,
        practice_episodes: int = 0,
    ) -> LadderPoint:
        """Return what was measured here."""
        kept = practised and (practised / "checkpoints" / "policy").resolve().name
        return LadderPoint(
            share=self.share, stage=stage, seed=self.seed, variant=self.variant, role=role,
            measure=measure or self.measure, demonstrations=demonstrations or self.demonstrations,
            practice_episodes=practice_episodes, kept_iteration=int(kept or 0),
            n_success=success.successes, n_episodes=success.total,
        )  # fmt: skip


def reproduce_pretraining(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[LadderPoint]:
    """Run what is missing, write table and numbers as results come, and return them all.

    Stage 1 comes first, of all rungs: it takes minutes, and practice takes hours.
    """
    total = whole_data(config, on_progress)
    found: list[LadderPoint] = []
    judges: list[LadderJudge] = []

    def note(points: Iterable[LadderPoint]) -> None:
        for point in points:
            found.append(point)
            write_results(config.out, found, judges)

    for seed in config.seeds:
        places = [
            place for share in config.fractions for place in places_of(config, seed, share, total)
        ]
        for place in places:
            note(stage_1(place, on_progress))
            judges.append(judge_of(place, on_progress))
        if config.few:
            for place in _few(config, seed, total):
                note(trained(place, on_progress))
                judges.append(judge_of(place, on_progress))
        for place in places:
            note(unseen_pairs(config, place, on_progress))
        for place in places:
            note(stage_2(place, on_progress))
    return found


def places_of(config: ReproduceConfig, seed: int, share: int, total: int) -> list[Place]:
    """Return the three rungs at one seed and share; the multimodal one is the headline's.

    Args:
        config: of the whole reproduction.
        seed: of everything.
        share: percent of the data set.
        total: demonstrations of the data set.
    """
    recipe = recipe_of(config, seed, share)
    root = recipe.sft.out.parent
    return _rungs(recipe, root, seed, share, round(total * share / 100))


def _few(config: ReproduceConfig, seed: int, total: int) -> list[Place]:
    """Return the three rungs with so few demonstrations that seeing must come from elsewhere."""
    few = min(config.few, total)
    recipe = recipe_of(config, seed, 100)
    recipe = replace(recipe, sft=replace(recipe.sft, fraction=few / total))
    root = config.out / f"seed{seed}_few{few}"
    places = _rungs(recipe, root, seed, round(100 * few / total), few)
    return [replace(one, measure="few") for one in places]


def _rungs(recipe: Recipe, root: Path, seed: int, share: int, demonstrations: int) -> list[Place]:
    multimodal = _moved(recipe, root)
    return [
        Place(
            share=share, seed=seed, variant=variant, demonstrations=demonstrations,
            own=multimodal if variant == "multimodal" else _moved(recipe, root / variant, model),
            multimodal=multimodal,
        )
        for model, variant in VARIANTS.items()
    ]  # fmt: skip


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


def trained(place: Place, on_progress: ProgressCallback) -> Iterator[LadderPoint]:
    """Yield Stage 1 on what the demonstrations showed."""
    finished_sft(place.own, on_progress)
    yield place.point(evaluated(place.own.eval_sft, on_progress).success)


def stage_1(place: Place, on_progress: ProgressCallback) -> Iterator[LadderPoint]:
    """Yield Stage 1 on what the demonstrations showed, and on the other look."""
    yield from trained(place, on_progress)
    own = place.own
    elsewhere = replace(own.eval_sft, env=OTHER_LOOK, out=own.sft.out / "eval-other-look")
    yield place.point(evaluated(elsewhere, on_progress).success, measure="other-look")


def unseen_pairs(
    config: ReproduceConfig, place: Place, on_progress: ProgressCallback
) -> Iterator[LadderPoint]:
    """Yield Stage 1 from demonstrations that never name some colour-shape pairs.

    The test starts are the same; those that name one of the pairs count apart.
    """
    own = place.own
    out = own.sft.out.with_name("sft-without-pairs")
    training = replace(own.sft.training, leave_out=LEFT_OUT)
    without = replace(
        own,
        sft=replace(own.sft, training=training, out=out),
        eval_sft=replace(own.eval_sft, checkpoint=out),
    )
    finished_sft(without, on_progress)
    tested = evaluated(without.eval_sft, on_progress).results
    kept = _kept(without.sft)
    for measure, names_one in (("unseen-pairs", True), ("seen-pairs", False)):
        rows = [one.success for one in tested if names_left_out(one.instruction) is names_one]
        success = Rate(successes=sum(rows), total=len(rows))
        yield place.point(success, measure=measure, demonstrations=kept)


def names_left_out(instruction: str) -> bool:
    """Tell whether an instruction names a pair that demonstrations were left out for."""
    return any(f" {phrase} " in f" {instruction} " for phrase in LEFT_OUT)


def _kept(config: SFTConfig) -> int:
    """Return how many demonstrations a run learned from."""
    return len(read_split(config.out).episodes)


def stage_2(place: Place, on_progress: ProgressCallback) -> Iterator[LadderPoint]:
    """Yield the multimodal policy practised with the rung's reward, and the rung's own policy."""
    own = place.own
    if own is place.multimodal:
        yield from practised(place, own, ("reward", "policy"), on_progress)
    else:
        yield from practised(place, _judged_by(place, on_progress), ("reward",), on_progress)
        yield from practised(place, own, ("policy",), on_progress)


def practised(
    place: Place, recipe: Recipe, roles: Sequence[Role], on_progress: ProgressCallback
) -> Iterator[LadderPoint]:
    """Yield what the practice of a recipe gave, in each of its roles."""
    episodes = finished_practice(recipe, on_progress)
    success = evaluated(recipe.eval_improve, on_progress).success
    run = recipe.improve.out
    for role in roles:
        yield place.point(success, stage=2, role=role, practised=run, practice_episodes=episodes)


def judge_of(place: Place, on_progress: ProgressCallback) -> LadderJudge:
    """Return how a rung answers on held-out demonstrations, and detects the multimodal's success.

    On rollouts of one policy for all rungs: a policy that never succeeds says nothing of a
    detector, which then has no threshold either.
    """
    run = place.own.sft.out
    losses = read_metrics(run)[-1]
    answers = read_json(run / CALIBRATION, _AGAIN)["steps_to_go"]
    if place.own is place.multimodal:
        document, rollouts = read_json(run / CALIBRATION, _AGAIN), "labelled rollouts"
    else:
        document, rollouts = _calibrated_for_multimodal(place, on_progress), "rollouts"
    detector = document["chosen"][rollouts]
    return LadderJudge(
        share=place.share,
        seed=place.seed,
        variant=place.variant,
        demonstrations=place.demonstrations,
        loss_bc=losses["sft/val_loss_bc"],
        loss_steps_to_go=losses["sft/val_loss_steps_to_go"],
        error_steps=answers["mean_absolute_error_steps"],
        rank_correlation=answers.get("rank_correlation"),
        threshold_steps=document["threshold_steps"],
        precision=detector["precision"],
        recall=detector["recall"],
        fired=detector["fired"],
    )


def _judged_by(place: Place, on_progress: ProgressCallback) -> Recipe:
    """Return the multimodal policy's practice with the rung's model as its reward.

    The threshold is chosen on that policy's rollouts, not on those of the rung's own policy.
    """
    own, multimodal = place.own, place.multimodal
    out = own.improve.out.with_name("reward")
    threshold = _calibrated_for_multimodal(place, on_progress)["threshold_steps"]
    return replace(
        multimodal,
        improve=replace(
            multimodal.improve, reward=own.sft.out, threshold=float(threshold), out=out
        ),
        eval_improve=replace(multimodal.eval_improve, checkpoint=out),
    )


def _calibrated_for_multimodal(place: Place, on_progress: ProgressCallback) -> Mapping[str, Any]:
    """Return how the rung detects what the multimodal policy does, measured unless it has been."""
    own, calibration = place.own.sft, place.multimodal.sft.calibration
    folder = own.out.with_name("calibration-for-multimodal")
    if not (folder / CALIBRATION).is_file():
        config = EvalRewardConfig(
            checkpoint=own.out,
            env=calibration.env,
            policy=place.multimodal.sft.out,
            rollouts=calibration.rollouts,
            rollout_steps=calibration.rollout_steps,
            min_precision=calibration.min_precision,
            baseline_updates=0,
            seed=own.training.seed,
            out=folder,
        )
        run_eval_reward(config, on_progress)
    return read_json(folder / CALIBRATION, _AGAIN)


def write_results(
    folder: Path, found: Sequence[LadderPoint], judges: Sequence[LadderJudge]
) -> None:
    """Write numbers, table and figure, each whole or not at all."""
    write_files(
        folder,
        {
            "pretraining.json": json.dumps([asdict(one) for one in found], indent=1) + "\n",
            "pretraining-judges.json": json.dumps([asdict(one) for one in judges], indent=1) + "\n",
            "pretraining.md": pretraining_table(found),
            "pretraining.svg": pretraining_figure(found),
        },
    )
