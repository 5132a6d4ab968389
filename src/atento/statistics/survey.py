"""survey: attention, and what its weights look like, in O(T) memory."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from atento._arrays import is_torch
from atento._errors import InputError
from atento.equation.computed import Computed
from atento.equation.dense import dense
from atento.equation.plan import choose
from atento.equation.request import Request, checked_request
from atento.equation.streaming import stream
from atento.records import Pictured
from atento.statistics.folding import check_foldable, fold, result_axes
from atento.statistics.statistic import Statistic
from atento.statistics.top_k import TopK
from atento.statistics.wishes import Wish, as_statistics

__all__ = ["Survey", "survey"]


class _NoSuchStatisticError(InputError, KeyError):
    """A name that a survey does not have."""

    __str__ = Exception.__str__  # KeyError's would quote the sentence


@dataclass(frozen=True, repr=False, eq=False)
class Survey(Pictured):
    """Output, log-sum-exp and statistics of one attention call.

    ``survey["entropy"]`` is a statistic by name, ``list(survey)`` are the names.

    Attributes:
        output: (..., head, query, feature), as `attention` returns it.
        lse: (..., head, query), the logarithm of the softmax's denominator, sinks included; −inf
            for a query that may see no key.
        statistics: results by name.
        axes: the names of the axes of each result, as in ``("batch", "head", "query")``.

    >>> import numpy as np
    >>> x = np.eye(3)
    >>> found = survey(x, x, x, statistics=["entropy"])
    >>> found
    Survey(output (3, 3); entropy)
    >>> found["entropy"].round(4)
    array([1.0581, 1.0581, 1.0581])
    """

    output: Any
    lse: Any
    statistics: Mapping[str, Any]
    axes: Mapping[str, tuple[str, ...]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.statistics)

    def __len__(self) -> int:
        return len(self.statistics)

    def __contains__(self, name: object) -> bool:
        return name in self.statistics

    def __getitem__(self, name: str) -> Any:
        if name not in self.statistics:
            raise _NoSuchStatisticError(
                f"this survey has no statistic {name!r}. It has "
                f"{', '.join(self.statistics) or 'none'}; others are asked for with statistics=."
            )
        return self.statistics[name]

    def __repr__(self) -> str:
        names = ", ".join(self) or "no statistics"
        return f"Survey(output {tuple(self.output.shape)}; {names})"


def survey(
    query: Any,
    key: Any,
    value: Any,
    *,
    mask: Any = None,
    bias: Any = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Any = None,
    dropout: float = 0.0,
    seed: Any = None,
    engine: str = "auto",
    statistics: Wish | Iterable[Wish] | None = None,
    top_k: int = 0,
    tokens: Any = None,
) -> Survey:
    """`attention`, and statistics of its weights, without ever holding them.

    The arguments up to ``engine`` are those of `attention`. Memory grows with the tokens, not with
    their square (where the engine is not the dense one, which small requests are left to).

    Args:
        query: (..., Hq, Tq, d), or (Tq, d) without heads; NumPy's or PyTorch's.
        key: (..., Hkv, Tk, d).
        value: (..., Hkv, Tk, dv).
        mask: who may look at whom, True = attends.
        bias: added to the scores.
        scale: multiplies Q Kᵀ; 1/√d when left out.
        softcap: bounds the scaled scores smoothly.
        sinks: one number, or one per query head.
        dropout: for the output. Statistics are of the weights before dropout.
        seed: of dropout.
        engine: what computes output and log-sum-exp.
        statistics: which, by name or as instances of `Statistic`; left out, all that are there by
            default.
        top_k: that many of the largest weights of each query too, and their keys.
        tokens: token ids, (token,) or (batch, token), for the statistics that compare tokens. They
            are the keys'; where queries are other tokens, a pair: (query tokens, key tokens).

    Returns:
        A `Survey`. Its output and log-sum-exp keep their gradients; statistics have none.

    Raises:
        ShapeError, DTypeError, InputError, EngineError: what was expected and what came.

    >>> import numpy as np
    >>> from atento.masks import Causal
    >>> x = np.zeros((3, 2))
    >>> survey(x, x, x, mask=Causal(), statistics=["entropy"])["entropy"].round(4)
    array([0.    , 0.6931, 1.0986])
    """
    wished = _wished(statistics, top_k, tokens)
    request = checked_request(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        scale=scale,
        softcap=softcap,
        sinks=sinks,
        dropout=dropout,
        seed=seed,
    )
    chosen, _ = choose(request, engine)
    check_foldable(request, tokens)
    computed = _compute(request, chosen)
    found = fold(request, computed.lse, wished, tokens=tokens)
    return Survey(computed.output, computed.lse, found, result_axes(request, wished))


def _wished(statistics: Any, top_k: Any, tokens: Any) -> list[Statistic]:
    if isinstance(top_k, bool) or not hasattr(top_k, "__index__") or top_k < 0:
        raise InputError(f"top_k must be a whole number, 0 for none; got {top_k!r}.")
    wished = as_statistics(statistics, tokens is not None)
    return as_statistics([*wished, TopK(int(top_k))], tokens is not None) if top_k else wished


def _compute(request: Request, engine: str) -> Computed:
    if is_torch(request.query):
        from atento.equation.on_torch import compute

        return compute(request, engine, with_lse=True, with_weights=False)
    with np.errstate(all="ignore"):  # NaN and ∞ are passed on as numbers are
        return dense(request, with_lse=True) if engine == "dense" else stream(request)
