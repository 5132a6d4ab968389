"""Which statistics a figure draws: those asked for, or the usual ones of those that are there."""

from collections.abc import Iterable, Sequence

from atento._errors import InputError

__all__ = ["chosen_statistics"]


def chosen_statistics(
    asked: str | Iterable[str] | None, there: Sequence[str], usual: Iterable[str], where: str
) -> list[str]:
    """The names, from top to bottom.

    Args:
        asked: one name or several; None: the usual ones.
        there: all that there are.
        usual: drawn where nothing is asked for, as far as they are there.
        where: in which there is no other, for the message.

    Raises:
        InputError: one that is asked for is not there, or none is asked for.

    >>> chosen_statistics(None, ["entropy", "max"], ("first", "max"), "here")
    ['max']
    """
    if asked is None:
        return [name for name in usual if name in there]
    names = [asked] if isinstance(asked, str) else list(asked)
    missing = [name for name in names if name not in there]
    if missing or not names:
        raise InputError(
            f"there is no statistic {', '.join(map(repr, missing))} {where}. There are "
            f"{', '.join(there)}."
        )
    return names
