"""Sentence encoder: one query a slot, for the first object, the second object and the effector.

A small bidirectional recurrent network reads the sentence and attends, for each slot, to the words
that name its object. The query is the attention-weighted sum of the words' own embeddings, without
their context. So "red moon" is the sum of red and moon wherever it stands, also when pretraining
never showed both together.
"""

import math
import re
import zlib
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

NUM_UNKNOWN = 16
"""Hash buckets, with an embedding each, for words that are not in the vocabulary."""
_PADDING = 0
_MAX_WORDS = 32
_WORD = re.compile(r"[a-z0-9]+")


class Vocabulary:
    """Token ids of words: 0 is padding, then the buckets of unknown words, then the vocabulary."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: 1 + NUM_UNKNOWN + i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return 1 + NUM_UNKNOWN + len(self.words)

    def number(self, word: str) -> int:
        """Return a word's id; an unknown word's is that of its hash bucket."""
        number = self._numbers.get(word)
        return 1 + zlib.crc32(word.encode()) % NUM_UNKNOWN if number is None else number

    def encode(self, sentences: Sequence[str]) -> Int[Tensor, "sentences words"]:
        """Return the ids of the words of lower-cased sentences, padded with 0."""
        # A sentence without a word becomes one unknown word: the packed GRU takes no empty row.
        rows = [[self.number(w) for w in split(text)[:_MAX_WORDS]] or [1] for text in sentences]
        longest = max((len(row) for row in rows), default=1)
        return torch.tensor([row + [_PADDING] * (longest - len(row)) for row in rows])


def split(sentence: str) -> list[str]:
    """Return the words of a sentence."""
    return _WORD.findall(sentence.lower())


class SentenceEncoder(nn.Module):
    """Sentences -> three queries each: first object, second object or region, effector."""

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(len(vocabulary), width, padding_idx=_PADDING)
        self.read = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.attend = nn.Linear(width, 2)
        self.meaning = nn.Linear(width, width)
        self.effector = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.effector, std=1 / math.sqrt(width))
        self.norm = nn.LayerNorm(width)

    def forward(self, words: Int[Tensor, "sentences words"]) -> Float[Tensor, "sentences 3 width"]:
        """Return the queries of every sentence."""
        embedded = self.embedding(words)
        lengths = (words != _PADDING).sum(dim=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            embedded, lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.read(packed)[0], batch_first=True, total_length=words.shape[1]
        )
        attention = self._attention(states, words != _PADDING)
        slots = attention.transpose(1, 2) @ self.meaning(embedded)
        effector = self.effector.expand(len(words), 1, -1)
        return self.norm(torch.cat([slots, effector], dim=1))

    def _attention(
        self,
        states: Float[Tensor, "sentences words width"],
        real: Bool[Tensor, "sentences words"],
    ) -> Float[Tensor, "sentences words 2"]:
        """Return the weight of each word in each of the two object slots; sums to 1 over words."""
        return self.attend(states).masked_fill(~real[..., None], -torch.inf).softmax(dim=1)
