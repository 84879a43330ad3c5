"""Tokens of a text tower by a tokenizer of whole words."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from nearer.core.errors import ConfigError
from nearer.models.vlm.text_tokens import TextFormat, TextTokenizer

PAD, START, END, PUSH, IT, UPPER_PUSH, STRANGE, DOT = range(8)
VOCABULARY = {
    "<pad>": PAD, "<start>": START, "<end>": END, "push": PUSH, "it": IT, "Push": UPPER_PUSH,
    "<strange>": STRANGE, ".": DOT,
}  # fmt: skip


def word_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<strange>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<pad>", "<start>", "<end>"])
    return tokenizer


def tokens_of(instruction: str, text_format: TextFormat) -> list[int]:
    return TextTokenizer(word_tokenizer(), text_format).tokens(instruction)


@pytest.mark.parametrize(
    ("text_format", "tokens"),
    [
        (TextFormat(end="<end>", max_tokens=6), [PUSH, IT, END]),
        (TextFormat(start="<start>", end="<end>", max_tokens=6), [START, PUSH, IT, END]),
        (TextFormat(end="<end>", padding="<pad>", max_tokens=5), [PUSH, IT, END, PAD, PAD]),
        (TextFormat(end="<end>", padding="<end>", max_tokens=4), [PUSH, IT, END, END]),
    ],
)
def test_tokens_of_each_format_by_hand(text_format: TextFormat, tokens: list[int]) -> None:
    assert tokens_of("push it", text_format) == tokens


@pytest.mark.parametrize(
    ("lowercase", "strip_punctuation", "tokens"),
    [
        (False, False, [UPPER_PUSH, IT, DOT, END]),
        (True, False, [PUSH, IT, DOT, END]),
        (False, True, [UPPER_PUSH, IT, END]),
        (True, True, [PUSH, IT, END]),
    ],
)
def test_tokens_of_a_sentence_in_upper_case_with_a_dot(
    lowercase: bool, strip_punctuation: bool, tokens: list[int]
) -> None:
    text_format = TextFormat(
        end="<end>", max_tokens=9, lowercase=lowercase, strip_punctuation=strip_punctuation
    )
    assert tokens_of("Push  it.", text_format) == tokens


def test_tokens_as_many_as_there_is_room_pass_and_one_more_is_refused() -> None:
    text_format = TextFormat(start="<start>", end="<end>", padding="<pad>", max_tokens=5)
    assert tokens_of("push it push", text_format) == [START, PUSH, IT, PUSH, END]
    with pytest.raises(ConfigError) as refused:
        tokens_of("push it push it", text_format)
    assert str(refused.value) == (
        "an instruction must be one of at most 3 tokens for this model, got 4; say it in fewer "
        "words"
    )


@pytest.mark.parametrize("token", ["<start>", "<end>", "<pad>"])
def test_tokens_of_an_instruction_with_a_special_token_are_refused(token: str) -> None:
    text_format = TextFormat(start="<start>", end="<end>", padding="<pad>", max_tokens=9)
    with pytest.raises(ConfigError, match=f"must be words, got one with the token {token}; leave"):
        tokens_of(f"push {token} it", text_format)


def test_tokens_ignore_the_truncation_and_padding_of_the_tokenizer() -> None:
    tokenizer = word_tokenizer()
    tokenizer.enable_truncation(1)
    tokenizer.enable_padding(length=7)
    text = TextTokenizer(tokenizer, TextFormat(end="<end>", max_tokens=9))
    assert text.tokens("push it") == [PUSH, IT, END]


def test_tokenizer_without_the_formats_tokens_is_refused() -> None:
    text_format = TextFormat(start="<begin>", end="<end>", max_tokens=9)
    with pytest.raises(ConfigError) as refused:
        TextTokenizer(word_tokenizer(), text_format)
    assert str(refused.value) == (
        "tokenizer.json must know the tokens ['<begin>', '<end>'], got none for ['<begin>']; use "
        "the tokenizer that came with the model"
    )
