"""The blocks of one head where kernels of Numba do what stands between the products.

The same two passes as in `blocks.py`, written for matrices: with so little between the products,
every view of a tensor that is made again for each block would be seen in the time.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from atento.equation.on_torch.compiled import CompiledPass, Room

if TYPE_CHECKING:
    from atento.equation.on_torch.blocks import Scores, Weighed

__all__ = ["unit_gradients", "weigh_unit"]


def weigh_unit(scores: "Scores") -> Iterator["Weighed"]:
    """Σ exp(score − m) value, Σ exp(score − m) and m for each block of queries."""
    unit, room, compiled = scores.unit, Room(scores), CompiledPass(scores)
    key, value = unit.key[0], unit.value[0]
    for rows in unit.rows:
        query = unit.query[0, rows.start : rows.stop]
        summed = value.new_zeros(len(rows), value.shape[-1])
        total = value.new_zeros(len(rows), 1)
        top = torch.full_like(total, -torch.inf)
        state = top.numpy(), total.numpy(), summed.numpy()
        for piece in scores.pieces(rows):
            keys = slice(piece.cols.start, piece.cols.stop)
            block, numbers = room.block(len(rows), len(piece.cols))
            torch.mm(query, key[keys].T, out=block)
            scores.cap(block)
            compiled.add_bias(piece, block)
            compiled.weigh(piece, numbers, *state)
            summed.addmm_(block, value[keys])
        yield rows, summed[None], total[None], top[None]


def unit_gradients(
    scores: "Scores",
    given: tuple[torch.Tensor, ...],
    into: tuple[torch.Tensor, ...],
    of_bias: torch.Tensor | None,
) -> None:
    """Add a unit's gradients of query, key, value and bias.

    Args:
        scores: the unit's.
        given: output gradient, log-sum-exp and Σ output · gradient, (1, query, ...).
        into: where the gradients of query, key and value gather.
        of_bias: where that of the bias does; None where it is not asked for.
    """
    unit = scores.unit
    of_output, of_query, of_key, of_value = (x[0] for x in (given[0], *into))
    lse, delta = (array[0].numpy() for array in given[1:])
    query, key, value = unit.query[0], unit.key[0], unit.value[0]
    compiled = CompiledPass(scores, of_bias)
    rooms = [Room(scores) for _ in range(2 + (scores.softcap is not None))]
    columns: dict[range, tuple[torch.Tensor, ...]] = {}
    for rows in unit.rows:
        span = slice(rows.start, rows.stop)
        own_query, own_output, own_of_query = query[span], of_output[span], of_query[span]
        own_lse, own_delta = lse[span], delta[span]
        for piece in scores.pieces(rows):
            if piece.cols not in columns:
                keys = slice(piece.cols.start, piece.cols.stop)
                turned = key[keys].T, value[keys].T
                columns[piece.cols] = (key[keys], *turned, of_key[keys], of_value[keys])
            own_key, key_turned, value_turned, own_of_key, own_of_value = columns[piece.cols]
            (weights, numbers), (grad, slopes), *more = (
                room.block(len(rows), len(piece.cols)) for room in rooms
            )
            torch.mm(own_query, key_turned, out=weights)
            torch.mm(own_output, value_turned, out=grad)
            slope = more[0][0] if more else None
            scores.cap(weights, slope)
            compiled.add_bias(piece, weights)
            compiled.weigh_back(piece, numbers, slopes, own_lse, own_delta)
            own_of_value.addmm_(weights.T, own_output)
            compiled.add_bias_grad(piece, grad)
            if slope is not None:
                grad *= slope
            own_of_query.addmm_(grad, own_key)
            own_of_key.addmm_(grad.T, own_query)
        own_of_query *= scores.scale
