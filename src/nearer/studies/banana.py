"""A skill beyond the demonstrations: policy and reward that saw only blocks practise with a banana.

As in the paper (section 5), what practises with the banana has practised block to block before, and
the reward is Stage 1's. The paper's vision encoder knows bananas; the built-in one, trained on
frames with blocks, must be reminded: the policy acts with the banana for some episodes, and the
model is adapted to their frames (`nearer adapt`: no labels, no ground truth). The policy without
that is measured, too.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nearer.configs.adapt import AdaptConfig
from nearer.configs.eval import EvalConfig
from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.reporting.html.contact_histogram import contact_histogram
from nearer.studies.banana_contacts import (
    END,
    BananaEpisode,
    all_along,
    contacts_table,
    pushes_of,
)
from nearer.studies.families import families_recipe
from nearer.studies.recipe import Recipe
from nearer.studies.running import (
    ensure_adapted,
    ensure_demonstrations,
    ensure_practice,
    ensure_sft,
    load_or_run_eval,
    write_files,
)
from nearer.studies.stage_success import StageSuccess, before_practice, write_stages

BANANA_TABLE = "nearer/BananaTable-v0"
# Practice gains slowly here: 0.60, 0.70 after 2,091 episodes, 0.80 after 6,162 (docs/log.md,
# 2026-11-30). Detections are too few and too noisy to tell a plateau meanwhile.
_TIMES_THE_PRACTICE = 15
_NO_PLATEAU = 1000  # blocks
# Pushed off its middle a banana turns, and must be pushed again: one success in eight takes longer
# than blocks are given (trial starts, docs/log.md, 2026-11-30).
_TIMES_THE_STEPS = 2
_UNLABELLED = 200
"""Episodes of the practised policy with the banana that the model is adapted to."""
_VIDEOS = 6
_CONTACTS = "Where along the banana it is pushed, before and after practice"
_TITLE = "Success with the banana, before and after practice with it"


def reproduce_banana(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[StageSuccess]:
    """Run what is missing and return all results; files are written as results come.

    Besides the rows: banana-contacts.md and .svg, where the banana is touched and how far it is
    turned, over the seeds so far.
    """
    rows: list[StageSuccess] = []
    pushed: dict[str, list[BananaEpisode]] = {"before practice": [], "after practice": []}
    for seed in config.seeds:
        for row in _measure(config, seed, on_progress):
            rows.append(row)
            write_stages(config.out, _TITLE, rows)
        recipe = families_recipe(config, seed)
        runs = (_adapted_run(recipe), banana_recipe(recipe, quick=config.quick).improve.out)
        for episodes, run in zip(pushed.values(), runs, strict=True):
            episodes += pushes_of(_evaluation(recipe, run), on_progress)
        places = {name: all_along(episodes) for name, episodes in pushed.items()}
        texts = {
            "banana-contacts.md": contacts_table(*pushed.values()),
            "banana-contacts.svg": contact_histogram(_CONTACTS, places, END),
        }
        write_files(config.out, texts)
    return rows


def banana_recipe(recipe: Recipe, *, quick: bool) -> Recipe:
    """Return practice with the banana of the adapted policy, by its adapted reward.

    Args:
        recipe: of the families.
        quick: no longer than that of the families.
    """
    steps = recipe.improve.practice.max_env_steps * (1 if quick else _TIMES_THE_PRACTICE)
    improve = replace(
        recipe.improve,
        run=_adapted_run(recipe),
        env=BANANA_TABLE,
        out=recipe.improve.out.with_name("practice-banana"),
        practice=replace(recipe.improve.practice, max_env_steps=steps),
        plateau=replace(recipe.improve.plateau, patience_blocks=_NO_PLATEAU),
    )
    return replace(recipe, improve=improve)


def _evaluation(recipe: Recipe, run: Path) -> EvalConfig:
    steps = _TIMES_THE_STEPS * recipe.eval_sft.max_steps
    return replace(
        recipe.eval_sft,
        checkpoint=run,
        env=BANANA_TABLE,
        max_steps=steps,
        videos=_VIDEOS,
        out=run / "eval-banana",
    )


def _adapted_run(recipe: Recipe) -> Path:
    return recipe.improve.out.with_name("adapted-banana")


def _adapted(recipe: Recipe, seed: int, on_progress: ProgressCallback) -> Path:
    """Return the practised policy and its reward, adapted to frames of what it does to bananas."""
    practised = recipe.improve.out
    unlabelled = replace(
        recipe.collect,
        env=BANANA_TABLE,
        policy=practised,
        episodes=min(_UNLABELLED, recipe.collect.episodes),
        out=practised.with_name("unlabelled-banana"),
        seed=seed,
    )
    ensure_demonstrations(unlabelled, on_progress)
    config = AdaptConfig(
        run=practised,
        data=str(unlabelled.out),
        out=_adapted_run(recipe),
        updates=recipe.sft.vision_encoder_updates,
        seed=seed,
    )
    return ensure_adapted(config, on_progress)


def _measure(
    config: ReproduceConfig, seed: int, on_progress: ProgressCallback
) -> Iterator[StageSuccess]:
    recipe = families_recipe(config, seed)
    demonstrations = ensure_demonstrations(recipe.collect, on_progress)
    ensure_sft(recipe, on_progress)
    ensure_practice(recipe, on_progress)
    success = load_or_run_eval(_evaluation(recipe, recipe.improve.out), on_progress).success
    yield before_practice("banana", "banana, not adapted", seed, demonstrations, success)
    adapted = _adapted(recipe, seed, on_progress)
    evaluation = load_or_run_eval(_evaluation(recipe, adapted), on_progress)
    as_blocks = recipe.eval_sft.max_steps
    within = {"banana": evaluation.max_steps, f"banana, within {as_blocks} steps": as_blocks}
    before = {
        steps: before_practice(
            "banana", name, seed, demonstrations, evaluation.success_within(steps)
        )
        for name, steps in within.items()
    }
    yield from before.values()
    with_banana = banana_recipe(recipe, quick=config.quick)
    episodes = ensure_practice(with_banana, on_progress)
    evaluation = load_or_run_eval(_evaluation(recipe, with_banana.improve.out), on_progress)
    for steps, row in before.items():
        yield row.then(evaluation.success_within(steps), episodes)
