"""The figure of all studies: from the results that are there, and none without any."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from nearer.core.errors import ConfigError
from nearer.core.intervals import Rate
from nearer.studies.headline_results import Measurement
from nearer.studies.overview import OVERVIEW, write_overview
from nearer.studies.stage_success import before_practice


def test_overview_shows_the_headline_beside_other_studies(tmp_path: Path) -> None:
    measured = [
        Measurement(
            percent=10,
            stage=stage,
            seed=0,
            demonstrations=199,
            practice_episodes=0,
            n_success=solved,
            n_episodes=300,
            algorithm="algorithm 1" if solved == 290 else "recipe",
        )
        for stage, solved in ((1, 255), (2, 280), (2, 290))
    ]
    (tmp_path / "headline.json").write_text(json.dumps([asdict(row) for row in measured]))
    before = before_practice("banana", "banana", 0, 5748, Rate(successes=90, total=300))
    other = before_practice("banana", "banana, not adapted", 0, 5748, before.rate)
    rows = [asdict(before), asdict(before.then(before.rate, 350)), asdict(other)]
    (tmp_path / "banana.json").write_text(json.dumps(rows))
    write_overview(tmp_path)
    figure = (tmp_path / OVERVIEW).read_text()
    for text in ("10 %", "tabletop, by data", "banana", "a new object"):
        assert f">{text}</text>" in figure
    assert "not adapted" not in figure


def test_overview_without_results_writes_nothing(tmp_path: Path) -> None:
    write_overview(tmp_path)
    assert not (tmp_path / OVERVIEW).exists()


@pytest.mark.parametrize("text", ["{", "7", '[{"stage": 2}]', '[{"stage": "x", "seed": 1}]'])
def test_overview_of_damaged_results_is_a_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "banana.json").write_text(text)
    with pytest.raises(ConfigError, match=r"banana.json must hold a list .* it is written anew"):
        write_overview(tmp_path)
