"""KnockOutEdges: keys hidden from queries."""

from dataclasses import replace

import numpy as np

from atento.masks import Explicit, Mask
from atento.reading.call import AttentionCall
from atento.reading.interventions.intervention import Bools, EdgeIntervention, Where, in_full

__all__ = ["KnockOutEdges"]


class KnockOutEdges(EdgeIntervention):
    """A set of keys hidden from a set of queries; also called attention knockout.

        mask' = mask & ~(queries × keys)        weights' = softmax(mask'(scores))

    The weights of these edges are 0, and the others of a query grow by one factor, so that they sum
    to 1 again (with a sink, together with the sink's share). A query that sees no key any more
    attends nowhere: its output is 0.

    Args:
        layer, heads, queries, keys: as in `EdgeIntervention`.

    Source: Geva et al. 2023 (arXiv 2304.14767), section 4.

    >>> KnockOutEdges(layer=2, queries=-1, keys=slice(0, 4))
    KnockOutEdges(layer=2, queries=[-1], keys=slice(0, 4, None))
    """

    def _apply(self, call: AttentionCall, chosen: Bools, where: Where) -> AttentionCall:
        rows, keys = self.edges(call, where)
        call = in_full(call)
        allowed = _elsewhere(chosen, rows, keys)
        heads = frozenset(np.flatnonzero(chosen).tolist())
        return replace(
            call,
            mask=allowed if call.mask is None else call.mask & allowed,
            changed=call.changed | heads,
        )


def _elsewhere(chosen: Bools, rows: Bools, keys: Bools) -> Mask:
    """Everything but the edges, held as (1, head, query, 1) and (1, 1, 1, key)."""
    meant = chosen[:, None] & rows
    return Explicit(~meant[None, :, :, None]) | Explicit(~keys[None, None, None, :])
