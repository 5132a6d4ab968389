"""generate: a text that goes on."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from atento._errors import InputError
from atento.lm.generating.decoding import decoded
from atento.lm.generating.sampling import Sampling
from atento.lm.generating.text_stream import TextStream
from atento.lm.setting import within
from atento.lm.transformer import Transformer

__all__ = ["generate"]

END = "<|endoftext|>"


def generate(
    model: Transformer,
    prompt: Any,
    *,
    max_tokens: int = 100,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    stop: str | Sequence[str] = (),
    stream: bool = False,
    tokenizer: Any = None,
) -> Any:
    """What a model writes after a prompt.

    Each token is drawn from softmax(scores / temperature) after what `Sampling` drops. A text ends
    after max_tokens, at a stop, or at the tokenizer's ``<|endoftext|>``. Where the model's context
    is full, its later half is read anew, and the text goes on from there.

    Args:
        model: of `load_model`, `train` or `Transformer`.
        prompt: a text, or several of any lengths, which are continued side by side.
        max_tokens: how many tokens are written at most.
        temperature: as in `Sampling`; 0 takes the likeliest token each time.
        top_k: as in `Sampling`.
        top_p: as in `Sampling`.
        min_p: as in `Sampling`.
        repetition_penalty: as in `Sampling`.
        seed: of chance; None: another each time.
        stop: texts at which it ends; they are left out.
        stream: yield the text piece by piece, each of whole characters, for a single prompt.
        tokenizer: the model's own when left out.

    Returns:
        the new text without the prompt; a list of texts for several prompts; an iterator of pieces
        for ``stream=True``.

    Raises:
        InputError: no tokenizer, an empty prompt, a prompt longer than the context, a value out of
            its range.

    >>> from atento.lm import CharTokenizer, TransformerConfig
    >>> model = Transformer(TransformerConfig.preset("toy", vocabulary_size=100))
    >>> len(generate(model, "Hello", max_tokens=7, seed=1, tokenizer=CharTokenizer()))
    7
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    tokenizer = model.tokenizer if tokenizer is None else tokenizer
    if tokenizer is None:
        raise InputError(
            "generate: this model has no tokenizer: pass tokenizer=, the one it was trained with.",
            name="lm_no_tokenizer",
        )
    several = isinstance(prompt, Iterable) and not isinstance(prompt, str)
    if several and stream:
        raise InputError("generate: stream=True writes one text; got several prompts.")
    whole = isinstance(max_tokens, int) and not isinstance(max_tokens, bool)
    within("max_tokens", max_tokens, whole and max_tokens >= 1, "a whole number ≥ 1")
    whole = isinstance(seed, int) and not isinstance(seed, bool) and -(2**63) <= seed < 2**64
    within("seed", seed, seed is None or whole, "a whole number of at most 64 bits")
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if any(not isinstance(one, str) or not one for one in stops):
        raise InputError(
            "generate: stop must be texts of at least one character.", name="lm_stop_empty"
        )
    prompts = [_ids(model, tokenizer, one) for one in (prompt if several else [prompt])]
    if not prompts:
        return []
    pieces = _pieces(model, tokenizer, prompts, sampling, max_tokens, seed, stops)
    if stream:
        return (piece for (piece,) in pieces if piece)
    texts = [""] * len(prompts)
    for step in pieces:
        texts = [text + piece for text, piece in zip(texts, step, strict=True)]
    return texts if several else texts[0]


def _pieces(
    model: Transformer,
    tokenizer: Any,
    prompts: list[list[int]],
    sampling: Sampling,
    max_tokens: int,
    seed: int | None,
    stops: tuple[str, ...],
) -> Iterator[list[str]]:
    """What each step adds to each text."""
    device = model.token_embedding.weight.device
    generator = None if seed is None else torch.Generator(device).manual_seed(seed)
    end = tokenizer.id_of(END) if hasattr(tokenizer, "id_of") else None
    streams = [TextStream(tokenizer.decode, stops, prompt) for prompt in prompts]
    running = [True] * len(prompts)
    trained = model.training
    model.eval()
    try:
        steps = decoded(model, prompts, sampling, generator)
        for _, tokens in zip(range(max_tokens), steps, strict=False):
            step = []
            for row, token in enumerate(tokens):
                running[row] = running[row] and token != end
                step.append(streams[row].push(token) if running[row] else "")
                running[row] = running[row] and not streams[row].stopped
            yield step
            if not any(running):
                break
        yield [one.end() for one in streams]
    finally:
        model.train(trained)


def _ids(model: Transformer, tokenizer: Any, prompt: Any) -> list[int]:
    if not isinstance(prompt, str):
        raise InputError(f"generate: a prompt is a text; got {type(prompt).__name__}.")
    ids: list[int] = tokenizer.encode(prompt)
    if not ids:
        raise InputError(
            "generate: the prompt is empty: a text goes on from at least one token.",
            name="lm_prompt_empty",
        )
    if len(ids) > model.config.context:
        raise InputError(
            f"generate: the prompt has {len(ids):,} tokens, and the model's context is "
            f"{model.config.context:,}: shorten it.",
            name="lm_prompt_long",
            came=len(ids),
            limit=model.config.context,
        )
    return ids
