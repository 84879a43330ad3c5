"""When Stage 2 stops, and which checkpoint it keeps."""

from types import SimpleNamespace
from typing import Any

from nearer.algorithm.early_stopping import PlateauRule


def history(*blocks: tuple[int, int]) -> list[Any]:
    """Two iterations a block with these detections and control steps in all."""
    return [
        SimpleNamespace(detected=detected // 2, env_steps=steps // 2)
        for detected, steps in blocks
        for _ in range(2)
    ]


def test_plateau_rule_keeps_the_best_block_and_stops_after_patience() -> None:
    rule = PlateauRule(block_iterations=2, patience_blocks=2, min_gain=0.02)
    rising = history((10, 1000), (20, 1000), (30, 1000))
    assert rule.scores(rising) == [10, 20, 30]
    assert not rule.over(rising)
    assert rule.best_step(rising) == 6  # the newest, as good as its block
    fallen = rising + history((28, 1000), (24, 1000))
    assert rule.over(fallen)
    assert rule.best_step(fallen) == 4  # the one that started the best block
    assert not rule.over(rising + history((28, 1000), (40, 1000)))


def test_plateau_rule_keeps_the_newest_policy_of_a_block_that_is_not_full() -> None:
    rule = PlateauRule(block_iterations=4)
    rising = history((20, 2000), (20, 2000), (60, 2000), (60, 2000))
    assert rule.best_step(rising + history((36, 1000))) == 10, "not the 8 of the last full block"
    assert rule.best_step(rising + history((0, 1000))) == 4, "the iterations after it collapsed"
    assert rule.kept_steps(rising + history((36, 1000))) == (4, 8)


def test_plateau_rule_where_nothing_was_ever_detected_keeps_the_start() -> None:
    rule = PlateauRule(block_iterations=2)
    assert rule.best_step(history((0, 1000), (0, 1000))) == 0
    assert rule.best_step(history((0, 1000), (0, 1000), (10, 1000))) == 6


def test_plateau_rule_that_keeps_all_keeps_every_block() -> None:
    rising = history((10, 1000), (20, 1000), (30, 1000))
    assert PlateauRule(block_iterations=2).kept_steps(rising) == (4, 6)
    assert PlateauRule(block_iterations=2, keep_all=True).kept_steps(rising) == (0, 2, 4, 6)


def test_plateau_rule_before_the_first_block_neither_stops_nor_chooses() -> None:
    rule = PlateauRule(block_iterations=4)
    assert rule.best_step(history((2, 10))) == 0
    assert not rule.over(history((2, 10)))


def test_plateau_rule_for_instructions_that_get_harder_keeps_the_last_and_goes_on() -> None:
    rule = PlateauRule(block_iterations=2, patience_blocks=1, keep="last")
    harder = history((30, 1000), (20, 1000), (10, 1000))
    assert PlateauRule(block_iterations=2, patience_blocks=1).over(harder)
    assert not rule.over(harder)
    assert rule.best_step(harder) == 6
