"""AdditiveAttention: a small network compares each query with each key (Bahdanau et al. 2014)."""

from typing import Any

import torch
from torch import Tensor, nn

from atento._arrays import dtype_name
from atento._errors import DTypeError, ShapeError
from atento.equation.on_torch.autocast import autocast_is_on, without_autocast
from atento.nn.checks import check_mask, probability, whole
from atento.nn.recorder import SILENT, Recorder, Silent
from atento.records import Trace

__all__ = ["AdditiveAttention"]

HALVES = (torch.bfloat16, torch.float16)
WHOLE = 2**21
"""Up to this many hidden values are built at once: about what a cache holds (measured)."""
TRACED_BLOCK = 8
"""Hidden features to a block where a compiler reads the code, and sizes may not decide anything."""


class AdditiveAttention(nn.Module):
    """Additive attention: the first attention in translation.

    ``score(q, k) = vᵀ tanh(W q + U k)``, ``weights = softmax(scores)``,
    ``output = weights value``; W is ``query``, U is ``key``, v is ``score``.

    The scores enter `atento.attention` as its bias, beside queries and keys of one feature that is
    0: masks, fully masked rows and dropout are the equation's own. The hidden layer
    (batch, query, key, hidden) is never held whole: it is built a few features at a time and,
    for the gradient, built again.

    Args:
        query_dim: features of a query (a decoder's state).
        key_dim: features of a key (an encoder's states).
        hidden_dim: features of the hidden layer in which both are compared.
        bias: add a bias in the hidden layer (on ``key``; the paper writes none).
        dropout: the probability with which a weight is set to 0 in training.

    Shapes:
        query: (batch, query, query_dim), or (query, query_dim) without a batch. With one axis
            fewer than key, as in a decoder's step, it is one query: (batch, query_dim).
        key: (batch, key, key_dim), or (key, key_dim).
        value: (batch, key, value_dim), or (key, value_dim); key itself when left out.
        output: as query, with value_dim features. weights: (batch, query, key), without the axes
            that query does not have.

    ``state_dict``: ``query.weight`` (hidden_dim, query_dim), ``key.weight`` (hidden_dim, key_dim),
    ``key.bias`` (hidden_dim,) with ``bias=True``, ``score.weight`` (1, hidden_dim).

    Source: Bahdanau, Cho & Bengio 2014 (arXiv 1409.0473), section 3.1 and appendix A.1.2, where W
    is W_a, U is U_a and v is v_a.

    >>> _ = torch.manual_seed(123)
    >>> attend = AdditiveAttention(query_dim=3, key_dim=5, hidden_dim=4)
    >>> state, encoded = torch.randn(2, 3), torch.randn(2, 7, 5)
    >>> context, weights = attend(state, encoded, return_weights=True)
    >>> context.shape, weights.shape
    (torch.Size([2, 5]), torch.Size([2, 7]))
    """

    def __init__(
        self,
        query_dim: int,
        key_dim: int,
        hidden_dim: int,
        *,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.query_dim = whole("AdditiveAttention", "query_dim", query_dim)
        self.key_dim = whole("AdditiveAttention", "key_dim", key_dim)
        self.hidden_dim = whole("AdditiveAttention", "hidden_dim", hidden_dim)
        self.dropout = probability("AdditiveAttention", dropout)
        self.query = nn.Linear(query_dim, hidden_dim, bias=False)
        self.key = nn.Linear(key_dim, hidden_dim, bias=bias)
        self.score = nn.Linear(hidden_dim, 1, bias=False)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor | None = None,
        *,
        mask: Any = None,
        key_projection: Tensor | None = None,
        return_weights: bool = False,
    ) -> Any:
        """Output, or (output, weights).

        Args:
            query: (batch, query, query_dim), or as the class says.
            key: (batch, key, key_dim).
            value: (batch, key, value_dim); key when left out.
            mask: who may look at whom, True = attends: a rule of `atento.masks`, or a bool array
                that broadcasts to (batch, 1, query, key). A query that may see no key gets 0.
            key_projection: ``module.key(key)``, where it is there already: a decoder's loop asks
                the same keys at every step (appendix A.1.2).
            return_weights: return the weights too, as they are before dropout.

        Raises:
            ShapeError, DTypeError: which argument, what was expected, what came.
        """
        return self._attend(SILENT, query, key, value, mask, key_projection, return_weights)

    def trace(
        self, query: Tensor, key: Tensor, value: Tensor | None = None, *, mask: Any = None
    ) -> Trace:
        """`forward`, with every step kept.

        The steps: query_projection, key_projection, hidden, additive_scores, then the equation's,
        whose scores are 0 until additive_scores join them as ``biased``. One query alone keeps its
        axis of 1 in all steps (the equation's last is then ``contexts``) but the output.
        """
        recorder = Recorder()
        self._attend(recorder, query, key, value, mask, None, False)
        return recorder.trace()

    def _attend(
        self,
        r: Silent,
        query: Tensor,
        key: Tensor,
        value: Tensor | None,
        mask: Any,
        projected: Tensor | None,
        return_weights: bool,
    ) -> Any:
        value = key if value is None else value
        check_inputs(query, key, value, self.query.weight, self.query_dim, self.key_dim)
        check_mask("AdditiveAttention", mask)
        single = query.ndim < key.ndim
        query = query.unsqueeze(-2) if single else query  # (..., query_dim) -> (..., 1, query_dim)
        batch = ("batch",) * (key.ndim - 2)
        q = r.step("query_projection", "W q", (*batch, "query", "feature"), self.query(query))
        if projected is None:
            projected = self.key(key)
        elif projected.shape != (*key.shape[:-1], self.hidden_dim):
            raise ShapeError(
                f"key_projection must be what module.key(key) gives, of shape "
                f"{(*key.shape[:-1], self.hidden_dim)}; got {tuple(projected.shape)}."
            )
        k = r.step("key_projection", "U k", (*batch, "key", "feature"), projected)
        scores = recorded_scores(r, q, k, self.score.weight[0])
        return attend_by_scores(
            r, scores, value, mask, single, return_weights, self.dropout if self.training else 0.0
        )

    def extra_repr(self) -> str:
        """The dropout, which no submodule shows."""
        return f"dropout={self.dropout}" if self.dropout else ""


