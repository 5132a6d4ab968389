"""Which statistics are meant: names, instances, or nothing said."""

from collections.abc import Iterable

from atento._errors import InputError
from atento.statistics.diagonal import Own, Previous
from atento.statistics.distance import Distance
from atento.statistics.entropy import Entropy
from atento.statistics.maximum import Maximum
from atento.statistics.overview import Overview
from atento.statistics.received import Received
from atento.statistics.statistic import Statistic, register, registered
from atento.statistics.token_match import Duplicate, Induction
from atento.statistics.top_k import TopK
from atento.statistics.weight_on import First

__all__ = ["Wish", "as_statistics", "default_statistics"]

Wish = str | Statistic
"""A registered name, or an instance."""

register("entropy", Entropy())
register("max", Maximum())
register("distance", Distance())
register("first", First())
register("previous", Previous())
register("self", Own())
register("duplicate", Duplicate())
register("induction", Induction())
register("overview", Overview())
register("received", Received())
register("top_k", TopK())


def default_statistics(with_tokens: bool = False) -> list[Statistic]:
    """What is folded where no statistic is named.

    Args:
        with_tokens: whether token ids are given: only then `Duplicate` and `Induction` can be.

    >>> [type(statistic).__name__ for statistic in default_statistics()][:3]
    ['Entropy', 'Maximum', 'Distance']
    """
    compared = [Duplicate(), Induction()] if with_tokens else []
    # Overview before Received, which takes over what it has reduced.
    return [
        Entropy(),
        Maximum(),
        Distance(),
        First(),
        Previous(),
        Own(),
        *compared,
        Overview(),
        Received(),
    ]


def as_statistics(
    wishes: Wish | Iterable[Wish] | None, with_tokens: bool = False
) -> list[Statistic]:
    """The instances that are meant.

    Args:
        wishes: registered names and instances, one or several; None: the default ones.
        with_tokens: whether token ids are given.

    Raises:
        InputError: for a name that nobody registered, something that is no statistic, two that
            have results of one name, or one that compares tokens where none are given.

    >>> [type(s).__name__ for s in as_statistics(["entropy", TopK(3)])]
    ['Entropy', 'TopK']
    """
    if wishes is None:
        return default_statistics(with_tokens)
    several = [wishes] if isinstance(wishes, str | Statistic) else _several(wishes)
    statistics = [_statistic(wish) for wish in several]
    taken: dict[str, Statistic] = {}
    for statistic in statistics:
        if statistic.needs_tokens and not with_tokens:
            statistic.refuse_without_tokens()
        for name in statistic.results:
            if name in taken:
                raise InputError(
                    f"two statistics have a result {name!r}: {type(taken[name]).__name__} and "
                    f"{type(statistic).__name__}. Ask for one of them, or give one another name, "
                    "as in WeightOn(keys, name='commas')."
                )
            taken[name] = statistic
    return statistics


def _several(wishes: object) -> list[object]:
    if isinstance(wishes, Iterable):
        return list(wishes)
    raise InputError(
        f"statistics= takes names, instances of Statistic, or a list of them; got {wishes!r}."
    )


def _statistic(wish: object) -> Statistic:
    if isinstance(wish, Statistic):
        return wish
    known = registered()
    if isinstance(wish, str):
        if wish in known:
            return known[wish]
        raise InputError(f"there is no statistic {wish!r}; there are {', '.join(sorted(known))}.")
    hint = (
        f" Make an instance: {wish.__name__}(...)."
        if isinstance(wish, type) and issubclass(wish, Statistic)
        else ""
    )
    raise InputError(
        f"a statistic is named, as in 'entropy', or an instance of Statistic; got {wish!r}.{hint}"
    )
