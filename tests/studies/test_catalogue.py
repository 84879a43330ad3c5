"""`nearer reproduce --list` and `all`: what there is, what it costs, what is done."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import nearer.studies.catalogue as catalogue
import nearer.studies.reproduce as reproduce
from nearer.cli import main
from nearer.configs.reproduce import ReproduceConfig
from nearer.core.callbacks import ignore_progress
from nearer.core.errors import ConfigError


def test_listing_counts_the_seeds_that_are_left(tmp_path: Path) -> None:
    (tmp_path / "done.json").write_text(json.dumps({"seeds": {"real2sim": [0, 2], "aloha": [1]}}))
    config = ReproduceConfig(which="real2sim", out=tmp_path)
    rows = catalogue.listing(config, slower=2.0).splitlines()[2:]
    (study,) = catalogue.chosen(config)
    assert len(rows) == len(catalogue.STUDIES)
    (row,) = [row for row in rows if row.startswith("| real2sim")]
    assert row == f"| real2sim | {study.shows} | {study.minutes * 2 / 60:.1f} | 0, 2 |"


@pytest.mark.parametrize("text", ["{", "7", '{"seeds": {"aloha": ["x"]}}'])
def test_listing_where_the_list_of_seeds_is_damaged_is_a_sentence(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "done.json").write_text(text)
    config = ReproduceConfig(which="banana", out=tmp_path)
    with pytest.raises(ConfigError, match=r"done.json .* remove it, and it is written anew"):
        catalogue.listing(config, slower=1.0)


def test_a_seed_is_done_when_all_of_it_is(tmp_path: Path) -> None:
    ran: list[tuple[int, ...]] = []

    def run(config: ReproduceConfig, on_progress: object) -> str:
        if config.seeds == (4, 5, 6):
            raise KeyboardInterrupt
        ran.append(config.seeds)
        return f"{config.seeds}"

    study = catalogue.Study(name="banana", shows="a new object", minutes=90, run=run)
    config = ReproduceConfig(which="banana", out=tmp_path, seeds=(4, 5, 6))
    with pytest.raises(KeyboardInterrupt):
        study.run_by_seed(config, ignore_progress)
    assert ran == [(4,), (4, 5)]
    assert study.seeds_done(config) == (4, 5)
    assert study.run_by_seed(replace(config, seeds=(3,)), ignore_progress) == "(3,)"
    assert study.seeds_done(config) == (3, 4, 5)


def test_slowness_is_a_ratio_to_the_machine_of_the_minutes() -> None:
    assert 0.05 < catalogue.slowness() < 50


def test_reproduce_list_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "slowness", lambda: 1.0)
    main(["reproduce", "--list", "--out", str(tmp_path / "new")])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in printed[2:]] == [
        *("headline", "pretraining", "transfer", "banana", "real2sim", "aloha", "metaworld")
    ]
    assert all(line.endswith("| none |") for line in printed[2:])
    assert not (tmp_path / "new").exists()


def test_reproduce_all_says_how_long_it_takes_and_runs_every_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def study(name: str) -> catalogue.Study:
        def run(config: ReproduceConfig, on_progress: object) -> str:
            ran.append(name)
            return f"table of {name}"

        return catalogue.Study(name="banana", shows=name, minutes=90, run=run)

    monkeypatch.setattr(reproduce, "slowness", lambda: 1.0)
    monkeypatch.setattr(catalogue, "STUDIES", (study("first"), study("second")))
    main(["reproduce", "all", "--out", str(tmp_path), "--seeds", "0", "1"])
    printed = capsys.readouterr().out
    assert ran == ["first", "first", "second", "second"]
    assert printed.index("| banana | first | 3.0 | none |") < printed.index("table of first")