def recorded_scores(r: Silent, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`additive_scores`; a recorder keeps the hidden layer too, which is then held whole."""
    if not isinstance(r, Recorder):
        return additive_scores(q, k, v)
    pairs = (*("batch",) * (q.ndim - 2), "query", "key")
    q, k, v = (wide(x) for x in (q, k, v))
    hidden = torch.tanh(q.unsqueeze(-2) + k.unsqueeze(-3))  # (..., query, key, feature)
    r.step("hidden", "tanh(W q + U k)", (*pairs, "feature"), hidden)
    scores: Tensor = r.step("additive_scores", "vᵀ hidden", pairs, additive_scores(q, k, v))
    return scores


def attend_by_scores(
    r: Silent,
    scores: Tensor,
    value: Tensor,
    mask: Any,
    single: bool,
    return_weights: bool,
    dropout: float,
) -> Any:
    """The equation on scores that are there already: ``softmax(mask(0 · 0 + scores)) value``.

    Args:
        r: keeps the steps.
        scores: (..., query, key).
        value: (..., key, feature).
        mask: for weights (..., 1, query, key).
        single: drop the query axis, which is 1.
        return_weights: return (output, weights).
        dropout: 0 outside training.
    """
    *batch, Tq, Tk = scores.shape
    zeros = value.new_zeros(())  # (..., head = 1, token, feature = 1)
    options = {"bias": scores.unsqueeze(-3), "mask": mask}
    return attend_as_one_head(
        r,
        zeros.expand(*batch, Tq, 1),
        zeros.expand(*batch, Tk, 1),
        value,
        single,
        return_weights,
        dropout,
        options,
    )


def attend_as_one_head(
    r: Silent,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    single: bool,
    return_weights: bool,
    dropout: float,
    options: dict[str, Any],
) -> Any:
    """The equation with one head; ``single`` drops the query axis, which is 1, from its result."""
    if dropout:  # a tensor, so that a compiled module does not drop the same weights for ever
        seed = torch.randint(2**63 - 1, (), device=query.device)
        options |= {"dropout": dropout, "seed": seed}
    if autocast_is_on(query.device.type):  # a projection may have answered in half precision
        widest = torch.promote_types(torch.promote_types(query.dtype, key.dtype), value.dtype)
        query, key, value = (x.to(widest) for x in (query, key, value))
    query, key, value = (x.unsqueeze(-3) for x in (query, key, value))  # (..., 1, token, feature)
    last = "contexts" if single else "output"
    made = r.attend(
        query, key, value, last=last, one_head=True, return_weights=return_weights, **options
    )
    if not single:
        return made
    output, weights = made if return_weights else (made, None)
    axes = (*("batch",) * (query.ndim - 3), "feature")
    output = r.step("output", "the context of the one query", axes, output.squeeze(-2))
    return output if weights is None else (output, weights.squeeze(-2))


def additive_scores(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """``v · tanh(q_i + k_j)`` for all pairs: (..., query, key).

    Args:
        q: (..., query, hidden), projected queries.
        k: (..., key, hidden), projected keys.
        v: (hidden,).

    The hidden layer (..., query, key, hidden) is built whole only while it is small, otherwise
    some features at a time, each block added to the scores and let go; its gradient builds it
    again. So memory is that of a few scores, for any number of features.
    """
    with without_autocast(q.device.type):
        q, k, v = (wide(x) for x in (q, k, v))
        if torch.compiler.is_compiling():
            return blockwise(q, k, v, TRACED_BLOCK)
        cells = q.shape[:-1].numel() * k.shape[-2]
        if cells * v.numel() <= WHOLE:
            return torch.tanh(q.unsqueeze(-2) + k.unsqueeze(-3)) @ v
        return blockwise(q, k, v, max(1, WHOLE // cells))


def blockwise(q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
    """`additive_scores` with ``block`` features of the hidden layer at a time."""
    scores: Tensor = _Blockwise.apply(q, k, v, block)  # type: ignore[no-untyped-call]
    return scores


class _Blockwise(torch.autograd.Function):
    """`additive_scores`, a block of features at a time."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.block = block
        scores = q.new_zeros(())
        for part, hidden in _hidden_blocks(q, k, block):
            scores = scores + torch.tensordot(v[part], hidden, 1)
        return scores

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v = ctx.saved_tensors
        grad_q, grad_k, grad_v = [], [], []
        for part, hidden in _hidden_blocks(q, k, ctx.block):
            grad_v.append((hidden * grad).flatten(1).sum(1))
            # d tanh(x) = 1 − tanh²(x), and v leaves the sums
            slope = torch.addcmul(grad, hidden * hidden, grad, value=-1)
            shape = (-1, *(1,) * (q.ndim - 1))
            grad_q.append(slope.sum(-1) * v[part].view(shape))  # (block, ..., query)
            grad_k.append(slope.sum(-2) * v[part].view(shape))  # (block, ..., key)
        last = (torch.cat(blocks).movedim(0, -1) for blocks in (grad_q, grad_k))
        return (*last, torch.cat(grad_v), None)  # type: ignore[return-value]


def _hidden_blocks(q: Tensor, k: Tensor, block: int) -> Any:
    """Yield a slice of features and ``tanh(q + k)`` there: (block, ..., query, key).

    Features come first, so that the innermost loop runs over keys however small the block is.
    """
    q, k = (x.movedim(-1, 0).contiguous() for x in (q, k))  # (hidden, ..., token)
    for start in range(0, q.shape[0], block):
        part = slice(start, start + block)
        yield part, torch.tanh(q[part].unsqueeze(-1) + k[part].unsqueeze(-2))


def wide(x: Tensor) -> Tensor:
    """Half precision as float32, in which scores are computed; the rest as it is."""
    return x.float() if x.dtype in HALVES else x


def check_inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    weight: Tensor | None,
    query_dim: int | None,
    key_dim: int | None,
) -> None:
    """Refuse inputs that do not fit together or not to the module; None: nothing to fit to."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        if not isinstance(x, Tensor):
            raise DTypeError(
                f"{name} must be a torch tensor; got {type(x).__name__}. "
                "Convert it, as in torch.as_tensor(...)."
            )
    for name, x in (("key", key), ("value", value)):
        if x.ndim not in (2, 3):
            raise ShapeError(
                f"{name} must have the axes (batch, key, feature) or (key, feature); got shape "
                f"{tuple(x.shape)}."
            )
    fits = query.ndim in (key.ndim, key.ndim - 1)
    if not (fits and query.shape[: key.ndim - 2] == key.shape[:-2] == value.shape[:-2]):
        batch, one = (
            ("batch, ", f"({key.shape[0]}, feature)") if key.ndim == 3 else ("", "(feature,)")
        )
        raise ShapeError(
            f"query, key and value must have the same batch axis; got query {tuple(query.shape)}, "
            f"key {tuple(key.shape)}, value {tuple(value.shape)}. With such a key, queries are "
            f"({batch}query, feature), and one query alone is {one}."
        )
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(
            f"key and value must have the same number of tokens; got {key.shape[-2]} and "
            f"{value.shape[-2]} (key {tuple(key.shape)}, value {tuple(value.shape)})."
        )
    for name, x, size in (("query", query, query_dim), ("key", key, key_dim)):
        if size is not None and x.shape[-1] != size:
            other = key_dim if name == "query" else query_dim
            swapped = " Did you swap query and key?" if x.shape[-1] == other else ""
            raise ShapeError(
                f"the {name} projection takes {size} features; {name}'s last axis has "
                f"{x.shape[-1]} (shape {tuple(x.shape)}).{swapped}"
            )
    if autocast_is_on(query.device.type):
        return  # which brings them to one dtype
    kinds = [dtype_name(x) for x in (query, key, value)]
    if len(set(kinds)) > 1:
        raise DTypeError(
            f"query, key and value must have one dtype; got {kinds[0]}, {kinds[1]} and {kinds[2]}. "
            "Convert them to the most precise of these."
        )
    if weight is not None and weight.dtype != query.dtype:
        raise DTypeError(
            f"this module's weights are {dtype_name(weight)} and its inputs {kinds[0]}: convert "
            f"one of them, as in module.to(torch.{kinds[0]})."
        )
    devices = {str(x.device) for x in (query, key, value)}
    if weight is not None:
        devices.add(str(weight.device))
    if len(devices) > 1:
        raise DTypeError(
            "query, key, value and the weights must be on one device; got "
            f"{', '.join(sorted(devices))}. Move them, as in module.to(device)."
        )
