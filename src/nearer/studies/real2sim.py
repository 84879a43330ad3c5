"""Stage 1 in one look of the tabletop, practice in the other, as from a real robot to a simulator.

The real look differs in what is seen (wood, light, camera) and in what actions do (friction, mass,
delay), and its demonstrator moves differently. Both ways; as it is, by the reward of a model whose
vision encoder was pretrained on images and language apart (unimodal; real to sim alone), and with
the model first adapted to unlabelled episodes of the other look (`nearer adapt`).

Beside them what demonstrations of the second look are worth: Stage 1 on as many, and in the sim on
the fractions of the headline's data, whose runs are used where they are there.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nearer.configs.adapt import AdaptConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.studies.headline import ensure_collected, recipe_for
from nearer.studies.recipe import Recipe
from nearer.studies.running import (
    ensure_adapted,
    ensure_demonstrations,
    ensure_sft,
    load_or_run_eval,
)
from nearer.studies.stage_success import (
    StageSuccess,
    before_practice,
    practised_stages,
    write_stages,
)
from nearer.studies.tabletop import STUDY, tabletop

_LOOKS: Mapping[str, str] = {
    "sim": "nearer/TabletopBlock2Block-v0",
    "real": "nearer/TabletopBlock2BlockReal-v0",
}
_REAL_TO_SIM = ("real", "sim")
_DIRECTIONS = (_REAL_TO_SIM, ("sim", "real"))
_UNLABELLED = 200
"""Episodes of the other look that the model is adapted to."""
_UNIMODAL = "small-vla-unimodal"
_TITLE = "Success in the other look, before and after practice there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """One direction at one seed.

    Attributes:
        name: real to sim, or sim to real.
        recipe: Stage 1 in the first look; practice and evaluation in the second.
        unlabelled: data set of the second look, of which frames, instructions and proprioception
            are read.
        objective_updates: of the unimodal encoder.
    """

    name: str
    recipe: Recipe
    unlabelled: Path
    objective_updates: int

    @property
    def unimodal(self) -> Recipe:
        """Return Stage 1 with vision and language pretrained apart; its encoder learns from both
        objectives, since it cannot point at what words name.
        """
        sft = replace(
            self.recipe.sft,
            model=_UNIMODAL,
            out=self.recipe.sft.out.with_name("sft-unimodal"),
            vision_encoder_objective_updates=self.objective_updates,
        )
        return replace(self.recipe, sft=sft)

    def variant(self, run: Path) -> Recipe:
        """Return the same with another model in place of Stage 1's."""
        out = run.with_name(f"practice-{run.name}")
        recipe = self.recipe
        return replace(
            recipe,
            eval_sft=replace(recipe.eval_sft, checkpoint=run, out=run / "eval-other-look"),
            improve=replace(recipe.improve, run=run, out=out),
            eval_improve=replace(recipe.eval_improve, checkpoint=out),
        )


