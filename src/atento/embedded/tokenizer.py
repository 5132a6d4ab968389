"""WordPiece in pure Python: text to token ids, and the slice of the text that each id stands for.

The file it reads, `tokenizer.json`, is the one that Hugging Face's `tokenizers` reads, and the ids
are the same. What differs: here every token also keeps its exact place in the user's own text, and
text that `tokenizers` refuses (a lone surrogate) is read like any other unknown character.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

# After lower-casing: a run of Latin letters is a word; any other visible character stands alone.
# The classes are spelled out, so that no two Unicode versions can disagree on them.
LETTERS = "a-zß-öø-ÿ"
SPACES = "\t\n\v\f\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
PATTERN = f"[{LETTERS}]+|[^{SPACES}]"
LONGEST_WORD = 100  # a longer run of letters is one unknown token, as in `tokenizers`
UNKNOWN = "[UNK]"
DOTTED_I = "İ"
CONTINUATION = "##"


@dataclass(frozen=True)
class Encoding:
    """A text as the model reads it.

    Attributes:
        ids: one number per token.
        tokens: what stands in the user's text, verbatim: ``text[start:end]`` of each span.
        spans: where each token starts and ends in the text, counted in characters.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.ids)


class WordPiece:
    """Greedy longest-match tokenizer over a fixed vocabulary."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = vocabulary
        self.unknown = vocabulary[UNKNOWN]
        self._starts = {p: i for p, i in vocabulary.items() if not p.startswith(CONTINUATION)}
        self._continuations = {
            p[len(CONTINUATION) :]: i
            for p, i in vocabulary.items()
            if p.startswith(CONTINUATION) and p != CONTINUATION
        }
        self._longest = max(map(len, vocabulary))
        self._piece_of = {number: piece for piece, number in vocabulary.items()}
        self._pattern = re.compile(PATTERN)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read the vocabulary of a `tokenizer.json`."""
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return cls(record["model"]["vocab"])

    def encode(self, text: str) -> Encoding:
        """Split a text into tokens, each with its id and its place."""
        lowered = "".join(map(lower, text))
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for match in self._pattern.finditer(lowered):
            start = match.start()
            for length, token in self.pieces(match[0]):
                ids.append(token)
                spans.append((start, start + length))
                start += length
        return Encoding(tuple(ids), tuple(text[a:b] for a, b in spans), tuple(spans))

    def text_of(self, token: int) -> str:
        """What stands for one id in the vocabulary; a space before it where a word begins.

        >>> from atento.embedded import load_mini
        >>> tokenizer = load_mini().tokenizer
        >>> "".join(map(tokenizer.text_of, tokenizer.encode("the journey").ids))
        ' the journey'
        """
        piece = self._piece_of[token]
        if piece.startswith(CONTINUATION) and piece != CONTINUATION:
            return piece.removeprefix(CONTINUATION)
        return f" {piece}"

    def pieces(self, word: str) -> list[tuple[int, int]]:
        """Return (length, id) of the pieces of one lower-case word, the longest match first."""
        if len(word) > LONGEST_WORD:
            return [(len(word), self.unknown)]
        found = []
        start, known = 0, self._starts
        while start < len(word):
            for length in range(min(self._longest, len(word) - start), 0, -1):
                token = known.get(word[start : start + length])
                if token is not None:
                    break
            else:
                return [(len(word), self.unknown)]
            found.append((length, token))
            start, known = start + length, self._continuations
        return found


def lower(character: str) -> str:
    """Lower-case one character to one character, so that places in the text stay what they are.

    Only İ has a lower case of two characters; it becomes i.
    """
    return "i" if character == DOTTED_I else character.lower()
