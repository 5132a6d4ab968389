"""CharTokenizer: one number for each character."""

import json
import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from atento._errors import InputError
from atento._files import write_whole

__all__ = ["CharTokenizer"]

MARKED = 40  # characters of a message that are shown


class CharTokenizer:
    """Each character is a token; its number is its place among the characters.

    Args:
        characters: all that there are, each once; those of ``string.printable`` when left out.
        unknown: one of them, which stands for every character that is not among them. None: such
            a character is an error that names it and its place.

    Attributes:
        characters: as given.
        unknown: as given.

    Raises:
        InputError: for characters that come twice, or none, or an unknown that is not among them.

    >>> tokenizer = CharTokenizer()
    >>> tokenizer.encode("Hello")
    [43, 14, 21, 21, 24]
    >>> tokenizer.decode([43, 14, 21, 21, 24])
    'Hello'
    """

    def __init__(self, characters: str = string.printable, *, unknown: str | None = None) -> None:
        if not isinstance(characters, str) or not characters:
            raise InputError("CharTokenizer: characters must be a text of at least one character.")
        self._ids = {character: place for place, character in enumerate(characters)}
        if len(self._ids) < len(characters):
            twice = next(c for c in characters if characters.count(c) > 1)
            raise InputError(f"CharTokenizer: each character once; {twice!r} comes again.")
        if unknown is not None and unknown not in self._ids:
            raise InputError(
                f"CharTokenizer: unknown must be one of the characters; got {unknown!r}."
            )
        self.characters = characters
        self.unknown = unknown

    @classmethod
    def from_text(cls, text: str, *, unknown: str | None = None) -> "CharTokenizer":
        """The characters of a text, in the order of their code points.

        Args:
            text: the corpus.
            unknown: as for the class; it is added where the text does not have it.

        >>> CharTokenizer.from_text("abracadabra").characters
        'abcdr'
        """
        found = set(text) | ({unknown} if unknown else set())
        return cls("".join(sorted(found)), unknown=unknown)

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's characters.

        Raises:
            InputError: for a character that is not among them, where there is no `unknown`.
        """
        if not isinstance(text, str):
            raise InputError(f"CharTokenizer: encode takes a text; got {type(text).__name__}.")
        if self.unknown is not None:
            other = self._ids[self.unknown]
            return [self._ids.get(character, other) for character in text]
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            character = error.args[0]
            raise InputError(
                f"CharTokenizer: the character {character!r} (U+{ord(character):04X}), at place "
                f"{text.index(character)} of the text, is not among the {self.vocabulary_size} "
                "known ones. Make the tokenizer from a text that has it (from_text), or say "
                "unknown=, the character that stands for others.",
                name="lm_character",
                character=repr(character),
                code=f"U+{ord(character):04X}",
                place=text.index(character),
                known=self.vocabulary_size,
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The characters of the numbers, side by side.

        Raises:
            InputError: for a number that no character has.
        """
        numbers = [int(number) for number in ids]
        wrong = [n for n in numbers if not 0 <= n < self.vocabulary_size]
        if wrong:
            raise InputError(
                f"CharTokenizer: ids go from 0 to {self.vocabulary_size - 1}; got {wrong[0]}."
            )
        return "".join(self.characters[number] for number in numbers)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Each number's own text."""
        return [self.decode([number]) for number in ids]

    def save(self, path: str | Path) -> None:
        """Write ``tokenizer.json``, which `tokenizers` and `transformers` read as well."""
        write_whole(Path(path), [(self.to_json() + "\n").encode("utf-8", "surrogatepass")])

    def to_json(self) -> str:
        """The text of ``tokenizer.json``: one word for each character."""
        return json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": [],
                "normalizer": None,
                "pre_tokenizer": {
                    "type": "Split",
                    "pattern": {"Regex": r"[\s\S]"},
                    "behavior": "Isolated",
                    "invert": False,
                },
                "post_processor": None,
                "decoder": {"type": "Fuse"},
                "model": {
                    "type": "WordLevel",
                    "vocab": self._ids,
                    "unk_token": self.unknown or "",
                },
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, stored: Any) -> "CharTokenizer":
        """What `to_json` wrote, parsed."""
        model = stored["model"]
        places: dict[str, int] = model["vocab"]
        characters = sorted(places, key=places.__getitem__)
        _check_places(characters, [places[character] for character in characters])
        return cls("".join(characters), unknown=model.get("unk_token") or None)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CharTokenizer):
            return NotImplemented
        return (self.characters, self.unknown) == (other.characters, other.unknown)

    def __hash__(self) -> int:
        return hash((self.characters, self.unknown))

    def __repr__(self) -> str:
        known = self.characters
        shown = known if len(known) <= MARKED else f"{known[:MARKED]}…"
        return f"CharTokenizer({shown!r}, unknown={self.unknown!r})  # {len(known)} characters"


def _check_places(characters: Sequence[str], places: Sequence[int]) -> None:
    if any(len(c) != 1 for c in characters) or list(places) != list(range(len(places))):
        raise InputError(
            "this tokenizer.json is not of characters numbered from 0 on: its words are longer, or "
            "numbers are missing."
        )
