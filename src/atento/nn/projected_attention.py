"""What modules with projections share: from the inputs to the contexts of the heads."""

from contextlib import nullcontext
from typing import Any

import array_api_compat.torch as xp
import torch
from torch import Tensor, nn

from atento._errors import InputError
from atento.masks import as_mask
from atento.nn.cached_mask import cached_mask
from atento.nn.checks import (
    check_input,
    check_keywords,
    check_mask,
    check_same_tokens,
    head_size,
    probability,
    shared_heads,
    whole,
)
from atento.nn.heads import join_heads, split_heads
from atento.nn.kv_cache import KVCache
from atento.nn.qk_norm import qk_norm_layers
from atento.nn.recorder import SILENT, Recorder, Silent
from atento.positions import DynamicNTKScaling
from atento.records import Trace

__all__ = ["ProjectedAttention"]


class ProjectedAttention(nn.Module):
    """Projections, positions, cache and gate around the equation; `MultiHeadAttention` says all.

    With ``d_out=None`` there is no output projection, and the one head's context is the output.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None,
        head_dim: int | None,
        kdim: int | None,
        vdim: int | None,
        value_head_dim: int | None,
        d_out: int | None,
        bias: bool,
        output_bias: bool,
        mask: Any,
        position: Any,
        dropout: float,
        scale: float | None,
        softcap: float | None,
        sinks: bool,
        qk_norm: str | None,
        gate: bool,
        engine: str,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__()
        me = self._called
        self.d_model = whole(me, "d_model", d_model)
        self.num_heads = whole(me, "num_heads", num_heads)
        self.num_kv_heads = self.num_heads
        if num_kv_heads is not None:
            kv_heads = whole(me, "num_kv_heads", num_kv_heads)
            self.num_kv_heads = shared_heads(me, self.num_heads, kv_heads)
        self.head_dim = (
            head_size(me, self.d_model, self.num_heads)
            if head_dim is None
            else whole(me, "head_dim", head_dim)
        )
        self.value_head_dim = (
            self.head_dim if value_head_dim is None else whole(me, "value_head_dim", value_head_dim)
        )
        self.kdim = self.d_model if kdim is None else whole(me, "kdim", kdim)
        self.vdim = self.kdim if vdim is None else whole(me, "vdim", vdim)
        self.mask = None if mask is None else self._checked_mask(mask)
        _check_position(me, position)
        self.position = position
        self.dropout = probability(me, dropout)
        self.scale = scale
        self.softcap = softcap
        self.qk_norm = qk_norm
        self.engine = engine

        made: dict[str, Any] = {"device": device, "dtype": dtype}
        keys = self.num_kv_heads * self.head_dim
        values = self.num_kv_heads * self.value_head_dim
        contexts = self.num_heads * self.value_head_dim
        # In this order, so that a seed gives the numbers that stand in books.
        self.query = nn.Linear(self.d_model, self.num_heads * self.head_dim, bias=bias, **made)
        self.key = nn.Linear(self.kdim, keys, bias=bias, **made)
        self.value = nn.Linear(self.vdim, values, bias=bias, **made)
        self.output = (
            None
            if d_out is None
            else nn.Linear(contexts, whole(me, "d_out", d_out), bias=output_bias, **made)
        )
        self.gate = nn.Linear(self.d_model, contexts, bias=False, **made) if gate else None
        self.query_norm, self.key_norm = qk_norm_layers(me, qk_norm, self.head_dim, **made)
        self.sinks = nn.Parameter(torch.zeros(self.num_heads, **made)) if sinks else None

    @property
    def _called(self) -> str:
        return type(self).__name__

    def forward(
        self,
        query_in: Tensor,
        key_in: Tensor | None = None,
        value_in: Tensor | None = None,
        *,
        mask: Any = None,
        bias: Any = None,
        cache: KVCache | None = None,
        return_weights: bool = False,
        **unknown: Any,
    ) -> Any:
        """The output (..., query, feature), or (output, weights) with ``return_weights``."""
        return self._attend(
            SILENT,
            query_in,
            key_in,
            value_in,
            mask=mask,
            bias=bias,
            cache=cache,
            return_weights=return_weights,
            **unknown,
        )

    def trace(
        self,
        query_in: Tensor,
        key_in: Tensor | None = None,
        value_in: Tensor | None = None,
        *,
        mask: Any = None,
        bias: Any = None,
        cache: KVCache | None = None,
        **unknown: Any,
    ) -> Trace:
        """`forward`, with every step kept, from the projections to the output."""
        r = Recorder()
        self._attend(r, query_in, key_in, value_in, mask=mask, bias=bias, cache=cache, **unknown)
        return r.trace()

    def _attend(
        self,
        r: Silent,
        query_in: Tensor,
        key_in: Tensor | None = None,
        value_in: Tensor | None = None,
        *,
        mask: Any = None,
        bias: Any = None,
        cache: KVCache | None = None,
        return_weights: bool = False,
        **unknown: Any,
    ) -> Any:
        check_keywords(self._called, unknown)
        if cache is not None:
            self._check_cache(cache, key_in, value_in)
        start = 0 if cache is None else cache.num_tokens
        query_in, key_in, value_in = self._inputs(r, query_in, key_in, value_in, cache, start)
        # A call that is refused leaves the cache as it was.
        with nullcontext() if cache is None else cache.undone_on_error():
            query, key, value = self._projections(r, query_in, key_in, value_in, cache, start)
            made = self._equation(r, query, key, value, mask, bias, cache, return_weights)
            contexts, weights = made if return_weights else (made, None)
            output = self._finished(r, query_in, contexts)
        return (output, weights) if return_weights else output

    def _inputs(
        self,
        r: Silent,
        query_in: Any,
        key_in: Any,
        value_in: Any,
        cache: KVCache | None,
        start: int,
    ) -> tuple[Any, Any, Any]:
        """The three inputs, each checked; positions of the input added where there are such."""
        del cache
        check_input(self._called, "query_in", query_in, self.d_model, self.query)
        if hasattr(self.position, "embed"):
            if key_in is not None or value_in is not None:
                raise InputError(
                    f"{self._called}: position={self.position!r} is added to the input of "
                    "self-attention, and here are several inputs: add it to them before the call, "
                    "as in position.embed(x)."
                )
            query_in = self.position.embed(query_in, start=start)
            query_in = r.step("positioned", "x + positions", _axes(query_in, "query"), query_in)
        key_in = query_in if key_in is None else key_in
        value_in = key_in if value_in is None else value_in
        check_input(self._called, "key_in", key_in, self.kdim, self.key)
        check_input(self._called, "value_in", value_in, self.vdim, self.value)
        check_same_tokens(self._called, query_in, key_in, value_in)
        return query_in, key_in, value_in

    def _projections(
        self,
        r: Silent,
        query_in: Tensor,
        key_in: Tensor,
        value_in: Tensor,
        cache: KVCache | None,
        start: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (..., head, token, feature) as the equation takes them."""
        query = self._projected(r, "query", query_in, self.num_heads)
        key = self._projected(r, "key", key_in, self.num_kv_heads)
        value = self._projected(r, "value", value_in, self.num_kv_heads)
        query = self._normalized(r, "queries", query, self.query_norm)
        key = self._normalized(r, "keys", key, self.key_norm)
        query = self._rotated(r, "queries", query, start)
        if cache is None:
            return query, self._rotated(r, "keys", key, start), value
        if isinstance(getattr(self.position, "scaling", None), DynamicNTKScaling):
            # Its angles change with the number of tokens, for the keys that are kept, too.
            key, value = cache.append(key, value)
            return query, self._rotated(r, "keys", key, cache.num_tokens - key.shape[-2]), value
        key, value = cache.append(self._rotated(r, "keys", key, start), value)
        return query, key, value

    def _projected(self, r: Silent, role: str, x: Tensor, num_heads: int) -> Tensor:
        """(..., token, d_model) -> (..., head, token, head_dim)."""
        projection = getattr(self, role)
        plus = "" if getattr(projection, "bias", None) is None else f" + b_{role}"
        axes = _axes(x, "query" if role == "query" else "key")
        y = r.step(f"{role}_projection", f"{role}_in W_{role}{plus}", axes, projection(x))
        return split_heads(y, num_heads)

    def _normalized(self, r: Silent, what: str, x: Tensor, norm: nn.Module | None) -> Any:
        """Queries or keys of all heads, normalised where the module does so."""
        if norm is None:
            return x
        # Under autocast a norm answers in float32; queries, keys and values keep one dtype.
        x = norm(x).to(x.dtype)
        axes = _axes(x, "head", "query" if what == "queries" else "key")
        return r.step(f"normalized_{what}", f"{self.qk_norm} norm of each head", axes, x)

    def _rotated(self, r: Silent, what: str, x: Tensor, start: int) -> Any:
        """Queries or keys of all heads, rotated where the module does so."""
        if not hasattr(self.position, "rotate"):
            return x
        positions = torch.arange(start, start + x.shape[-2], device=x.device) if start else None
        x = self.position.rotate(x, positions)
        axes = _axes(x, "head", "query" if what == "queries" else "key")
        return r.step(f"rotated_{what}", "each pair turned by position · frequency", axes, x)

    def _equation(
        self,
        r: Silent,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        mask: Any,
        bias: Any,
        cache: KVCache | None,
        return_weights: bool,
    ) -> Any:
        """Contexts (..., head, query, value_head_dim), and the weights where asked for."""
        # The seed comes from torch's generator, so that torch.manual_seed repeats a run.
        seed = None
        dropout = self.dropout if self.training else 0.0
        if dropout:
            seed = torch.randint(2**63 - 1, (), dtype=torch.int64, device=query.device)
        mask = None if mask is None else self._checked_mask(mask)
        return r.attend(
            query,
            key,
            value,
            last="contexts" if self.output is not None or self.gate is not None else "output",
            one_head=self._one_head,
            return_weights=return_weights,
            mask=self._whole_mask(query, key, mask, cache),
            bias=self._whole_bias(query, key, bias, cache),
            scale=self.scale,
            softcap=self.softcap,
            sinks=self.sinks,
            dropout=dropout,
            seed=seed,
            engine=self.engine,
        )

    @property
    def _one_head(self) -> bool:
        """Whether steps and weights go without a head axis."""
        return self.output is None

    def _finished(self, r: Silent, query_in: Tensor, contexts: Tensor) -> Any:
        """Contexts -> output: gated, joined and projected, as far as the module does so."""
        heads = () if self._one_head else ("head",)
        if self.gate is not None:
            gate = self.gate(query_in)
            gate = torch.sigmoid(gate if self._one_head else split_heads(gate, self.num_heads))
            gate = r.step("gate", "sigmoid(query_in W_gate)", _axes(gate, *heads, "query"), gate)
            name = "output" if self.output is None else "gated"
            axes = _axes(contexts, *heads, "query")
            contexts = r.step(name, "contexts ⊙ gate", axes, contexts * gate)
        if self.output is None:
            return contexts
        joined = join_heads(contexts)
        axes = _axes(joined, "query")
        joined = r.step("concatenated", "the heads side by side", axes, joined)
        plus = "" if getattr(self.output, "bias", None) is None else " + b_output"
        return r.step("output", f"concatenated W_output{plus}", axes, self.output(joined))

    def _whole_mask(self, query: Tensor, key: Tensor, mask: Any, cache: KVCache | None) -> Any:
        """The module's mask and the call's: both must allow."""
        if cache is not None:
            return cached_mask(
                self.mask,
                mask,
                queries=query.shape[-2],
                keys=key.shape[-2],
                passed=cache.num_tokens,
                window=cache.window,
            )
        if self.mask is None or mask is None:
            return mask if self.mask is None else self.mask
        return self.mask & mask

    def _whole_bias(self, query: Tensor, key: Tensor, bias: Any, cache: KVCache | None) -> Any:
        """The rule of the module's positions, and the call's bias: their sum."""
        if cache is not None and isinstance(bias, Tensor) and bias.shape[-1] == cache.num_tokens:
            bias = bias[..., cache.num_tokens - key.shape[-2] :]  # given for all keys that passed
        if not hasattr(self.position, "bind"):
            return bias
        rule = self.position if cache is None else self.position.aligned("end")
        if bias is None:
            return rule
        shape = (*query.shape[:-1], key.shape[-2])
        dtype = torch.promote_types(query.dtype, torch.float32)
        return rule.bind(shape, xp, query.device, dtype).dense() + bias

    def _checked_mask(self, mask: Any) -> Any:
        check_mask(self._called, mask)
        return as_mask(mask)

    def _check_cache(self, cache: Any, key_in: Any, value_in: Any) -> None:
        if not isinstance(cache, KVCache):
            raise InputError(
                f"{self._called}: cache must be a KVCache, the same one at every call; got "
                f"{type(cache).__name__}."
            )
        if key_in is not None or value_in is not None:
            raise InputError(
                f"{self._called}: with a cache, keys are those of the tokens that passed and of "
                "query_in: leave key_in and value_in out. (CrossAttention keeps the keys of "
                "another sequence.)"
            )

    def extra_repr(self) -> str:
        """What the projections' own lines do not say."""
        said = [f"num_heads={self.num_heads}"]
        if self.num_kv_heads != self.num_heads:
            said.append(f"num_kv_heads={self.num_kv_heads}")
        said += [
            f"{name}={value!r}"
            for name in ("mask", "position", "scale", "softcap")
            if (value := getattr(self, name)) is not None and not isinstance(value, nn.Module)
        ]
        if self.dropout:
            said.append(f"dropout={self.dropout}")
        return ", ".join(said)


def _axes(x: Tensor, *names: str) -> tuple[str, ...]:
    """The names of a tensor's axes: a batch axis where there is one, these, and the features."""
    return (*("batch",) * (x.ndim - len(names) - 1), *names, "feature")


def _check_position(owner: str, position: Any) -> None:
    kinds = ("rotate", "bind", "embed")
    if position is None or (
        not isinstance(position, type) and any(hasattr(position, kind) for kind in kinds)
    ):
        return
    came = position.__name__ + ", the class" if isinstance(position, type) else repr(position)
    raise InputError(
        f"{owner}: position must be one of atento.positions (Rotary(), Alibi(num_heads), …) or of "
        f"atento.nn (LearnedPositions, RelativePositionBias); got {came}."
    )
