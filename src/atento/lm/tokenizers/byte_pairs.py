"""BPETokenizer: pieces of words, learnt from a text, that can spell every text."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from atento._errors import InputError
from atento._files import write_whole
from atento._optional import require

__all__ = ["BPETokenizer"]

BYTES = 256
END = "<|endoftext|>"


class BPETokenizer:
    """Byte-level byte-pair encoding: `decode(encode(text)) == text` for every Unicode text.

    Training begins with the 256 bytes of UTF-8 and joins, again and again, the pair of neighbours
    that is most frequent (Sennrich et al. 2016, arXiv 1508.07909; on bytes: Radford et al. 2019,
    section 2.2). Names of special tokens in a text are text: none is made of them.

    Args:
        tokenizer: of Hugging Face `tokenizers`, byte-level; `train` makes one.

    >>> tokenizer = BPETokenizer.train(["low lower lowest low"], vocabulary_size=260)
    >>> tokenizer.tokens(tokenizer.encode("low 🦊"))[0]
    'low'
    >>> tokenizer.decode(tokenizer.encode("low 🦊"))
    'low 🦊'
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocabulary_size: int = 4096,
        *,
        specials: Iterable[str] = (END,),
        progress: bool = False,
    ) -> "BPETokenizer":
        """Learn the pieces from texts.

        Args:
            texts: the corpus, in any pieces.
            vocabulary_size: how many tokens at most; a small text yields fewer.
            specials: tokens beside the text, such as its end; they come first.
            progress: whether a bar is shown.

        Raises:
            InputError: for fewer tokens than bytes and specials, or lone surrogates.
            MissingLibraryError: where `tokenizers` is not installed.
        """
        require("tokenizers", "to learn byte pairs")
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        named = list(specials)
        if isinstance(texts, str):
            texts = [texts]
        least = BYTES + len(named)
        if type(vocabulary_size) is not int or vocabulary_size < least:
            raise InputError(
                f"BPETokenizer: there are {BYTES} bytes and {len(named)} special tokens: "
                f"vocabulary_size must be a whole number from {least} on; got {vocabulary_size!r}.",
                name="lm_vocabulary",
                least=least,
                came=repr(vocabulary_size),
            )
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=named,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=progress,
        )
        tokenizer.train_from_iterator((_whole(text) for text in texts), trainer)
        return cls(tokenizer)

    @classmethod
    def from_json(cls, text: str) -> "BPETokenizer":
        """The tokenizer of a ``tokenizer.json``."""
        require("tokenizers", "to read this tokenizer.json")
        from tokenizers import Tokenizer

        try:
            return cls(Tokenizer.from_str(text))
        except Exception as error:  # tokenizers raises nothing narrower
            raise InputError(f"this tokenizer.json cannot be read: {error}.") from None

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are, the special ones among them."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's pieces.

        Raises:
            InputError: for a lone surrogate, which UTF-8 cannot write.
        """
        return list(self._tokenizer.encode(_whole(text), add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the numbers; bytes that make no character become U+FFFD.

        Raises:
            InputError: for a number that no piece has.
        """
        numbers = [int(number) for number in ids]
        wrong = [n for n in numbers if not 0 <= n < self.vocabulary_size]
        if wrong:
            raise InputError(
                f"BPETokenizer: ids go from 0 to {self.vocabulary_size - 1}; got {wrong[0]}."
            )
        return str(self._tokenizer.decode(numbers, skip_special_tokens=False))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Each number's own text; a part of a character is shown as U+FFFD."""
        return [self.decode([number]) for number in ids]

    def id_of(self, special: str) -> int | None:
        """The number of a special token, or None."""
        number = self._tokenizer.token_to_id(special)
        return None if number is None else int(number)

    def save(self, path: str | Path) -> None:
        """Write ``tokenizer.json``, which `tokenizers` and `transformers` read as well."""
        write_whole(Path(path), [self.to_json().encode()])

    def to_json(self) -> str:
        """The text of ``tokenizer.json``."""
        return str(self._tokenizer.to_str(pretty=True))

    def __repr__(self) -> str:
        return f"BPETokenizer of {self.vocabulary_size:,} tokens"


def _whole(text: Any) -> str:
    if not isinstance(text, str):
        raise InputError(f"BPETokenizer takes texts; got {type(text).__name__}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"BPETokenizer: the text has a lone surrogate at place {error.start}, which UTF-8 "
            "cannot write. Take it out, or replace it: "
            "text.encode('utf-8', 'replace').decode().",
            name="lm_surrogate",
            place=error.start,
        ) from None
    return text
