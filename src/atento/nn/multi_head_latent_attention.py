"""MultiHeadLatentAttention: keys and values of all heads from one small vector per token."""

from contextlib import nullcontext
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

from atento._errors import InputError
from atento.masks import as_mask
from atento.nn.cached_mask import cached_mask
from atento.nn.checks import check_input, check_mask, probability, whole
from atento.nn.heads import join_heads, split_heads
from atento.nn.kv_cache import KVCache
from atento.nn.recorder import SILENT, Recorder, Silent
from atento.positions import Rotary
from atento.records import Trace

__all__ = ["MultiHeadLatentAttention"]


class MultiHeadLatentAttention(nn.Module):
    """Multi-head latent attention: what is kept of a token is a latent and one rotated key.

    ``latent = norm(x W_down)``; per head ``K = [latent W_upᴷ, rotated(x W_down)]``,
    ``V = latent W_upⱽ``, ``Q = [x W_query, rotated(x W_query)]``;
    ``output = [… softmax(mask(Q Kᵀ · scale)) V …] W_output``. The rotated part of the key is one
    for all heads, since a rotation between W_upᴷ and the queries could not be moved to them.

    A `KVCache` given to the module holds the latents (as its keys) and the rotated keys (as its
    values) alone: kv_lora_rank + qk_rope_head_dim numbers per token, whatever the heads. Where it
    is cheaper, as in decoding, the keys and values of the heads are not even made: W_upᴷ is moved
    to the queries, W_upⱽ to the contexts, and all heads attend to the latents themselves.

    Args:
        d_model: features of the input and the output.
        num_heads: heads of queries, keys and values.
        kv_lora_rank: features of the latent.
        qk_nope_head_dim: features of a head's queries and keys that carry no position.
        qk_rope_head_dim: features that are rotated.
        v_head_dim: features of a head's values.
        q_lora_rank: queries come from a latent of their own, of so many features; None: from x.
        position: rotates queries and keys; ``Rotary(interleaved=True)`` when left out, as in
            DeepSeek's own models.
        bias: whether ``query_down``, ``key_value_down`` and ``output`` add one.
        mask: who may look at whom in every call, True = attends: a rule of `atento.masks` or a
            bool array. A call can give another: both must allow.
        dropout: the probability with which a weight is set to 0, in training only.
        scale: multiplies Q Kᵀ; 1/√(qk_nope_head_dim + qk_rope_head_dim) when left out. (Models
            with YaRN multiply it by their mscale².)
        engine: of `atento.attention`.
        device, dtype: of the parameters.

    Shapes: (..., token, d_model) -> (..., token, d_model), where ... is nothing or a batch axis.

    ``state_dict``: ``query.weight`` (num_heads · (qk_nope_head_dim + qk_rope_head_dim), d_model),
    or with q_lora_rank ``query_down.weight`` (q_lora_rank, d_model), ``query_norm.weight`` and
    ``query_up.weight``; ``key_value_down.weight`` (kv_lora_rank + qk_rope_head_dim, d_model),
    ``key_value_norm.weight`` (kv_lora_rank,), ``key_value_up.weight`` (num_heads ·
    (qk_nope_head_dim + v_head_dim), kv_lora_rank), ``output.weight`` (d_model, num_heads ·
    v_head_dim); ``.bias`` where there is one. They are, in this order, the ``q_proj``,
    ``q_a_proj``, ``q_a_layernorm``, ``q_b_proj``, ``kv_a_proj_with_mqa``, ``kv_a_layernorm``,
    ``kv_b_proj`` and ``o_proj`` of the DeepSeek models in transformers.

    Raises:
        ShapeError, DTypeError, InputError: what was expected, what came, and what to do.

    Source: DeepSeek-V2 (arXiv 2405.04434), section 2.1 and appendix C.

    >>> from atento.masks import Causal
    >>> attention = MultiHeadLatentAttention(
    ...     16, 2, kv_lora_rank=5, qk_nope_head_dim=3, qk_rope_head_dim=2, v_head_dim=7,
    ...     mask=Causal())
    >>> cache = KVCache()
    >>> attention(torch.ones(1, 11, 16), cache=cache).shape
    torch.Size([1, 11, 16])
    >>> cache.keys.shape, cache.values.shape
    (torch.Size([1, 1, 11, 5]), torch.Size([1, 1, 11, 2]))
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        kv_lora_rank: int,
        qk_nope_head_dim: int,
        qk_rope_head_dim: int,
        v_head_dim: int,
        q_lora_rank: int | None = None,
        position: Any = None,
        bias: bool = False,
        mask: Any = None,
        dropout: float = 0.0,
        scale: float | None = None,
        engine: str = "auto",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        me = type(self).__name__
        self.d_model = whole(me, "d_model", d_model)
        self.num_heads = whole(me, "num_heads", num_heads)
        self.kv_lora_rank = whole(me, "kv_lora_rank", kv_lora_rank)
        self.qk_nope_head_dim = whole(me, "qk_nope_head_dim", qk_nope_head_dim)
        self.qk_rope_head_dim = whole(me, "qk_rope_head_dim", qk_rope_head_dim)
        self.v_head_dim = whole(me, "v_head_dim", v_head_dim)
        self.q_lora_rank = None if q_lora_rank is None else whole(me, "q_lora_rank", q_lora_rank)
        self.position = Rotary(interleaved=True) if position is None else position
        if isinstance(self.position, type) or not hasattr(self.position, "rotate"):
            raise InputError(
                f"{me}: position must rotate, as Rotary() does: latent attention keeps one rotated "
                f"key for all heads; got {position!r}."
            )
        if self.qk_rope_head_dim % 2:
            raise InputError(
                f"{me}: qk_rope_head_dim must be even, for features turn in pairs; got "
                f"{qk_rope_head_dim}."
            )
        self.mask = None if mask is None else self._checked_mask(mask)
        self.dropout = probability(me, dropout)
        self.scale = scale
        self.engine = engine

        made: dict[str, Any] = {"device": device, "dtype": dtype}
        qk_head_dim = self.qk_nope_head_dim + self.qk_rope_head_dim
        queries = self.num_heads * qk_head_dim
        if self.q_lora_rank is None:
            self.query = nn.Linear(self.d_model, queries, bias=False, **made)
        else:
            self.query_down = nn.Linear(self.d_model, self.q_lora_rank, bias=bias, **made)
            self.query_norm = nn.RMSNorm(self.q_lora_rank, eps=1e-6, **made)
            self.query_up = nn.Linear(self.q_lora_rank, queries, bias=False, **made)
        down = self.kv_lora_rank + self.qk_rope_head_dim
        self.key_value_down = nn.Linear(self.d_model, down, bias=bias, **made)
        self.key_value_norm = nn.RMSNorm(self.kv_lora_rank, eps=1e-6, **made)
        up = self.num_heads * (self.qk_nope_head_dim + self.v_head_dim)
        self.key_value_up = nn.Linear(self.kv_lora_rank, up, bias=False, **made)
        contexts = self.num_heads * self.v_head_dim
        self.output = nn.Linear(contexts, self.d_model, bias=bias, **made)

    def forward(
        self,
        x: Tensor,
        *,
        mask: Any = None,
        cache: KVCache | None = None,
        return_weights: bool = False,
    ) -> Any:
        """The output (..., token, d_model), or (output, weights) with ``return_weights``.

        Args:
            x: (batch, token, d_model), or (token, d_model).
            mask: who may look at whom in this call, beside the module's own mask.
            cache: what is kept of earlier tokens, the same object at every call.
            return_weights: the weights (..., head, query, key) are returned too.

        Raises:
            ShapeError, DTypeError, InputError: which argument, what was expected, what came.
        """
        return self._attend(SILENT, x, mask, cache, return_weights)

    def trace(self, x: Tensor, *, mask: Any = None, cache: KVCache | None = None) -> Trace:
        """`forward`, with every step kept, the keys and values of every head among them.

        The steps: query_latents and normalized_query_latents (with q_lora_rank), query_projection,
        rotated_queries; key_value_projection, latents, rotated_keys (one for all heads),
        expanded_latents; then the equation's, contexts, concatenated and output.
        """
        r = Recorder()
        self._attend(r, x, mask, cache, False)
        return r.trace()

    def _attend(
        self, r: Silent, x: Tensor, mask: Any, cache: KVCache | None, return_weights: bool
    ) -> Any:
        me = type(self).__name__
        first = self.key_value_down
        check_input(me, "x", x, self.d_model, first)
        if cache is not None and not isinstance(cache, KVCache):
            raise InputError(
                f"{me}: cache must be a KVCache, the same one at every call; got "
                f"{type(cache).__name__}."
            )
        start = 0 if cache is None else cache.num_tokens
        positions = torch.arange(start, start + x.shape[-2], device=x.device) if start else None
        plain_query, rotated_query = self._queries(r, x, positions)
        latent, rotated_key = self._latents(r, x, positions)
        with nullcontext() if cache is None else cache.undone_on_error():
            if cache is not None:
                # One head of keys and one of "values": (..., token, ·) -> (..., 1, token, ·)
                kept = cache.append(latent.unsqueeze(-3), rotated_key.unsqueeze(-3))
                latent, rotated_key = (part.squeeze(-3) for part in kept)
            seed = None
            dropout = self.dropout if self.training else 0.0
            if dropout:  # from torch's generator, so that torch.manual_seed repeats a run
                seed = torch.randint(2**63 - 1, (), dtype=torch.int64, device=x.device)
            scale = self.scale
            if scale is None:
                scale = 1 / sqrt(self.qk_nope_head_dim + self.qk_rope_head_dim)
            options = {
                "mask": self._whole_mask(x.shape[-2], latent.shape[-2], mask, cache),
                "scale": scale,
                "dropout": dropout,
                "seed": seed,
                "engine": self.engine,
                "return_weights": return_weights,
            }
            absorbed = (
                cache is not None and not isinstance(r, Recorder) and self._absorbs(latent, x)
            )
            attend = self._attend_to_latents if absorbed else self._attend_to_heads
            made = attend(r, plain_query, rotated_query, latent, rotated_key, options)
            contexts, weights = made if return_weights else (made, None)
            joined = join_heads(contexts)
            tokens = _axes(joined, "query")
            joined = r.step("concatenated", "the heads side by side", tokens, joined)
            plus = "" if self.output.bias is None else " + b_output"
            output = self.output(joined)
            output = r.step("output", f"concatenated W_output{plus}", tokens, output)
        return (output, weights) if return_weights else output

    def _queries(self, r: Silent, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """The parts of the queries (..., head, query, ·): without position, and rotated."""
        if self.q_lora_rank is None:
            formula, query = "x W_query", self.query(x)
        else:
            latent = self.query_down(x)
            tokens = _axes(latent, "query")
            latent = r.step("query_latents", "x W_query_down", tokens, latent)
            latent = _normed(self.query_norm, latent)
            formula = "RMS norm of query_latents"
            latent = r.step("normalized_query_latents", formula, tokens, latent)
            formula, query = "normalized_query_latents W_query_up", self.query_up(latent)
        query = r.step("query_projection", formula, _axes(query, "query"), query)
        sizes = [self.qk_nope_head_dim, self.qk_rope_head_dim]
        plain, rotated = torch.split(split_heads(query, self.num_heads), sizes, -1)
        rotated = self.position.rotate(rotated, positions)
        axes = _axes(rotated, "head", "query")
        formula = f"the last {sizes[1]} features of each head, each pair turned by its position"
        return plain, r.step("rotated_queries", formula, axes, rotated)

    def _latents(self, r: Silent, x: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is kept of a token: the latent (..., key, rank), the rotated key (..., key, ·)."""
        down = self.key_value_down(x)
        tokens = _axes(down, "key")
        down = r.step("key_value_projection", "x W_key_value_down", tokens, down)
        latent, rotated = torch.split(down, [self.kv_lora_rank, self.qk_rope_head_dim], -1)
        latent = _normed(self.key_value_norm, latent)
        formula = f"RMS norm of the first {self.kv_lora_rank} features"
        latent = r.step("latents", formula, tokens, latent)
        rotated = self.position.rotate(rotated, positions)
        formula = f"the last {self.qk_rope_head_dim} features, each pair turned by its position"
        return latent, r.step("rotated_keys", formula, tokens, rotated)

    def _attend_to_heads(
        self,
        r: Silent,
        plain_query: Tensor,
        rotated_query: Tensor,
        latent: Tensor,
        rotated_key: Tensor,
        options: dict[str, Any],
    ) -> Any:
        """The definition: keys and values of every head are made from the latents."""
        made = self.key_value_up(latent)
        made = r.step("expanded_latents", "latents W_key_value_up", _axes(made, "key"), made)
        sizes = [self.qk_nope_head_dim, self.v_head_dim]
        plain_key, value = torch.split(split_heads(made, self.num_heads), sizes, -1)
        shared = rotated_key.unsqueeze(-3).expand(*plain_key.shape[:-1], -1)
        query = torch.cat((plain_query, rotated_query), -1)
        key = torch.cat((plain_key, shared), -1)
        return r.attend(query, key, value, last="contexts", **options)

    def _attend_to_latents(
        self,
        r: Silent,
        plain_query: Tensor,
        rotated_query: Tensor,
        latent: Tensor,
        rotated_key: Tensor,
        options: dict[str, Any],
    ) -> Any:
        """The same, associated otherwise: q (c W)ᵀ = (q Wᵀ) cᵀ, and weights (c W) = (weights c) W.

        All heads share one head of keys, [latent, rotated key], and one of values, the latent.
        """
        heads = (self.num_heads, self.qk_nope_head_dim + self.v_head_dim, self.kv_lora_rank)
        up = self.key_value_up.weight.reshape(heads)
        key_up, value_up = torch.split(up, [self.qk_nope_head_dim, self.v_head_dim], -2)
        query = torch.cat((plain_query @ key_up, rotated_query), -1)
        key = torch.cat((latent, rotated_key), -1).unsqueeze(-3)
        made = r.attend(query, key, latent.unsqueeze(-3), last="contexts", **options)
        if options["return_weights"]:
            return made[0] @ value_up.mT, made[1]
        return made @ value_up.mT

    def _absorbs(self, latent: Tensor, x: Tensor) -> bool:
        """Whether attending to the latents costs fewer products than making keys and values."""
        if type(self.key_value_up) is not nn.Linear:  # an adapter, a quantised layer
            return False
        n, p, v = self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim
        rank, Tq, Tk = self.kv_lora_rank, x.shape[-2], latent.shape[-2]
        each = Tk * rank * (n + v) + Tq * Tk * (n + p + v)
        shared = Tq * rank * (n + v) + Tq * Tk * (2 * rank + p)
        return shared < each

    def _whole_mask(self, queries: int, keys: int, mask: Any, cache: KVCache | None) -> Any:
        """The module's mask and the call's: both must allow."""
        mask = None if mask is None else self._checked_mask(mask)
        if cache is not None:
            return cached_mask(
                self.mask,
                mask,
                queries=queries,
                keys=keys,
                passed=cache.num_tokens,
                window=cache.window,
            )
        if self.mask is None or mask is None:
            return mask if self.mask is None else self.mask
        return self.mask & mask

    def _checked_mask(self, mask: Any) -> Any:
        check_mask(type(self).__name__, mask)
        return as_mask(mask)

    def extra_repr(self) -> str:
        """What the projections' own lines do not say."""
        said = [f"num_heads={self.num_heads}", f"position={self.position!r}"]
        said += [f"mask={self.mask!r}"] if self.mask is not None else []
        said += [f"scale={self.scale}"] if self.scale is not None else []
        said += [f"dropout={self.dropout}"] if self.dropout else []
        return ", ".join(said)


def _normed(norm: nn.RMSNorm, x: Tensor) -> Tensor:
    """The norm in the dtype of its weight (under autocast that is not x's), in the dtype of x."""
    made: Tensor = norm(x.to(norm.weight.dtype))
    return made.to(x.dtype)


def _axes(x: Tensor, *names: str) -> tuple[str, ...]:
    """The names of a tensor's axes: a batch axis where there is one, these, and the features."""
    return (*("batch",) * (x.ndim - len(names) - 1), *names, "feature")
