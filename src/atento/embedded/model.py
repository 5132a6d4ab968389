"""The forward pass of the embedded model, in NumPy, through `atento.attention`.

GPT-2's shape: token and position vectors are added, three blocks each add what attention and a
perceptron find, and the scores of the next token are products with the token vectors.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atento._errors import InputError
from atento.embedded.tokenizer import Encoding, WordPiece
from atento.equation import attention
from atento.masks import Causal

Array = NDArray[np.float32]
MEANING = "[MEANING]"  # a word is read behind this token when its vector is asked for
MEANING_TEMPERATURE = 0.1  # of the softmax in which the vectors were trained


@dataclass(frozen=True)
class LayerRun:
    """What the attention of one layer read, projected and returned.

    Attributes:
        input: (token, d_model), after the LayerNorm: what the projections multiply.
        query_weight, key_weight, value_weight: (d_model, d_model), applied as ``input @ weight``;
            columns ``h·head_dim : (h+1)·head_dim`` are head h.
        query_bias, key_bias, value_bias: (d_model,).
        query, key, value: (head, token, head_dim).
        context: (head, token, head_dim), ``weights @ value``.
    """

    input: Array
    query_weight: Array
    key_weight: Array
    value_weight: Array
    query_bias: Array
    key_bias: Array
    value_bias: Array
    query: Array
    key: Array
    value: Array
    context: Array


@dataclass(frozen=True)
class Run:
    """One forward pass: logits (token, vocabulary), and every layer on the way."""

    logits: Array
    layers: tuple[LayerRun, ...]


class Mini:
    """A small GPT-2 in NumPy.

    Attributes:
        context: the most tokens that it reads at once.
        tokenizer: text to ids.
        num_layers, num_heads, d_model: its sizes.
    """

    def __init__(
        self,
        weights: Mapping[str, NDArray[np.float16 | np.float32]],
        tokenizer: WordPiece,
        *,
        num_heads: int,
        epsilon: float = 1e-5,
    ) -> None:
        self._weights = {
            name.removeprefix("transformer."): weight.astype(np.float32)
            for name, weight in weights.items()
        }
        for weight in self._weights.values():
            weight.flags.writeable = False  # records of a run hand out views of them
        self._epsilon = np.float32(epsilon)
        self.tokenizer = tokenizer
        self.num_heads = num_heads
        self.num_layers = sum(name.endswith("attn.c_attn.weight") for name in self._weights)
        self.context, self.d_model = self._weights["wpe.weight"].shape

    def encode(self, text: str) -> Encoding:
        """Split a text into tokens: ids, the slices of the text, and their places.

        Raises:
            InputError: there is nothing to read, or more than `context` tokens.
        """
        encoding = self.tokenizer.encode(text)
        if not encoding.ids:
            raise InputError("the text has no visible character: give at least one word.")
        self._check_length(len(encoding))
        return encoding

    def __call__(self, ids: Sequence[int]) -> Array:
        """Return the next-token scores, (token, vocabulary), of a sequence of ids."""
        return self.run(ids).logits

    def run(self, ids: Sequence[int], *, off: Collection[tuple[int, int]] = ()) -> Run:
        """Run the model on a sequence of ids and keep what each attention computed.

        Args:
            ids: at most `context` of them.
            off: (layer number, head) whose context is 0 on its way on, as if the head were not
                there; what the run keeps of that head is what it would have passed on.
        """
        state, layers = self._forward(self._checked(ids), self.checked_heads(off))
        return Run(state @ self._weights["wte.weight"].T, layers)

    def vectors(self, words: Sequence[str]) -> Array:
        """Return one row per word, (word, d_model), to be compared by dot product.

        The word is read behind the token `[MEANING]`; a row is the mean of the last states of its
        tokens, scaled to length ``1/√temperature``, so that ``softmax(query_rows @ key_rows.T)``
        is the comparison that the model was trained in (cosine over a temperature of 0.1).
        """
        meaning = self.tokenizer.vocabulary[MEANING]
        ids = [(meaning, *self.encode(word).ids) for word in words]
        rows = np.empty((len(ids), self.d_model), np.float32)
        for length in {len(i) for i in ids}:
            self._check_length(length)
            same = [at for at, i in enumerate(ids) if len(i) == length]
            state, _ = self._forward(np.array([ids[at] for at in same]))  # (n, length, d_model)
            rows[same] = state[:, 1:].mean(axis=1)
        lengths = np.sqrt((rows * rows).sum(axis=-1, keepdims=True))
        vectors: Array = rows / (lengths * np.float32(math.sqrt(MEANING_TEMPERATURE)))
        return vectors

    def _checked(self, ids: Sequence[int]) -> NDArray[np.int64]:
        array = np.asarray(ids)
        size = len(self._weights["wte.weight"])
        if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
            raise InputError(
                "ids must be a non-empty sequence of integers, as encode(text).ids gives; "
                f"got shape {array.shape} of {array.dtype}."
            )
        if array.min() < 0 or array.max() >= size:
            raise InputError(
                f"ids must lie between 0 and {size - 1}; got {array.min()} to {array.max()}. "
                "Do they come from another tokenizer?"
            )
        self._check_length(array.size)
        return array.astype(np.int64)

    def checked_heads(self, off: Collection[tuple[int, int]]) -> Collection[tuple[int, int]]:
        """The same (layer number, head) pairs.

        Raises:
            InputError: for one that is not there.
        """
        for layer, head in off:
            if not (0 <= layer < self.num_layers and 0 <= head < self.num_heads):
                raise InputError(
                    f"there is no head {head} in layer {layer}: the embedded model has layers 0 to "
                    f"{self.num_layers - 1}, each with heads 0 to {self.num_heads - 1}."
                )
        return off

    def _check_length(self, length: int) -> None:
        if length > self.context:
            raise InputError(
                f"the embedded model reads at most {self.context} tokens and the text has "
                f"{length}: cut it (on the command line: --cut)."
            )

    def _forward(
        self, ids: NDArray[np.int64], off: Collection[tuple[int, int]] = ()
    ) -> tuple[Array, tuple[LayerRun, ...]]:
        """Return the last normed states (..., T, d_model) of ids (..., T), and each layer."""
        w = self._weights
        x: Array = w["wte.weight"][ids] + w["wpe.weight"][: ids.shape[-1]]  # (..., T, d_model)
        layers = []
        for number in range(self.num_layers):
            at = f"h.{number}."
            layer = self._attend(self._norm(x, at + "ln_1"), at + "attn.")
            layers.append(layer)
            silent = [head for own, head in off if own == number]
            mixed = np.moveaxis(layer.context, -3, -2)  # (..., T, heads, head_dim)
            if silent:
                mixed = mixed.copy()
                mixed[..., silent, :] = 0
            x = x + self._linear(mixed.reshape(x.shape), at + "attn.c_proj")
            hidden = gelu(self._linear(self._norm(x, at + "ln_2"), at + "mlp.c_fc"))
            x = x + self._linear(hidden, at + "mlp.c_proj")
        return self._norm(x, "ln_f"), tuple(layers)

    def _attend(self, x: Array, at: str) -> LayerRun:
        w_query, w_key, w_value = np.split(self._weights[at + "c_attn.weight"], 3, axis=1)
        b_query, b_key, b_value = np.split(self._weights[at + "c_attn.bias"], 3)
        query, key, value = (
            # (..., T, d_model) → (..., T, heads, head_dim) → (..., heads, T, head_dim)
            np.moveaxis((x @ w + b).reshape(*x.shape[:-1], self.num_heads, -1), -3, -2)
            for w, b in ((w_query, b_query), (w_key, b_key), (w_value, b_value))
        )
        context = attention(query, key, value, mask=Causal())
        return LayerRun(
            x, w_query, w_key, w_value, b_query, b_key, b_value, query, key, value, context
        )

    def _linear(self, x: Array, name: str) -> Array:
        y: Array = x @ self._weights[name + ".weight"] + self._weights[name + ".bias"]
        return y

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        scaled: Array = centred / np.sqrt(variance + self._epsilon)
        return scaled * self._weights[name + ".weight"] + self._weights[name + ".bias"]


def gelu(x: Array) -> Array:
    """GPT-2's activation: ``x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))``."""
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    y: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return y
