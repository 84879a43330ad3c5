"""Instructions -> tokens of the action prompt and the steps-to-go prompt (paper, fig. 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int64
from tokenizers import Tokenizer
from torch import Tensor

from nearer.core.errors import ConfigError

Task = Literal["action", "steps"]
"""What a prompt asks the model to predict."""

_TEMPLATES: dict[Task, str] = {
    "action": "What robot action to {}?",
    "steps": "How many steps to {}?",
}
_MAX_SUFFIX_TOKENS = 256  # bounds the memory of a batch that is padded to its longest prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptLayout:
    """The chat format that a family was trained on, around images and text.

    Attributes:
        opening: tokens that a prompt may start with; the first that the tokenizer knows is used.
        start: before everything else.
        before: before every image.
        after: after every image.
        close: after the last image.
        suffix: format of the text after the images, with {} for the text.
        special: texts that must be one token each.
    """

    opening: tuple[str, ...] = ()
    start: str = ""
    before: str = ""
    after: str = ""
    close: str = ""
    suffix: str = "{}"
    special: tuple[str, ...] = ()


class Prompts:
    """Prompts of one family, by the pretrained model's own tokenizer.

    Raises:
        ConfigError: the tokenizer does not know the family's special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, layout: PromptLayout, image_token: int) -> None:
        missing = [text for text in layout.special if tokenizer.token_to_id(text) is None]
        opening = [text for text in layout.opening if tokenizer.token_to_id(text) is not None]
        if missing or (layout.opening and not opening):
            wanted = [*layout.special, *([] if opening else [" or ".join(layout.opening)])]
            texts = [text for text in wanted if text]
            raise ConfigError(
                f"tokenizer.json must know the tokens {texts}, got none "
                f"for {missing or wanted[-1:]}; use the tokenizer that came with the model"
            )
        tokenizer.no_truncation()  # a truncated prompt would be another one
        tokenizer.no_padding()
        added = tokenizer.get_added_tokens_decoder()
        special = (number for number, token in added.items() if token.special)
        self._special = {image_token, *special}
        self._opening = "".join(opening[:1])
        self.tokenizer = tokenizer
        self.layout = layout
        self._image_token = image_token
        self._cache: dict[tuple[Task, str], list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, with nothing added around them."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def prefix(self, images: Sequence[int]) -> list[int]:
        """Return the tokens that both prompts share: everything up to the last image.

        Args:
            images: number of tokens of each.
        """
        before, after = self.tokens(self.layout.before), self.tokens(self.layout.after)
        shown = [
            token for count in images for token in (*before, *[self._image_token] * count, *after)
        ]
        start = self._opening + self.layout.start
        return [*self.tokens(start), *shown, *self.tokens(self.layout.close)]

    def suffix(
        self, task: Task, instructions: Sequence[str]
    ) -> tuple[Int64[Tensor, "samples suffix"], Bool[Tensor, "samples suffix"]]:
        """Return the tokens of a prompt after the prefix, and which of them are not padding.

        Shorter ones are padded on the left, so that the output follows the last token of each row.
        """
        rows = [self._suffix(task, instruction) for instruction in instructions]
        longest = max(map(len, rows))
        tokens = torch.zeros((len(rows), longest), dtype=torch.int64)
        real = torch.zeros((len(rows), longest), dtype=torch.bool)
        for index, row in enumerate(rows):
            tokens[index, longest - len(row) :] = torch.tensor(row)
            real[index, longest - len(row) :] = True
        return tokens, real

    def _suffix(self, task: Task, instruction: str) -> list[int]:
        key = (task, instruction)
        if key not in self._cache:
            text = self.layout.suffix.format(_TEMPLATES[task].format(self._plain(instruction)))
            self._cache[key] = self.tokens(text)
            if len(self._cache[key]) > _MAX_SUFFIX_TOKENS:
                del self._cache[key]
                raise ConfigError(
                    f"an instruction must be one of at most {_MAX_SUFFIX_TOKENS} tokens, got "
                    f"{len(instruction)} characters; say it in a sentence"
                )
        return self._cache[key]

    def _plain(self, instruction: str) -> str:
        """Return the instruction, if it holds no special token, which would change the prompt."""
        injected = [token for token in self.tokens(instruction) if token in self._special]
        if injected:
            text = self.tokenizer.id_to_token(injected[0])
            raise ConfigError(
                f"an instruction must be words, got one with the token {text}; leave it out"
            )
        return instruction
