"""MultiplicativeAttention: Luong's three ways to score a query against a key."""

from typing import Any

from torch import Tensor, nn

from atento._errors import InputError, ShapeError
from atento.nn.additive_attention import (
    attend_as_one_head,
    attend_by_scores,
    check_inputs,
    recorded_scores,
)
from atento.nn.checks import check_mask, probability, whole
from atento.nn.recorder import SILENT, Recorder, Silent
from atento.records import Trace

__all__ = ["MultiplicativeAttention"]

OWNER = "MultiplicativeAttention"
SCORES = ("dot", "general", "concat")


class MultiplicativeAttention(nn.Module):
    """Luong's attention: ``weights = softmax(scores)``, ``output = weights value``.

    - ``score="dot"``: ``qᵀ k``. No parameters; query_dim and key_dim are equal.
    - ``score="general"``: ``qᵀ W k``; W is ``key``.
    - ``score="concat"``: ``vᵀ tanh(W [q; k])``; W's two halves are ``query`` and ``key``, and v is
      ``score``. It is `AdditiveAttention`'s function under its other name.

    Scores are not divided by √d, as in the paper: ``scale`` does that.

    Args:
        query_dim: features of a query (a decoder's state).
        key_dim: features of a key; query_dim when left out.
        score: "dot", "general" or "concat".
        hidden_dim: features of the hidden layer, for "concat" alone; query_dim when left out.
        scale: multiplies the scores of "dot" and "general".
        dropout: the probability with which a weight is set to 0 in training.

    Shapes: those of `AdditiveAttention`; one query alone is (batch, query_dim).

    ``state_dict``: nothing for "dot"; ``key.weight`` (query_dim, key_dim) for "general";
    ``query.weight`` (hidden_dim, query_dim), ``key.weight`` (hidden_dim, key_dim) and
    ``score.weight`` (1, hidden_dim) for "concat".

    Source: Luong, Pham & Manning 2015 (arXiv 1508.04025), section 3.1, equation 8, where q is
    h_t, k is h̄_s, W is W_a and v is v_a.

    >>> import torch
    >>> attend = MultiplicativeAttention(query_dim=2)
    >>> attend(torch.tensor([1.0, 0.0]), torch.tensor([[2.0, 0.0], [0.0, 2.0]]))
    tensor([1.7616, 0.2384])
    """

    def __init__(
        self,
        query_dim: int,
        key_dim: int | None = None,
        *,
        score: str = "dot",
        hidden_dim: int | None = None,
        scale: float = 1.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise InputError(f"score must be one of {', '.join(SCORES)}; got {score!r}.")
        key_dim = query_dim if key_dim is None else key_dim
        query_dim, key_dim = whole(OWNER, "query_dim", query_dim), whole(OWNER, "key_dim", key_dim)
        if score == "dot" and query_dim != key_dim:
            raise ShapeError(
                f'score="dot" multiplies queries with keys as they are: query_dim ({query_dim}) '
                f'and key_dim ({key_dim}) must be equal. score="general" puts a matrix in between.'
            )
        if score != "concat" and hidden_dim is not None:
            raise InputError(
                f'score="{score}" has no hidden layer: leave hidden_dim out; got {hidden_dim!r}.'
            )
        if score == "concat" and scale != 1:
            raise InputError(
                f'score="concat" has v in place of a scale: leave scale out; got {scale!r}.'
            )
        self.query_dim, self.key_dim, self.score_form = query_dim, key_dim, score
        self.scale, self.dropout = float(scale), probability(OWNER, dropout)
        if score == "general":
            self.key = nn.Linear(key_dim, query_dim, bias=False)
        if score == "concat":
            given = query_dim if hidden_dim is None else hidden_dim
            hidden_dim = whole(OWNER, "hidden_dim", given)
            self.query = nn.Linear(query_dim, hidden_dim, bias=False)
            self.key = nn.Linear(key_dim, hidden_dim, bias=False)
            self.score = nn.Linear(hidden_dim, 1, bias=False)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor | None = None,
        *,
        mask: Any = None,
        return_weights: bool = False,
    ) -> Any:
        """Output, or (output, weights).

        Args:
            query: (batch, query, query_dim), or as the class says.
            key: (batch, key, key_dim).
            value: (batch, key, value_dim); key (unprojected) when left out.
            mask: who may look at whom, True = attends: a rule of `atento.masks`, or a bool array
                that broadcasts to (batch, 1, query, key). A query that may see no key gets 0.
            return_weights: return the weights too, as they are before dropout.

        Raises:
            ShapeError, DTypeError: which argument, what was expected, what came.
        """
        return self._attend(SILENT, query, key, value, mask, return_weights)

    def trace(
        self, query: Tensor, key: Tensor, value: Tensor | None = None, *, mask: Any = None
    ) -> Trace:
        """`forward`, with every step kept.

        The steps: key_projection ("general", "concat"); query_projection, hidden and
        additive_scores ("concat"); then the equation's. One query alone keeps its axis of 1 in
        all steps but the output.
        """
        recorder = Recorder()
        self._attend(recorder, query, key, value, mask, False)
        return recorder.trace()

    def _attend(
        self,
        r: Silent,
        query: Tensor,
        key: Tensor,
        value: Tensor | None,
        mask: Any,
        return_weights: bool,
    ) -> Any:
        value = key if value is None else value
        weight = None if self.score_form == "dot" else self.key.weight
        check_inputs(query, key, value, weight, self.query_dim, self.key_dim)
        check_mask(OWNER, mask)
        single = query.ndim < key.ndim
        query = query.unsqueeze(-2) if single else query  # (..., query_dim) -> (..., 1, query_dim)
        batch = ("batch",) * (key.ndim - 2)
        queries, keys = (*batch, "query", "feature"), (*batch, "key", "feature")
        dropout = self.dropout if self.training else 0.0
        if self.score_form == "concat":
            q = r.step("query_projection", "W₁ q", queries, self.query(query))
            k = r.step("key_projection", "W₂ k", keys, self.key(key))
            scores = recorded_scores(r, q, k, self.score.weight[0])
            return attend_by_scores(r, scores, value, mask, single, return_weights, dropout)
        if self.score_form == "general":
            key = r.step("key_projection", "W k", keys, self.key(key))
        options = {"mask": mask, "scale": self.scale}
        return attend_as_one_head(r, query, key, value, single, return_weights, dropout, options)

    def extra_repr(self) -> str:
        """The score, and what else no submodule shows."""
        dropout = f", dropout={self.dropout}" if self.dropout else ""
        return f"score={self.score_form!r}, scale={self.scale:g}{dropout}"
