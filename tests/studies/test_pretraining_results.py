"""Table and figure of the pretraining ablation, and the results in docs/."""

import json
import re
from pathlib import Path

from nearer.models.settings import VARIANTS
from nearer.studies.headline_results import Measurement
from nearer.studies.pretraining_results import (
    AblationPoint,
    Role,
    pretraining_figure,
    pretraining_table,
)

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def point(seed: int, role: Role = "reward", kept_iteration: int = 2) -> AblationPoint:
    return AblationPoint(
        percent=10,
        stage=2,
        seed=seed,
        variant="scratch",
        role=role,
        condition="trained",
        demonstrations=20,
        practice_episodes=3,
        n_success=4 + seed,
        n_episodes=10,
        kept_iteration=kept_iteration,
    )


def test_pretraining_table_of_two_seeds_pools_them_beside_the_papers() -> None:
    row = pretraining_table([point(0), point(1)]).splitlines()[4]
    assert row.startswith("| 10 % | scratch | - | - | - | - | - | - | 0.450 [")
    assert row.endswith("(n = 20) | 0.452 |")


def test_pretraining_table_of_unchanged_policies_counts_them() -> None:
    table = pretraining_table([point(0, kept_iteration=0), point(1)])
    assert "(n = 20), 1 of 2 kept the start | 0.452 |" in table


def test_pretraining_figure_names_each_variant_that_gave_a_reward() -> None:
    figure = pretraining_figure([point(0), point(1, role="policy")])
    texts = set(re.findall(r">([^<>]+)</text>", figure))
    assert "scratch reward" in texts
    assert "multimodal reward" not in texts


def test_published_results_have_the_fields_that_the_studies_write() -> None:
    points = [
        AblationPoint(**row) for row in json.loads((RESULTS / "pretraining.json").read_text())
    ]
    assert {point.variant for point in points} == set(VARIANTS.values())
    rows = [Measurement(**row) for row in json.loads((RESULTS / "headline.json").read_text())]
    assert {row.percent for row in rows} == {10, 20, 80}
