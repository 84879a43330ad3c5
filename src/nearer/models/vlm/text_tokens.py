"""Instructions -> tokens of a text tower."""

import string
from dataclasses import dataclass

from tokenizers import Tokenizer

from nearer.core.errors import ConfigError

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFormat:
    """The format in which a text tower takes a sentence.

    Attributes:
        start: token before it; none for most.
        end: token after it.
        padding: token that fills up to `max_tokens`; none: the tower takes any length.
        max_tokens: start and end included.
        lowercase: the text is lower-cased.
        strip_punctuation: punctuation is removed.
    """

    start: str | None = None
    end: str
    padding: str | None = None
    max_tokens: int
    lowercase: bool = False
    strip_punctuation: bool = False


class TextTokenizer:
    """The pretrained model's own tokenizer, with its text format.

    Raises:
        ConfigError: the tokenizer does not know the format's special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, text_format: TextFormat) -> None:
        special = (text_format.start, text_format.end, text_format.padding)
        wanted = [text for text in special if text is not None]
        ids = {text: tokenizer.token_to_id(text) for text in wanted}
        self._special = {text: token for text, token in ids.items() if token is not None}
        missing = [text for text in wanted if text not in self._special]
        if missing:
            raise ConfigError(
                f"tokenizer.json must know the tokens {wanted}, got none for {missing}; use the "
                "tokenizer that came with the model"
            )
        tokenizer.no_truncation()  # a truncated instruction would be another one
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.text_format = text_format

    def tokens(self, instruction: str) -> list[int]:
        """Return the tower's input tokens.

        Raises:
            ConfigError: the instruction is too long, or holds a special token.
        """
        text_format, special = self.text_format, self._special
        words = self.tokenizer.encode(self._plain(instruction), add_special_tokens=False).ids
        injected = [text for text, token in special.items() if token in words]
        if injected:
            raise ConfigError(
                f"an instruction must be words, got one with the token {injected[0]}; leave it out"
            )
        start = [] if text_format.start is None else [special[text_format.start]]
        tokens = [*start, *words, special[text_format.end]]
        if len(tokens) > text_format.max_tokens:
            room = text_format.max_tokens - len(start) - 1
            raise ConfigError(
                f"an instruction must be one of at most {room} tokens for this model, got "
                f"{len(words)}; say it in fewer words"
            )
        if text_format.padding is None:
            return tokens
        return tokens + [special[text_format.padding]] * (text_format.max_tokens - len(tokens))

    def _plain(self, instruction: str) -> str:
        text = instruction.lower() if self.text_format.lowercase else instruction
        if self.text_format.strip_punctuation:
            text = " ".join(text.translate(_NO_PUNCTUATION).split())
        return text
