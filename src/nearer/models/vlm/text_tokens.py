"""Instructions -> tokens of a text tower."""

import string
from dataclasses import dataclass

from tokenizers import Tokenizer

from nearer.core.errors import ConfigError

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a text tower takes a sentence.

    Attributes:
        start: token before it; none for most.
        end: token after it.
        padding: token that fills up to `longest`; none: the tower takes any length.
        longest: tokens, start and end included.
        lower: upper case is read as lower case.
        bare: punctuation is left out.
    """

    start: str | None = None
    end: str
    padding: str | None = None
    longest: int
    lower: bool = False
    bare: bool = False


class Sentences:
    """Sentences by the pretrained model's own tokenizer.

    Raises:
        ConfigError: the tokenizer does not know the form's tokens.
    """

    def __init__(self, tokenizer: Tokenizer, form: Form) -> None:
        wanted = [one for one in (form.start, form.end, form.padding) if one is not None]
        known = {one: tokenizer.token_to_id(one) for one in wanted}
        self._special = {text: token for text, token in known.items() if token is not None}
        missing = [one for one in wanted if one not in self._special]
        if missing:
            raise ConfigError(
                f"tokenizer.json must know the tokens {wanted}, got none for {missing}; use the "
                "tokenizer that came with the model"
            )
        tokenizer.no_truncation()  # a sentence that is cut would be another one
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.form = form

    def tokens(self, instruction: str) -> list[int]:
        """Return the tokens that the tower reads.

        Raises:
            ConfigError: the instruction is too long, or holds a token that steers the tower.
        """
        form, special = self.form, self._special
        words = self.tokenizer.encode(self._plain(instruction), add_special_tokens=False).ids
        steering = [text for text, token in special.items() if token in words]
        if steering:
            raise ConfigError(
                f"an instruction must be words, got one with the token {steering[0]}; leave it out"
            )
        start = [] if form.start is None else [special[form.start]]
        whole = [*start, *words, special[form.end]]
        if len(whole) > form.longest:
            room = form.longest - len(start) - 1
            raise ConfigError(
                f"an instruction must be one of at most {room} tokens for this model, got "
                f"{len(words)}; say it in fewer words"
            )
        missing = form.longest - len(whole)
        return whole if form.padding is None else whole + [special[form.padding]] * missing

    def _plain(self, instruction: str) -> str:
        text = instruction.lower() if self.form.lower else instruction
        if self.form.bare:
            text = " ".join(text.translate(_NO_PUNCTUATION).split())
        return text
