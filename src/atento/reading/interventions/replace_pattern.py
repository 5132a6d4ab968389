"""Replace: a pattern in place of a head's own weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from atento._arrays import to_numpy
from atento._errors import InputError, ShapeError
from atento.masks import Coverage, Explicit, Mask
from atento.masks.mask import Tile
from atento.reading.call import AttentionCall
from atento.reading.interventions.intervention import (
    Bools,
    Intervention,
    Where,
    in_full,
    of_heads,
)

__all__ = ["Replace"]

NEAR = 1e-3
"""So far the sum of a row may be from 1, as in half precision; the row is divided by it."""


class Replace(Intervention):
    """A pattern in place of a head's weights.

        array:      weights'[i, j] = pattern[i, j] / Σⱼ pattern[i, j]   also where the mask hides j
        Mask:       weights'[i, j] = 1 / n   for the n keys j that it and the model's mask show
        "uniform":  weights'[i, j] = 1 / n   for the n keys j that the model's mask shows

    There is no sink then. An array is held as a bias, as large as the weights of these heads; the
    two others take no matrix.

    Args:
        pattern: an array (query, key) or (batch, query, key), rows of numbers from 0 on that sum to
            1, or to 0 for a query that attends nowhere; a rule of `atento.masks`; or "uniform".
            Of the whole sequence: with a cache, later calls take its later rows.
        layer, heads: as in `Intervention`.

    >>> Replace("uniform", layer=0, heads=2)
    Replace('uniform', layer=0, heads=[2])
    """

    def __init__(self, pattern: Any, layer: int | str | None = None, heads: Any = None) -> None:
        super().__init__(layer, heads)
        self.pattern = _checked_pattern(pattern)
        self.rows_used = 0

    def _apply(self, call: AttentionCall, chosen: Bools, where: Where) -> AttentionCall:
        call = in_full(call)
        these = of_heads(chosen, call.query)
        sinks = call.sinks
        if sinks is not None:
            sinks = torch.where(these.flatten(), -torch.inf, sinks)
        blank = replace(
            call,
            query=call.query.masked_fill(these, 0),
            bias=None if call.bias is None else torch.where(these, 0, call.bias),
            sinks=sinks,
            changed=call.changed | frozenset(np.flatnonzero(chosen).tolist()),
        )
        if isinstance(self.pattern, Mask):
            return _with_mask(blank, self._rule(call, where) | _not(chosen))
        if isinstance(self.pattern, str):
            return blank
        return self._as_bias(blank, chosen, self._rows(call, where))

    def _rule(self, call: AttentionCall, where: Where) -> Mask:
        batch, heads, _, _ = call.query.shape
        end, first = where.queries.stop, where.queries.start
        whole = self.pattern.bind((batch, heads, end, call.key.shape[2]))
        return LaterRows(whole, first) if first else whole

    def _rows(self, call: AttentionCall, where: Where) -> npt.NDArray[Any]:
        """The pattern of this call, (batch or 1, query, key)."""
        pattern, keys = self.pattern, call.key.shape[2]
        whole = pattern if pattern.ndim == 3 else pattern[None]
        wanted = (call.query.shape[0], where.queries.stop, where.keys)
        if (
            whole.shape[0] not in (1, wanted[0])
            or whole.shape[1] < wanted[1]
            or whole.shape[2] < wanted[2]
        ):
            raise ShapeError(
                f"the pattern has the shape {pattern.shape}, and (batch, query, key) = {wanted} "
                "are there."
            )
        rows = whole[:, where.queries.start : wanted[1]]
        if rows[..., keys:].any():
            raise ShapeError(
                f"the pattern has the shape {pattern.shape} and weight on keys from {keys} on, "
                "which are not there."
            )
        self.rows_used = max(self.rows_used, wanted[1])
        rows = rows[..., :keys]
        return np.pad(rows, [(0, 0), (0, 0), (0, keys - rows.shape[2])])

    def _as_bias(self, call: AttentionCall, chosen: Bools, rows: npt.NDArray[Any]) -> AttentionCall:
        shown = (rows > 0)[:, None]  # (batch, 1, query, key)
        log = torch.from_numpy(np.log(np.where(shown, rows[:, None], 1))).to(call.query)
        bias = log if call.bias is None else call.bias
        bias = torch.where(of_heads(chosen, call.query), log, 0 if call.bias is None else bias)
        if call.mask is not None:
            call = replace(call, mask=call.mask | Explicit(chosen[None, :, None, None]))
        return _with_mask(replace(call, bias=bias), Explicit(shown) | _not(chosen))

    def unmet(self) -> list[str]:
        """What was asked for and never came, each in a few words."""
        unmet = super().unmet()
        if not isinstance(self.pattern, Mask | str) and self.rows_used < self.pattern.shape[-2]:
            unmet.append(f"rows of the pattern from {self.rows_used} on")
        return unmet

    def __repr__(self) -> str:
        pattern = self.pattern
        said = repr(pattern) if isinstance(pattern, Mask | str) else f"array{pattern.shape}"
        rest = super().__repr__().removeprefix("Replace(")
        return f"Replace({said}{'' if rest == ')' else ', '}{rest}"


class LaterRows(Mask):
    """A bound mask from one of its rows on.

    Args:
        mask: of the whole sequence.
        first: the row that is row 0 here.
    """

    def __init__(self, mask: Mask, first: int) -> None:
        self.mask, self.first = mask, first

    @property
    def leading(self) -> tuple[int, ...]:
        """Those of the mask."""
        return self.mask.leading

    def bind(self, shape: tuple[int, ...] | None) -> Mask:
        """Itself: it is bound."""
        del shape
        return self

    def at(self, index: tuple[int, ...]) -> Mask:
        """The rows of one (batch, head)."""
        return LaterRows(self.mask.at(index), self.first)

    def coverage(self, rows: range, cols: range) -> Coverage | None:
        """What the mask says of the rows meant."""
        return self.mask.coverage(self._moved(rows), cols)

    def pairs(self, lengths: tuple[int, int], xp: Any, device: Any) -> Any:
        """All pairs at once."""
        whole = self.mask.pairs((self.first + lengths[0], lengths[1]), xp, device)
        return whole if whole.shape[-2] == 1 else whole[..., self.first :, :]

    def _evaluate(self, rows: range, cols: range) -> Tile:
        return self.mask.block(self._moved(rows), cols)

    def _moved(self, rows: range) -> range:
        return range(rows.start + self.first, rows.stop + self.first)

    def __repr__(self) -> str:
        return f"LaterRows({self.mask!r}, {self.first})"


def _with_mask(call: AttentionCall, rule: Mask) -> AttentionCall:
    return replace(call, mask=rule if call.mask is None else call.mask & rule)


def _not(chosen: Bools) -> Mask:
    """The other heads, (1, head, 1, 1)."""
    return Explicit(~chosen[None, :, None, None])


def _checked_pattern(pattern: Any) -> Any:
    if isinstance(pattern, Mask):
        return pattern
    if isinstance(pattern, str):
        if pattern != "uniform":
            raise InputError(f'pattern must be "uniform", a mask or an array; got {pattern!r}.')
        return pattern
    array = to_numpy(pattern.detach() if isinstance(pattern, torch.Tensor) else pattern)
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiu":
        raise ShapeError(
            "pattern must be numbers with the axes (query, key) or (batch, query, key); got "
            f"{array.dtype} of shape {array.shape}. To show keys, give a mask."
        )
    rows = array.astype(np.float64)
    if not (rows >= 0).all():
        raise InputError("pattern must hold numbers from 0 on: it has negative numbers or NaN.")
    sums = rows.sum(-1)
    wrong = (np.abs(sums - 1) > NEAR) & (sums != 0)
    if wrong.any():
        at = tuple(int(i[0]) for i in np.nonzero(wrong))
        raise InputError(
            f"each row of pattern must sum to 1, or to 0 to attend nowhere; row {at} sums to "
            f"{sums[at]:.6g}."
        )
    return rows
