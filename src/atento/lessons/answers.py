"""Is an answer right? Said in both languages, since the code of a lesson is the same in both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["Verdict", "check"]

OPEN = "○ not answered yet · aún sin respuesta"
RIGHT = "✓ right · correcto"
WRONG = "✗ not yet · todavía no"


@dataclass(frozen=True)
class Verdict:
    """What became of an answer; true where it is right.

    Attributes:
        state: "open" (not answered yet), "right" or "wrong".
        hint: what differs, without the answer; empty unless wrong.

    >>> verdict = check([1, 2], [1, 3])
    >>> verdict.state, verdict.hint, bool(verdict)
    ('wrong', 'off by 1', False)
    """

    state: Literal["open", "right", "wrong"]
    hint: str = ""

    def __bool__(self) -> bool:
        return self.state == "right"

    def __repr__(self) -> str:
        text = {"open": OPEN, "right": RIGHT, "wrong": WRONG}[self.state]
        return f"{text} ({self.hint})" if self.hint else text


def check(
    answer: Any,
    expected: Any,
    *,
    cases: Sequence[tuple[Any, ...]] | None = None,
    tolerance: float = 1e-4,
) -> Verdict:
    """Compares a reader's answer with what is expected.

    Numbers are equal where ``|answer - expected| <= tolerance * max(1, |expected|)``; everything
    else where it is the same.

    Args:
        answer: a number, text, sequence or array; a function, with ``cases``. None and ``...``
            are "not answered yet", and so is a function that returns them.
        expected: the same kind of thing; a function to compare with, with ``cases``.
        cases: the arguments of each call that both functions are tried with.
        tolerance: of numbers, relative above 1 and absolute below.

    >>> check(None, 8.0)
    ○ not answered yet · aún sin respuesta
    >>> check(0.3 * 7 + 0.3 * 10 + 0.3 * 8 + 0.1 * 5, 8.0)
    ✓ right · correcto
    >>> check(lambda x: x + 1, lambda x: 2 * x, cases=[(1.0,), (2.0,)])
    ✗ not yet · todavía no (case 2: off by 1)
    """
    if cases is None:
        return _compared(answer, expected, tolerance)
    if not callable(answer):
        return Verdict("open") if _is_open(answer) else Verdict("wrong", "not a function")
    for number, case in enumerate(cases, 1):
        verdict = _tried(answer, expected, case, tolerance)
        if not verdict:
            hint = f"case {number}: {verdict.hint}" if verdict.hint else ""
            return Verdict(verdict.state, hint)
    return Verdict("right")


def _tried(
    answer: Callable[..., Any],
    expected: Callable[..., Any],
    case: tuple[Any, ...],
    tolerance: float,
) -> Verdict:
    try:
        given = answer(*case)
    except Exception as error:
        return Verdict("wrong", f"{type(error).__name__}: {error}")
    return _compared(given, expected(*case), tolerance)


def _is_open(answer: Any) -> bool:
    return answer is None or answer is Ellipsis


def _compared(answer: Any, expected: Any, tolerance: float) -> Verdict:
    if _is_open(answer):
        return Verdict("open")
    try:
        given, wanted = _array(answer), _array(expected)
    except ValueError:
        return Verdict("wrong", "rows of unequal length")
    if given.shape != wanted.shape:
        return Verdict("wrong", f"shape {given.shape}, expected {wanted.shape}")
    if not (_numeric(given) and _numeric(wanted)):
        return Verdict("right" if np.all(given == wanted) else "wrong")
    return _close(given.astype(np.float64), wanted.astype(np.float64), tolerance)


def _close(given: np.ndarray, wanted: np.ndarray, tolerance: float) -> Verdict:
    with np.errstate(invalid="ignore"):
        away = np.where(given == wanted, 0.0, np.abs(given - wanted))
        away = np.where(np.isnan(given) & np.isnan(wanted), 0.0, away)
        room = np.where(np.isfinite(wanted), tolerance * np.maximum(1.0, np.abs(wanted)), 0.0)
    if np.all(away <= room):
        return Verdict("right")
    return Verdict("wrong", f"off by {np.max(away):.3g}")


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor that may be learning
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def _numeric(array: np.ndarray) -> bool:
    return array.dtype.kind in "iuf"
