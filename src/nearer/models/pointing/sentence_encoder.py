"""The language half: which words of a sentence name the first thing, which the second.

A small recurrent network reads the sentence and decides where each slot looks; what a slot then
carries away are the words' own embeddings, free of their context. So "red moon" is red plus moon
wherever it stands, also when the two were never seen together.
"""

import math
import re
import zlib
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

NUM_UNKNOWN = 16
"""Words that pretraining never met share this many embeddings."""
_PADDING = 0
_MAX_WORDS = 32
_WORD = re.compile(r"[a-z0-9]+")


class Vocabulary:
    """Numbers of words: 0 is padding, then the buckets of unknown words, then the known ones."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: 1 + NUM_UNKNOWN + i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return 1 + NUM_UNKNOWN + len(self.words)

    def number(self, word: str) -> int:
        """Return a word's number; an unknown word's is that of its bucket."""
        known = self._numbers.get(word)
        return 1 + zlib.crc32(word.encode()) % NUM_UNKNOWN if known is None else known

    def encode(self, sentences: Sequence[str]) -> Int[Tensor, "sentences words"]:
        """Return the numbers of the words of lower-cased sentences, padded with 0."""
        rows = [[self.number(w) for w in split(one)[:_MAX_WORDS]] or [1] for one in sentences]
        longest = max((len(row) for row in rows), default=1)
        return torch.tensor([row + [_PADDING] * (longest - len(row)) for row in rows])


def split(sentence: str) -> list[str]:
    """Return the words of a sentence."""
    return _WORD.findall(sentence.lower())


class SentenceEncoder(nn.Module):
    """Sentences -> three queries each: first thing, second thing or place, the effector."""

    def __init__(self, vocabulary: Vocabulary, width: int) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.embedding = nn.Embedding(len(vocabulary), width, padding_idx=_PADDING)
        self.read = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)
        self.look = nn.Linear(width, 2)
        self.meaning = nn.Linear(width, width)
        self.effector = nn.Parameter(torch.randn(width) / math.sqrt(width))
        self.norm = nn.LayerNorm(width)

    def forward(self, words: Int[Tensor, "sentences words"]) -> Float[Tensor, "sentences 3 width"]:
        """Return the queries of every sentence."""
        embedded = self.embedding(words)
        lengths = (words != _PADDING).sum(dim=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            embedded, lengths, batch_first=True, enforce_sorted=False
        )
        read, _ = nn.utils.rnn.pad_packed_sequence(
            self.read(packed)[0], batch_first=True, total_length=words.shape[1]
        )
        attention = self._attention(read, words != _PADDING)
        slots = attention.transpose(1, 2) @ self.meaning(embedded)
        effector = self.effector.expand(len(words), 1, -1)
        return self.norm(torch.cat([slots, effector], dim=1))

    def _attention(
        self, read: Float[Tensor, "sentences words width"], there: Bool[Tensor, "sentences words"]
    ) -> Float[Tensor, "sentences words 2"]:
        """Return how much each of the two slots takes from each word; sums to 1 over words."""
        return self.look(read).masked_fill(~there[..., None], -torch.inf).softmax(dim=1)
