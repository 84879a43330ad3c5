"""Stage 1 on every instruction of the tabletop: where banana and positive transfer start.

Demonstrations of five families: block to block, to a place, beside another block, pointing,
separating. Instructions name sides, so left and right change places in the mirror; words that no
demonstration used, such as banana, are left to the vision encoder, which rehearses its pretraining
while it trains itself on the demonstrations' frames, so that it does not forget them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ProgressCallback
from nearer.evaluation.success import Evaluation
from nearer.studies.recipe import Recipe
from nearer.studies.running import load_or_run_eval
from nearer.studies.tabletop import STUDY, tabletop

ALL_FAMILIES = "nearer/Tabletop-v0"
FAMILIES: Mapping[str, str] = {
    "block to block": "nearer/TabletopBlock2Block-v0",
    "block to place": "nearer/TabletopBlock2Place-v0",
    "block beside block": "nearer/TabletopBlock2Relative-v0",
    "point": "nearer/TabletopPoint-v0",
    "separate": "nearer/TabletopSeparate-v0",
}
"""The env of each family of instructions."""
# Places and sides are in the words alone. And five families need a larger network for longer: after
# headline's 1,500 updates of one, block to block succeeded half as often as alone (docs/log.md).
_TIMES_THE_DEMONSTRATIONS = 3
_WORD_WIDTH = 32
_HIDDEN = 512
_SFT_UPDATES = 6000


def families_recipe(config: ReproduceConfig, seed: int) -> Recipe:
    """Return the configs of Stage 1 on all families, and of practice of block to block."""
    root = config.out / "families"
    sizes = replace(
        STUDY,
        demonstrations=_TIMES_THE_DEMONSTRATIONS * config.demonstrations,
        practice_steps=config.practice_steps,
        evaluation_episodes=config.episodes,
    )
    recipe = tabletop(root / f"seed{seed}", seed, quick=config.quick, sizes=sizes)
    data = root / "demonstrations"
    vla = replace(
        recipe.sft.vla,
        word_width=_WORD_WIDTH,
        hidden=_HIDDEN,
        mirror_swaps=("left=right",),
        goal_region=True,
        unknown_words="skip",
        synonyms=("table=board",),
        self_training=replace(recipe.sft.vla.self_training, rehearsed_parts=1),
    )
    calibration = replace(recipe.sft.calibration, env=ALL_FAMILIES)
    training = recipe.sft.training
    if not config.quick:
        training = replace(training, updates=_SFT_UPDATES, validate_every=_SFT_UPDATES // 4)
    return replace(
        recipe,
        collect=replace(recipe.collect, env=ALL_FAMILIES, out=data, seed=0),
        sft=replace(
            recipe.sft, data=str(data), vla=vla, calibration=calibration, training=training
        ),
        eval_sft=replace(recipe.eval_sft, videos=0),
        eval_improve=replace(recipe.eval_improve, videos=0),
    )


def evaluated_in(recipe: Recipe, run: Path, env: str, on_progress: ProgressCallback) -> Evaluation:
    """Return the evaluation of a run's policy in an env, from disk or run now."""
    name = env.removeprefix("nearer/").removesuffix("-v0")
    config = replace(recipe.eval_sft, checkpoint=run, env=env, out=run / f"eval-{name}")
    return load_or_run_eval(config, on_progress)
