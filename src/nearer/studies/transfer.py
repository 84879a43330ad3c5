"""Positive transfer: what practice of block to block does for every other instruction.

And practice of all families at once, without resets where the board allows an instruction: the
mixture moves from the easiest family to all five.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.episode import Episode
from nearer.datasets.practice_store import read_practice
from nearer.fleets.env_settings import EnvSettings
from nearer.studies.families import ALL_FAMILIES, FAMILIES, evaluated_in, families_recipe
from nearer.studies.recipe import Recipe
from nearer.studies.running import (
    ensure_demonstrations,
    ensure_practice,
    ensure_sft,
    write_files,
)
from nearer.studies.stage_success import StageSuccess, before_practice, write_stages

_TITLE = "Success by family of instructions, before and after practice"
EASIEST_FIRST = ("point", "separate", "block2block", "block2place", "block2relative")
BOARD_EPISODES = 20
"""Episodes that a board serves at most before it is laid out anew."""
MIXTURE_EPISODES = 12
"""Episodes of each board until every family is given; some 40 episodes a robot are practised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixturePractice:
    """Practice of all families at one seed.

    Attributes:
        resets: how often a board was laid out anew, the first time included.
    """

    seed: int
    episodes: int
    resets: int


def reproduce_transfer(
    config: ReproduceConfig, on_progress: ProgressCallback = ignore_progress
) -> list[StageSuccess]:
    """Run what is missing and return all results; files are written as results come."""
    rows: list[StageSuccess] = []
    practices: list[MixturePractice] = []
    for seed in config.seeds:
        for row in _measure(config, seed, on_progress):
            rows.append(row)
            write_stages(config.out, _TITLE, rows)
        practices.append(_mixture_practice(config, seed))
        text = json.dumps([asdict(practice) for practice in practices], indent=1) + "\n"
        write_files(config.out, {"transfer-resets.json": text})
    return rows


def _mixture_practice(config: ReproduceConfig, seed: int) -> MixturePractice:
    """Return what the practice of all families took, from its stored episodes."""
    run = mixture_recipe(families_recipe(config, seed)).improve.out
    episodes = [scored.episode for scored in read_practice(run / "practice")]
    return MixturePractice(seed=seed, episodes=len(episodes), resets=num_resets(episodes))


def _measure(
    config: ReproduceConfig, seed: int, on_progress: ProgressCallback
) -> Iterator[StageSuccess]:
    recipe = families_recipe(config, seed)
    demonstrations = ensure_demonstrations(recipe.collect, on_progress)
    ensure_sft(recipe, on_progress)
    before: dict[str, StageSuccess] = {}
    for family, env in FAMILIES.items():
        success = evaluated_in(recipe, recipe.sft.out, env, on_progress).success
        before[family] = before_practice("transfer", family, seed, demonstrations, success)
        yield before[family]
    mixture = mixture_recipe(recipe)
    for practised, name in ((recipe, ""), (mixture, ", all practised")):
        episodes = ensure_practice(practised, on_progress)
        for family, env in FAMILIES.items():
            success = evaluated_in(recipe, practised.improve.out, env, on_progress).success
            row = replace(before[family], condition=family + name)
            if name:
                yield row
            yield row.then(success, episodes)


def mixture_recipe(recipe: Recipe) -> Recipe:
    """Return practice of all families at once, by Stage 1's policy and reward."""
    settings = {
        "families": EASIEST_FIRST,
        "board_episodes": BOARD_EPISODES,
        "mixture_episodes": MIXTURE_EPISODES,
    }
    out = recipe.improve.out.with_name("practice-mixture")
    env_settings = EnvSettings(env_kwargs=(json.dumps(settings),))
    improve = replace(
        recipe.improve,
        env=ALL_FAMILIES,
        env_settings=env_settings,
        out=out,
        plateau=replace(recipe.improve.plateau, keep="last"),  # its instructions get harder
    )
    return replace(recipe, improve=improve)


def num_resets(episodes: Sequence[Episode]) -> int:
    """Count the episodes that did not start where their robot's last one ended.

    Args:
        episodes: of one practice run, each robot's in the order of their time.
    """
    ends: dict[int, np.ndarray] = {}
    resets = 0
    for episode in episodes:
        agent_pos = episode.observations.agent_pos
        before = ends.get(episode.robot)
        resets += before is None or not np.array_equal(before, agent_pos[0])
        ends[episode.robot] = agent_pos[-1]
    return resets
