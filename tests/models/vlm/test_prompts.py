"""Prompts by a tokenizer of whole words, so that every token can be counted by hand."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from nearer.core.errors import ConfigError
from nearer.models.vlm.prompts import PromptLayout, Prompts

SPECIAL = ("<image>", "<user>", "<end>", "<begin>")
WORDS = ("What", "robot", "action", "to", "How", "many", "steps", "push", "it", "now", "?", "see")
VOCABULARY = {text: number for number, text in enumerate((*SPECIAL, *WORDS))}
IMAGE = VOCABULARY["<image>"]
LAYOUT = PromptLayout(
    start="see",
    before="<user>",
    after="<end>",
    close="now",
    suffix="{}<end>",
    special=("<user>", "<end>"),
)


def word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def prompts(layout: PromptLayout = LAYOUT) -> Prompts:
    return Prompts(word_tokenizer(), layout, IMAGE)


def texts(tokens: list[int]) -> list[str]:
    names = list(VOCABULARY)
    return [names[token] for token in tokens]


def test_prefix_holds_every_image_between_its_marks() -> None:
    assert texts(prompts().prefix([2, 1])) == [
        "see",
        *("<user>", "<image>", "<image>", "<end>"),
        *("<user>", "<image>", "<end>"),
        "now",
    ]


def test_prefix_without_images_is_start_and_close() -> None:
    assert texts(prompts().prefix([])) == ["see", "now"]


@pytest.mark.parametrize(
    ("opening", "first"),
    [(("<begin>", "<user>"), "<begin>"), (("<unknown>", "<user>"), "<user>"), ((), "see")],
)
def test_prefix_opens_with_the_first_token_that_the_tokenizer_knows(
    opening: tuple[str, ...], first: str
) -> None:
    assert texts(prompts(PromptLayout(opening=opening, start="see")).prefix([1]))[0] == first


def test_suffix_of_both_tasks_asks_for_action_and_steps() -> None:
    asked = prompts()
    action, _ = asked.suffix("action", ["push it"])
    steps, _ = asked.suffix("steps", ["push it"])
    assert texts(action[0].tolist()) == [
        *("What", "robot", "action", "to", "push", "it", "?", "<end>")
    ]
    assert texts(steps[0].tolist()) == ["How", "many", "steps", "to", "push", "it", "?", "<end>"]


def test_suffix_of_several_instructions_is_padded_on_the_left() -> None:
    asked = prompts()
    tokens, real = asked.suffix("steps", ["push", "push it now"])
    assert real.tolist() == [[False, False, *[True] * 7], [True] * 9]
    alone, _ = asked.suffix("steps", ["push"])
    assert tokens[0, 2:].tolist() == alone[0].tolist()
    assert tokens[0, :2].tolist() == [0, 0]


@pytest.mark.parametrize("token", ["<image>", "<end>", "<begin>"])
def test_suffix_of_an_instruction_with_a_special_token_is_refused(token: str) -> None:
    with pytest.raises(ConfigError) as refused:
        prompts().suffix("action", [f"push {token} it"])
    assert str(refused.value) == (
        f"an instruction must be words, got one with the token {token}; leave it out"
    )


def test_suffix_of_256_tokens_passes_and_of_one_more_is_refused() -> None:
    asked = prompts()
    words = 256 - len(["How", "many", "steps", "to", "?", "<end>"])
    for _ in range(2):  # a refused instruction is not remembered as a good one
        tokens, _ = asked.suffix("steps", ["push " * words])
        assert tokens.shape == (1, 256)
        with pytest.raises(ConfigError, match="at most 256 tokens, got 1255 characters; say it in"):
            asked.suffix("steps", ["push " * (words + 1)])


def test_prompts_ignore_the_truncation_and_padding_of_the_tokenizer() -> None:
    tokenizer = word_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=20)
    tokens, _ = Prompts(tokenizer, LAYOUT, IMAGE).suffix("steps", ["push it now"])
    assert tokens.shape == (1, 9)


@pytest.mark.parametrize(
    ("layout", "sentence"),
    [
        (
            PromptLayout(special=("<user>", "<chat>")),
            r"must know the tokens \['<user>', '<chat>'\], got none for \['<chat>'\]; use the tok",
        ),
        (
            PromptLayout(opening=("<a>", "<b>"), special=("<user>",)),
            r"must know the tokens \['<user>', '<a> or <b>'\], got none for \['<a> or <b>'\]",
        ),
    ],
)
def test_prompts_of_a_tokenizer_without_the_familys_tokens_are_refused(
    layout: PromptLayout, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        prompts(layout)
