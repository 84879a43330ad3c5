"""Success by stage and condition: table, figure and files."""

import json
import re
from pathlib import Path

from nearer.core.intervals import Rate
from nearer.reporting.html.stage_pairs import StagePair, pairs_figure
from nearer.studies.stage_success import (
    StageSuccess,
    before_practice,
    stage_pairs,
    stages_table,
    write_stages,
)


def rows(condition: str = "banana", gain: int = 20) -> list[StageSuccess]:
    made: list[StageSuccess] = []
    for seed in (0, 1):
        before = before_practice("banana", condition, seed, 1000, Rate(successes=60, total=100))
        made += [before, before.then(Rate(successes=60 + gain + seed, total=100), 300)]
    return made


def test_stages_table_pools_the_seeds_beside_the_papers() -> None:
    (row,) = stages_table(rows()).splitlines()[2:]
    assert row.startswith("| banana | 1,000 | 0.600 [0.531, 0.665] (n = 200) | 0.805 [0.745, ")
    assert "| 300 | 0.600 -> 0.800, 0.600 -> 0.810 | +0.205 [+0.141, +0.269] |" in row
    assert row.endswith("| 0.63 -> 0.85 |")


def test_stages_table_of_a_condition_that_has_not_practised_has_its_stage_1_alone() -> None:
    both = [*rows(), *(row for row in rows("apple") if row.stage == 1)]
    _, apple = stages_table(both).splitlines()[2:]
    assert apple == (
        "| apple | 1,000 | 0.600 [0.531, 0.665] (n = 200) | - | - | 0.600, 0.600 | - | - |"
    )
    assert [pair.name for pair in stage_pairs(both, {})][-1] == "apple"


def test_pairs_figure_draws_a_line_a_seed_and_crosses_for_the_paper() -> None:
    def crosses_and_lines(paper: tuple[float, ...], seeds: int) -> int:
        rate = Rate(successes=3, total=10)
        pair = StagePair(name="a", pooled=(rate, rate), seeds=((0.2, 0.4),) * seeds, paper=paper)
        return pairs_figure("t", {"": [pair]}).count("<path")

    plain = crosses_and_lines((), 1)
    assert crosses_and_lines((), 3) == plain + 2
    assert crosses_and_lines((0.1, 0.2), 1) > plain


def test_pairs_figure_names_conditions_and_stages() -> None:
    svg = pairs_figure("t", {"": stage_pairs([*rows(), *rows("a, b")], {})})
    texts = re.findall(r">([^<>]+)</text>", svg)
    assert {"banana", "a,", "b", "before practice", "after practice"} <= set(texts)


def test_write_stages_writes_rows_as_they_come(tmp_path: Path) -> None:
    write_stages(tmp_path, "t", rows()[:1])
    write_stages(tmp_path, "t", rows()[:2])
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"banana.json", "banana.md", "banana.svg"}
    assert json.loads((tmp_path / "banana.json").read_text())[0] == {
        "study": "banana",
        "condition": "banana",
        "stage": 1,
        "seed": 0,
        "demonstrations": 1000,
        "practice_episodes": 0,
        "n_success": 60,
        "n_episodes": 100,
    }
