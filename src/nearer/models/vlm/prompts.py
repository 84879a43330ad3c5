"""Instructions -> tokens of the two questions (paper, fig. 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer
from torch import Tensor

from nearer.core.errors import ConfigError

Question = Literal["action", "steps"]

_QUESTIONS: dict[Question, str] = {
    "action": "What robot action to {}?",
    "steps": "How many steps to {}?",
}
_MAX_WORDS_TOKENS = 256  # of a question; an instruction is a sentence, not a book


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What stands around pictures and question in the prompts a family was trained on.

    Attributes:
        opening: tokens that everything may start with; the first that the tokenizer knows.
        start: before everything else.
        before: before every picture.
        after: after every picture.
        close: after the last picture.
        question: the question stands for {}.
        special: texts that must be one token each.
    """

    opening: tuple[str, ...] = ()
    start: str = ""
    before: str = ""
    after: str = ""
    close: str = ""
    question: str = "{}"
    special: tuple[str, ...] = ()


class Prompts:
    """Prompts of one family, by the pretrained model's own tokenizer.

    Raises:
        ConfigError: the tokenizer does not know the family's special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, layout: Layout, image_token: int) -> None:
        missing = [one for one in layout.special if tokenizer.token_to_id(one) is None]
        opening = [one for one in layout.opening if tokenizer.token_to_id(one) is not None]
        if missing or (layout.opening and not opening):
            wanted = [*layout.special, *([] if opening else [" or ".join(layout.opening)])]
            raise ConfigError(
                f"tokenizer.json must know the tokens {[one for one in wanted if one]}, got none "
                f"for {missing or wanted[-1:]}; use the tokenizer that came with the model"
            )
        tokenizer.no_truncation()  # a question that is cut would be another one
        tokenizer.no_padding()
        added = tokenizer.get_added_tokens_decoder()
        self._steering = {image_token, *(number for number, one in added.items() if one.special)}
        self._opening = "".join(opening[:1])
        self.tokenizer = tokenizer
        self.layout = layout
        self._image_token = image_token
        self._kept: dict[tuple[Question, str], list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, with nothing added around them."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prefix(self, pictures: Sequence[int]) -> list[int]:
        """Return the tokens that both questions share: everything up to the last picture.

        Args:
            pictures: tokens of each.
        """
        before, after = self.tokens(self.layout.before), self.tokens(self.layout.after)
        shown = [one for n in pictures for one in (*before, *[self._image_token] * n, *after)]
        start = self._opening + self.layout.start
        return [*self.tokens(start), *shown, *self.tokens(self.layout.close)]

    def ask(
        self, question: Question, instructions: Sequence[str]
    ) -> tuple[Int64[Tensor, "samples asked"], Bool[Tensor, "samples asked"]]:
        """Return the tokens of a question, a row an instruction, and which of them are real.

        Shorter ones are padded in front, so that the answer follows at once.
        """
        rows = [self._question(question, one) for one in instructions]
        longest = max(map(len, rows))
        tokens = torch.zeros((len(rows), longest), dtype=torch.int64)
        real = torch.zeros((len(rows), longest), dtype=torch.bool)
        for index, row in enumerate(rows):
            tokens[index, longest - len(row) :] = torch.tensor(row)
            real[index, longest - len(row) :] = True
        return tokens, real

    def _question(self, question: Question, instruction: str) -> list[int]:
        key = (question, instruction)
        if key not in self._kept:
            text = self.layout.question.format(
                _QUESTIONS[question].format(self._plain(instruction))
            )
            self._kept[key] = self.tokens(text)
            if len(self._kept[key]) > _MAX_WORDS_TOKENS:
                del self._kept[key]
                raise ConfigError(
                    f"an instruction must be one of at most {_MAX_WORDS_TOKENS} tokens, got "
                    f"{len(instruction)} characters; say it in a sentence"
                )
        return self._kept[key]

    def _plain(self, instruction: str) -> str:
        """Return the instruction; no token that steers the model may be written into it."""
        steering = [one for one in self.tokens(instruction) if one in self._steering]
        if steering:
            text = self.tokenizer.id_to_token(steering[0])
            raise ConfigError(
                f"an instruction must be words, got one with the token {text}; leave it out"
            )
        return instruction
