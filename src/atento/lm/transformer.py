"""Transformer: a decoder-only language model out of `atento.nn`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from atento._errors import DTypeError, InputError, ShapeError
from atento.lm.blocks import Block, norm_of
from atento.lm.config import TransformerConfig
from atento.masks import KeyPadding
from atento.nn import KVCache, LearnedPositions

__all__ = ["Transformer"]

STD = 0.02  # of all first weights, as in GPT-2


class Transformer(nn.Module):
    """Scores of the next token at every position of a sequence of token ids.

    ``x = E[ids] (+ P[positions])``, then the blocks, then ``logits = norm(x) Eᵀ`` (or a matrix of
    its own). First weights are normal with standard deviation 0.02, those that add to the stream
    smaller by √(parts that add) (Radford et al. 2019, section 2.3).

    Args:
        config: sizes and parts.

    Shapes: ids (batch, token) -> logits (batch, token, vocabulary_size).

    Raises:
        ShapeError, DTypeError, InputError: for ids that are none, or more than the context.

    Sources: Vaswani et al. 2017 (arXiv 1706.03762); Radford et al. 2019, "Language Models are
    Unsupervised Multitask Learners"; Touvron et al. 2023 (arXiv 2302.13971) for the Llama shape.

    >>> model = Transformer(TransformerConfig.preset("toy", vocabulary_size=100))
    >>> model(torch.tensor([[40, 14, 21, 21, 24]])).shape
    torch.Size([1, 5, 100])
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.tokenizer: Any = None
        """What made its ids from text, where that is known."""
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.d_model)
        self.position_embedding = (
            LearnedPositions(config.context, config.d_model, std=STD)
            if config.position == "learned"
            else None
        )
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = norm_of(config)
        self.output = (
            None if config.tied else nn.Linear(config.d_model, config.vocabulary_size, bias=False)
        )
        self.apply(_initialise)
        parts = config.num_layers * (1 if config.feed_forward is None else 2)
        for name, weight in self.named_parameters():
            if name.endswith(("attention.output.weight", "feed_forward.contract.weight")):
                nn.init.normal_(weight, std=STD / math.sqrt(parts))

    def forward(
        self,
        ids: Tensor,
        caches: Sequence[KVCache] | None = None,
        padding: Tensor | None = None,
    ) -> Tensor:
        """The logits (batch, token, vocabulary) of ids (batch, token).

        Args:
            ids: whole numbers from 0 to vocabulary_size − 1.
            caches: of `new_caches`: ids go on where the last call ended.
            padding: (batch,) how many tokens at the start of each whole sequence are none; nobody
                sees them, and positions count from the first token after them.
        """
        return self.logits_of(self.states(ids, caches, padding))

    def states(
        self,
        ids: Tensor,
        caches: Sequence[KVCache] | None = None,
        padding: Tensor | None = None,
    ) -> Tensor:
        """The last normed states (batch, token, d_model) of ids (batch, token)."""
        self._check_ids(ids)
        return self.states_of(self.token_embedding(ids), caches, padding)

    def states_of(
        self,
        embedded: Tensor,
        caches: Sequence[KVCache] | None = None,
        padding: Tensor | None = None,
    ) -> Tensor:
        """The last normed states of token embeddings (batch, token, d_model)."""
        start = caches[0].num_tokens if caches else 0
        end = start + embedded.shape[-2]
        if end > self.config.context:
            raise ShapeError(
                f"Transformer: the context is {self.config.context} tokens, and these are {end}: "
                "cut the text, or train a model with a longer context."
            )
        mask = None
        x = embedded
        if padding is not None:
            places = torch.arange(end, device=x.device)
            mask = KeyPadding(places >= padding[:, None])
        if self.position_embedding is not None:
            if padding is None:
                x = self.position_embedding.embed(x, start)
            else:
                x = x + self.position_embedding.table[(places[start:] - padding[:, None]).relu()]
        x = self.dropout(x)
        for number, block in enumerate(self.blocks):
            x = block(x, caches[number] if caches else None, mask)
        out: Tensor = self.norm(x)
        return out

    def logits_of(self, states: Tensor) -> Tensor:
        """The scores (..., vocabulary) of states (..., d_model)."""
        weight = self.token_embedding.weight if self.output is None else self.output.weight
        return functional.linear(states, weight)

    def new_caches(self) -> list[KVCache]:
        """An empty cache for each block, so that decoding computes each token once."""
        return [KVCache(window=self.config.window) for _ in self.blocks]

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned; `TransformerConfig` counts the same by formula."""
        return sum(parameter.numel() for parameter in self.parameters())

    def _check_ids(self, ids: Any) -> None:
        if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.dtype == torch.bool:
            came = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
            raise DTypeError(
                f"Transformer: ids must be a tensor of whole numbers; got {came}. "
                "A text becomes ids by a tokenizer: torch.tensor([tokenizer.encode(text)])."
            )
        if ids.ndim != 2:
            raise ShapeError(
                f"Transformer: ids must have the axes (batch, token); got shape "
                f"{tuple(ids.shape)}. One sequence is a batch of one: ids[None]."
            )
        if not torch.compiler.is_compiling() and ids.numel() and ids.device.type == "cpu":
            low, high = int(ids.min()), int(ids.max())
            if low < 0 or high >= self.config.vocabulary_size:
                raise InputError(
                    f"Transformer: ids go from 0 to {self.config.vocabulary_size - 1}; got "
                    f"{low if low < 0 else high}. Does the tokenizer belong to this model?"
                )


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=STD)
