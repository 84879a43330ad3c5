"""The grammar: every wording means one task; bad instructions get a sentence."""

import itertools

import numpy as np
import pytest

from nearer.core.errors import EnvError
from nearer.envs.tabletop.language import (
    PLACES,
    SIDES,
    InstructionFamily,
    TabletopTask,
    compose,
    names,
    parse,
    vocabulary,
    wordings,
)
from nearer.envs.tabletop.layout import BANANA, BLOCKS, Block

FOUR = tuple(Block(*name.split()) for name in ("red moon", "blue cube", "green star", "red star"))
BOARDS = {"eight": BLOCKS, "four": FOUR, "two": FOUR[1:3], "one": FOUR[:1], "banana": (BANANA,)}
NUM_NAMED = {
    InstructionFamily.POINT: 1,
    InstructionFamily.BLOCK_TO_PLACE: 1,
    InstructionFamily.BANANA: 1,
}
PLACE_WORDS = {
    InstructionFamily.BLOCK_TO_PLACE: tuple(PLACES),
    InstructionFamily.BANANA: tuple(PLACES),
    InstructionFamily.BLOCK_TO_RELATIVE: tuple(SIDES),
}


def all_tasks(family: InstructionFamily, on_board: tuple[Block, ...]) -> list[TabletopTask]:
    if (family is InstructionFamily.BANANA) != (BANANA in on_board):
        return []
    named = itertools.permutations(on_board, NUM_NAMED.get(family, 2))
    places = PLACE_WORDS.get(family, (None,))
    return [
        TabletopTask(family, blocks, place) for blocks, place in itertools.product(named, places)
    ]


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("family", InstructionFamily)
def test_parse_every_wording_gives_its_task(family: InstructionFamily, board: str) -> None:
    on_board = BOARDS[board]
    words = set(vocabulary())
    for task in all_tasks(family, on_board):
        for wording in wordings(task, on_board):
            assert parse(wording, on_board) == task, wording
            assert words.issuperset(wording.split())


def test_compose_draws_every_wording() -> None:
    task = TabletopTask(InstructionFamily.SEPARATE, FOUR[:2])
    rng = np.random.default_rng(0)
    drawn = {compose(task, FOUR, rng) for _ in range(3000)}
    assert drawn == set(wordings(task, FOUR))


def test_compose_equal_seeds_give_equal_wordings() -> None:
    task = TabletopTask(InstructionFamily.BLOCK_TO_BLOCK, BLOCKS[:2])
    first, second = (
        [compose(task, BLOCKS, rng) for _ in range(5)]
        for rng in (np.random.default_rng(7), np.random.default_rng(7))
    )
    assert first == second


def test_names_colour_or_shape_alone_counts_where_it_is_unique() -> None:
    red_moon, blue_cube, green_star, _ = FOUR
    assert set(names(red_moon, FOUR)) == {"red moon", "red crescent", "moon", "crescent"}
    assert set(names(green_star, FOUR)) == {"green star", "green block"}
    assert set(names(blue_cube, FOUR)) == {"blue cube", "blue box", "blue block", "cube", "box"}
    assert set(names(BLOCKS[0], BLOCKS)) == {"red moon", "red crescent"}


def test_parse_published_wordings_give_their_tasks() -> None:
    red_moon, blue_cube = FOUR[:2]
    for wording, task in {
        "push the red moon towards the blue cube": TabletopTask(
            InstructionFamily.BLOCK_TO_BLOCK, (red_moon, blue_cube)
        ),
        "slide the cube to the upper right corner": TabletopTask(
            InstructionFamily.BLOCK_TO_PLACE, (blue_cube,), "top right"
        ),
        "put the moon to the left side of the blue block": TabletopTask(
            InstructionFamily.BLOCK_TO_RELATIVE, (red_moon, blue_cube), "left"
        ),
        "Move your arm  close to the moon.": TabletopTask(InstructionFamily.POINT, (red_moon,)),
        "pull the red moon apart from the cube": TabletopTask(
            InstructionFamily.SEPARATE, (red_moon, blue_cube)
        ),
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
def test_parse_bad_instruction_is_refused(instruction: str, sentence: str) -> None:
    with pytest.raises(EnvError, match=sentence) as caught:
        parse(instruction, FOUR)
    assert "red moon" in str(caught.value), "the sentence shows what lies there"


def test_parse_block_instruction_on_the_bananas_board_is_refused() -> None:
    with pytest.raises(EnvError, match="try 'push the banana to the left side of the table'"):
        parse("point to the banana", (BANANA,))


def test_compose_task_about_a_missing_block_is_refused() -> None:
    with pytest.raises(EnvError, match="yellow star; on the board: red moon"):
        compose(TabletopTask(InstructionFamily.POINT, (BLOCKS[6],)), FOUR, np.random.default_rng(0))


def test_vocabulary_is_sorted_and_holds_synonyms() -> None:
    words = vocabulary()
    assert list(words) == sorted(set(words))
    assert {"moon", "crescent", "cube", "box", "banana"} <= set(words)
