"""Interventions on the calls of a model, and what is known of them when it has run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from atento._errors import EngineError, InputError
from atento.reading.call import AttentionCall
from atento.reading.interventions.intervention import Intervention, Where

__all__ = ["Applying"]


class Applying:
    """Some interventions, applied to every call of a layer that they name.

    Args:
        interventions: one or several, in order.
    """

    def __init__(self, interventions: Any) -> None:
        self.interventions = _checked(interventions)
        self.met: set[Intervention] = set()
        self._queries: dict[str | None, range] = {}

    def concerns(self, layer: str, number: int) -> bool:
        """Whether one of them names the layer; see `Intervention.named`."""
        return any(each.named(layer, number) for each in self.interventions)

    def changed(
        self,
        calls: Sequence[AttentionCall],
        layer: str,
        side: str | None,
        number: int,
        whole: Callable[[AttentionCall], AttentionCall],
    ) -> Sequence[AttentionCall]:
        """The calls with all that names their layer applied.

        Args:
            calls: each stands for the same attention.
            layer: their module path.
            side: the stack they are in.
            number: of the layer, in the order they run.
            whole: puts the keys that a sliding cache has let go in front again.

        Raises:
            AtentoError: where an intervention cannot be made exactly.
        """
        if not self.interventions:
            return calls
        made = [replace(call, layer=layer, side=side) for call in calls]
        if not self.concerns(layer, number):
            self._where(made[0])  # where its queries stand, cross-attention may ask later
            return calls
        made[0] = whole(made[0])
        if any(call.key.shape[2] != made[0].key.shape[2] for call in made):
            raise EngineError(
                "a cache that holds only the last keys cannot be changed where the formula is "
                "written out: run the model with use_cache=False."
            )
        where = self._where(made[0])
        for each in self.interventions:
            if each.named(layer, number):
                self.met.add(each)
                made = [each.apply(call, where) for call in made]
        return made

    def _where(self, call: AttentionCall) -> Where:
        """A query of cross-attention stands where it stands in its own stack."""
        Tq, Tk = call.query.shape[2], call.key.shape[2]
        own = range(call.first_query, call.first_query + Tq)
        if call.kind == "self":
            self._queries[call.side] = own
            return Where(own, min(own.stop, Tk))
        known = self._queries.get(call.side, own)
        return Where(known if len(known) == Tq else own, Tk)

    def check_all_met(self, there: Iterable[str]) -> None:
        """See that every layer, head and position came at least once.

        Args:
            there: the layers that ran, in order.

        Raises:
            InputError: what did not.
        """
        for each in self.interventions:
            if each not in self.met:
                seen = ", ".join(f"{i}: {layer}" for i, layer in enumerate(there))
                raise InputError(
                    f"{each!r}: no attention was seen in layer {each.layer!r}. There was in "
                    f"{seen or 'none'}."
                )
            unmet = each.unmet()
            if unmet:
                raise InputError(f"{each!r} names what never came: {'; '.join(unmet)}.")


def _checked(interventions: Any) -> tuple[Intervention, ...]:
    several = interventions if isinstance(interventions, Iterable) else (interventions,)
    several = tuple(several)
    for each in several:
        if not isinstance(each, Intervention):
            raise InputError(
                "interventions are KnockOut, KnockOutEdges, Boost, Replace or Temperature; got "
                f"{each!r}."
            )
    return tuple(each.anew() for each in several)
