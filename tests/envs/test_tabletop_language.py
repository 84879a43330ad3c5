"""Every wording means one task; every start has a task; bad instructions get a sentence."""

import itertools

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.tabletop.language import (
    PLACES,
    SIDES,
    Family,
    Task,
    compose,
    names,
    parse,
    vocabulary,
    wordings,
)
from nearer.envs.tabletop.layout import BANANA, BLOCKS, Block

FOUR = tuple(Block(*name.split()) for name in ("red moon", "blue cube", "green star", "red star"))
BOARDS = {"eight": BLOCKS, "four": FOUR, "two": FOUR[1:3], "one": FOUR[:1], "banana": (BANANA,)}
NUM_NAMED = {Family.POINT: 1, Family.BLOCK_TO_PLACE: 1, Family.BANANA: 1}
PLACE_WORDS = {
    Family.BLOCK_TO_PLACE: tuple(PLACES),
    Family.BANANA: tuple(PLACES),
    Family.BLOCK_TO_RELATIVE: tuple(SIDES),
}


def all_tasks(family: Family, on_board: tuple[Block, ...]) -> list[Task]:
    if (family is Family.BANANA) != (BANANA in on_board):
        return []
    named = itertools.permutations(on_board, NUM_NAMED.get(family, 2))
    places = PLACE_WORDS.get(family, (None,))
    return [Task(family, blocks, place) for blocks, place in itertools.product(named, places)]


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("family", Family)
def test_every_wording_means_its_task(family: Family, board: str) -> None:
    on_board = BOARDS[board]
    words = set(vocabulary())
    for task in all_tasks(family, on_board):
        for wording in wordings(task, on_board):
            assert parse(wording, on_board) == task, wording
            assert words.issuperset(wording.split())


def test_composing_draws_every_wording() -> None:
    task = Task(Family.SEPARATE, FOUR[:2])
    rngs = np.random.default_rng(0)
    drawn = {compose(task, FOUR, rngs) for _ in range(3000)}
    assert drawn == set(wordings(task, FOUR))


def test_equal_seeds_compose_equal_wordings() -> None:
    task = Task(Family.BLOCK_TO_BLOCK, BLOCKS[:2])
    first, second = (
        [compose(task, BLOCKS, generator) for _ in range(5)]
        for generator in (np.random.default_rng(7), np.random.default_rng(7))
    )
    assert first == second


def test_a_colour_or_a_shape_alone_is_a_name_where_it_is_unique() -> None:
    red_moon, blue_cube, green_star, _ = FOUR
    assert set(names(red_moon, FOUR)) == {"red moon", "red crescent", "moon", "crescent"}
    assert set(names(green_star, FOUR)) == {"green star", "green block"}
    assert set(names(blue_cube, FOUR)) == {"blue cube", "blue box", "blue block", "cube", "box"}
    assert set(names(BLOCKS[0], BLOCKS)) == {"red moon", "red crescent"}


def test_published_wordings() -> None:
    red_moon, blue_cube = FOUR[:2]
    for wording, task in {
        "push the red moon towards the blue cube": Task(
            Family.BLOCK_TO_BLOCK, (red_moon, blue_cube)
        ),
        "slide the cube to the upper right corner": Task(
            Family.BLOCK_TO_PLACE, (blue_cube,), "top right"
        ),
        "put the moon to the left side of the blue block": Task(
            Family.BLOCK_TO_RELATIVE, (red_moon, blue_cube), "left"
        ),
        "Move your arm  close to the moon.": Task(Family.POINT, (red_moon,)),
        "pull the red moon apart from the cube": Task(Family.SEPARATE, (red_moon, blue_cube)),
    }.items():
        assert parse(wording, FOUR) == task


@pytest.mark.parametrize(
    ("instruction", "sentence"),
    [
        ("lift the red moon", "must push, move, slide or put"),
        ("", "must push, move, slide or put"),
        ("push the red moon to the blue star", "'blue star' is not on the board"),
        ("push the red block to the cube", "'red block' fits several"),
        ("push the red moon to the moon", "names the red moon twice"),
        ("push the banana to the left of the table", "'banana' is not on the board"),
        ("push the red moon to the left of the table", "must push, move, slide or put"),
    ],
)
def test_bad_instructions_get_a_sentence(instruction: str, sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence) as caught:
        parse(instruction, FOUR)
    assert "red moon" in str(caught.value), "the sentence shows what lies there"


def test_the_banana_has_its_own_instructions() -> None:
    with pytest.raises(EnvError, match="try 'push the banana to the left side of the table'"):
        parse("point to the banana", (BANANA,))


def test_a_task_about_a_missing_block_is_refused() -> None:
    with pytest.raises(EnvError, match="yellow star; on the board: red moon"):
        compose(Task(Family.POINT, (BLOCKS[6],)), FOUR, np.random.default_rng(0))