def reproduce_real2sim(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[StageSuccess]:
    """Run what is missing and return all results; files are written as results come."""
    rows: list[StageSuccess] = []
    collected = {
        look: ensure_demonstrations(_recipe(config, 0, look, look).collect, on_progress)
        for look in _LOOKS
    }
    for seed in config.seeds:
        for row in _measure_seed(config, seed, collected, on_progress):
            rows.append(row)
            write_stages(config.out, _TITLE, rows)
    return rows


def _measure_seed(
    config: ReproduceConfig,
    seed: int,
    collected: Mapping[str, int],
    on_progress: ProgressCallback,
) -> Iterator[StageSuccess]:
    for first, second in _DIRECTIONS:
        direction = direction_of(config, seed, first, second)
        unimodal = (first, second) == _REAL_TO_SIM
        yield from _measure(direction, seed, collected[first], unimodal, on_progress)
    for look in _LOOKS:
        recipe = _recipe(config, seed, look, look)
        in_domain = replace(recipe.eval_sft, out=recipe.sft.out / "eval-own-look")
        success = load_or_run_eval(in_domain, on_progress).success
        name = f"{look}, as much data"
        yield before_practice("real2sim", name, seed, collected[look], success)
    yield from _more_demonstrations(config, seed, on_progress)


def _more_demonstrations(
    config: ReproduceConfig, seed: int, on_progress: ProgressCallback
) -> Iterator[StageSuccess]:
    """Yield Stage 1 of the headline's larger fractions, whose demonstrations are of the sim."""
    total = ensure_collected(config, on_progress)
    for percent in sorted(set(config.fractions) - {min(config.fractions)}):
        recipe = recipe_for(config, seed, percent)
        ensure_sft(recipe, on_progress)
        success = load_or_run_eval(recipe.eval_sft, on_progress).success
        name = f"sim, {percent} % of the data"
        yield before_practice("real2sim", name, seed, round(total * percent / 100), success)


def direction_of(config: ReproduceConfig, seed: int, first: str, second: str) -> Direction:
    """Return Stage 1 in one look and practice in the other."""
    return Direction(
        name=f"{first} to {second}",
        recipe=_recipe(config, seed, first, second),
        unlabelled=_recipe(config, seed, second, first).collect.out,
        objective_updates=4 if config.quick else config.objective_updates,
    )


def _recipe(config: ReproduceConfig, seed: int, first: str, second: str) -> Recipe:
    root = config.out / "real2sim"
    sizes = replace(
        STUDY,
        demonstrations=round(config.demonstrations * min(config.fractions) / 100),
        practice_steps=config.practice_steps,
        evaluation_episodes=config.episodes,
    )
    recipe = tabletop(root / f"seed{seed}-{first}", seed, quick=config.quick, sizes=sizes)
    data, there = root / f"demonstrations-{first}", _LOOKS[second]
    calibration = replace(recipe.sft.calibration, env=_LOOKS[first])
    other_look = recipe.sft.out / "eval-other-look"
    return replace(
        recipe,
        collect=replace(recipe.collect, env=_LOOKS[first], out=data, seed=0),
        sft=replace(recipe.sft, data=str(data), calibration=calibration),
        eval_sft=replace(recipe.eval_sft, env=there, out=other_look, videos=0),
        improve=replace(recipe.improve, env=there),
        eval_improve=replace(recipe.eval_improve, env=there, videos=0),
    )


def _measure(
    direction: Direction,
    seed: int,
    demonstrations: int,
    with_unimodal: bool,
    on_progress: ProgressCallback,
) -> Iterator[StageSuccess]:
    sft = direction.recipe.sft
    ensure_sft(direction.recipe, on_progress)
    to_the_other_look = AdaptConfig(
        run=sft.out,
        data=str(direction.unlabelled),
        out=sft.out.with_name("adapted"),
        episodes=_UNLABELLED,
        seed=seed,
    )
    adapted = ensure_adapted(to_the_other_look, on_progress)
    as_it_is, to_look = direction.variant(sft.out), direction.variant(adapted)
    variants = {direction.name: as_it_is, f"{direction.name}, adapted": to_look}
    if with_unimodal:
        unimodal = direction.unimodal
        ensure_sft(unimodal, on_progress)
        variants[f"{direction.name}, unimodal reward"] = _rewarded_by(unimodal.sft.out, as_it_is)
    for name, recipe in variants.items():
        yield from practised_stages(recipe, "real2sim", name, seed, demonstrations, on_progress)


def _rewarded_by(run: Path, recipe: Recipe) -> Recipe:
    """Return the same practice by the reward of another run."""
    out = recipe.improve.out.with_name("practice-unimodal-reward")
    return replace(
        recipe,
        improve=replace(recipe.improve, reward=run, out=out),
        eval_improve=replace(recipe.eval_improve, checkpoint=out),
    )
