"""KnockOut: heads without their output."""

from dataclasses import replace
from typing import Any

import numpy as np

from atento._errors import InputError
from atento.reading.call import AttentionCall, KnockedOut
from atento.reading.interventions.intervention import Bools, Intervention, Where

__all__ = ["KnockOut"]

WAYS = ("zero", "mean")


class KnockOut(Intervention):
    """Heads whose output is replaced, before the output projection; also called head ablation.

        zero:  output[i] = 0                          for every query i
        mean:  output[i] = 1/Tq · Σᵢ′ output[i′]      over all queries i′ of the call, padding too,
                                                      of each batch item by itself

    The weights stay what they are, and so do they in the recording. A model that writes the
    formula out is changed by its weights, which are all that is seen there: 0, or their mean over
    the queries, from which it makes the same outputs. A cached step of one query is its own mean.

    Args:
        layer, heads: as in `Intervention`.
        by: "zero" or "mean".

    Source: Michel et al. 2019 (arXiv 1905.10650) for zero; mean ablation, without noise, as in
    Wang et al. 2022 (arXiv 2211.00593), here over the text's own queries.

    >>> KnockOut(layer=3, heads=[1, 5])
    KnockOut(layer=3, heads=[1, 5], by='zero')
    """

    def __init__(self, layer: int | str | None = None, heads: Any = None, by: str = "zero") -> None:
        super().__init__(layer, heads)
        if by not in WAYS:
            raise InputError(f'by must be "zero" or "mean"; got {by!r}.')
        self.by = by

    def _apply(self, call: AttentionCall, chosen: Bools, where: Where) -> AttentionCall:
        del where
        out = KnockedOut(tuple(np.flatnonzero(chosen).tolist()), self.by)
        return replace(call, knocked_out=(*call.knocked_out, out))

    def _said(self) -> dict[str, Any]:
        return {"by": self.by}
