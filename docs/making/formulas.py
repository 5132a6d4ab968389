"""The formulas of the lessons, LaTeX in notebooks, as MathML, which browsers draw by themselves."""

import re
from collections.abc import Iterator
from html import escape

__all__ = ["as_mathml", "with_mathml"]

FORMULA = re.compile(r"\$\$(.+?)\$\$|(?<![\\$`\w])\$([^$\n]+)\$", re.DOTALL)
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)
TOKEN = re.compile(r"\\[a-zA-Z]+|\\.|\d+(?:(?:[.,]|\{,\})\d+)?|\s+|.", re.DOTALL)
LONG = 7
"""Parts of a formula in the text from which on it may be broken before a sign."""

BREAKS = {"=", "+", "−", "→", "≈"}
SIGNS = {
    "approx": "≈",
    "cdot": "·",
    "dots": "…",
    "ell": "ℓ",
    "infty": "∞",
    "le": "≤",
    "leftarrow": "←",
    "lfloor": "⌊",
    "lVert": "‖",
    "partial": "∂",
    "propto": "∝",
    "rfloor": "⌋",
    "rVert": "‖",
    "sum": "∑",
    "theta": "θ",
    "times": "×",
    "to": "→",
    "top": "⊤",
}
LETTERS = {"ell", "theta", "infty", "top", "partial"}
SPACES = {"quad": 1.0, "qquad": 2.0, ",": 0.17, ";": 0.28, "!": 0.0, " ": 0.25}
FUNCTIONS = {"cos", "exp", "ln", "log", "max", "sin", "tanh"}
SIZES = {"left", "right", "big", "Big"}  # MathML stretches brackets by itself


def with_mathml(markdown: str) -> str:
    """The text with each formula outside code as MathML."""
    parts = CODE.split(markdown)
    return "".join(part if CODE.fullmatch(part) else FORMULA.sub(_replaced, part) for part in parts)


def as_mathml(latex: str, *, block: bool = False) -> str:
    r"""One formula as MathML.

    Args:
        latex: of what the lessons use: letters, numbers, ``^``, ``_``, ``\frac``, ``\sqrt``,
            ``\text``, ``\operatorname``, functions and signs.
        block: whether it stands on a line of its own.

    Raises:
        ValueError: for a command that is not among them.

    >>> as_mathml("x_i^2")
    '<math><mrow><msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup></mrow></math>'
    """
    tokens = _Tokens(TOKEN.findall(latex), latex)
    parts = _parts(tokens, None)
    if block:
        return f'<math display="block"><mrow>{"".join(parts)}</mrow></math>'
    lines = _broken(parts) if len(parts) > LONG else [parts]
    return "<wbr>".join(f"<math><mrow>{''.join(line)}</mrow></math>" for line in lines)


def _broken(parts: list[str]) -> list[list[str]]:
    """The parts of a long formula: browsers break no line within MathML."""
    lines: list[list[str]] = [[]]
    depth = 0
    for part in parts:
        sign = part.removeprefix("<mo>").removesuffix("</mo>")
        depth += (sign in ("(", "[", "⌊")) - (sign in (")", "]", "⌋"))
        if sign in BREAKS and lines[-1] and depth <= 0:
            lines.append([f'<mo form="infix">{sign}</mo>'])
        else:
            lines[-1].append(part)
    return lines


def _replaced(found: re.Match[str]) -> str:
    if found[1] is not None:
        return f'\n\n<div class="formula">{as_mathml(found[1], block=True)}</div>\n\n'
    # Markdown takes a line that begins with <math> for a block, and would end the sentence there.
    return f"<span>{as_mathml(found[2])}</span>"


class _Tokens:
    """What is left to read."""

    def __init__(self, tokens: list[str], latex: str) -> None:
        self.tokens, self.latex = tokens, latex

    def __bool__(self) -> bool:
        return bool(self.tokens)

    @property
    def next(self) -> str:
        return self.tokens[0] if self.tokens else ""

    def take(self) -> str:
        if not self.tokens:
            raise ValueError(f"the formula ends too soon: {self.latex}")
        return self.tokens.pop(0)


def _row(tokens: _Tokens, end: str | None) -> str:
    return f"<mrow>{''.join(_parts(tokens, end))}</mrow>"


def _parts(tokens: _Tokens, end: str | None) -> list[str]:
    made = []
    while tokens and tokens.next != end:
        if tokens.next.isspace():
            tokens.take()
        else:
            made.append(_scripted(tokens))
    if end is not None:
        tokens.take()
    return made


def _scripted(tokens: _Tokens) -> str:
    """An atom with what stands below and above it."""
    limits = tokens.next in (r"\sum", r"\max")
    base = _atom(tokens)
    scripts: dict[str, str] = {}
    while tokens.next in ("_", "^", "'"):
        kind = tokens.take()
        scripts["^" if kind == "'" else kind] = "<mo>′</mo>" if kind == "'" else _atom(tokens)
    if not scripts:
        return base
    under, over, both = ("munder", "mover", "munderover") if limits else ("msub", "msup", "msubsup")
    tag = both if len(scripts) == 2 else under if "_" in scripts else over
    return f"<{tag}>{base}{''.join(scripts[kind] for kind in '_^' if kind in scripts)}</{tag}>"


def _atom(tokens: _Tokens) -> str:
    while tokens.next.isspace():
        tokens.take()
    sign = tokens.take()
    if sign == "{":
        return _row(tokens, "}")
    if sign.startswith("\\"):
        return _command(sign[1:], tokens)
    if sign[0].isdigit():
        return f"<mn>{sign.replace('{,}', ',')}</mn>"
    return f"<mi>{escape(sign)}</mi>" if sign.isalpha() else f"<mo>{escape(_minus(sign))}</mo>"


def _command(name: str, tokens: _Tokens) -> str:
    if name in SIGNS:
        tag = "mi" if name in LETTERS else "mo"
        return f"<{tag}>{SIGNS[name]}</{tag}>"
    if name in SPACES:
        return f'<mspace width="{SPACES[name]}em"/>'
    if name in FUNCTIONS:
        return f"<mi>{name}</mi>"
    if name in SIZES:
        return _atom(tokens)
    if name == "frac":
        return f"<mfrac>{_atom(tokens)}{_atom(tokens)}</mfrac>"
    if name == "sqrt":
        return f"<msqrt>{_atom(tokens)}</msqrt>"
    if name in ("text", "operatorname"):
        return f"<mtext>{''.join(_letters(tokens))}</mtext>"
    raise ValueError(f"no MathML is known for \\{name} in {tokens.latex}: add it to formulas.py")


def _letters(tokens: _Tokens) -> Iterator[str]:
    if tokens.take() != "{":
        raise ValueError(f"words stand in braces: {tokens.latex}")
    while tokens.next != "}":
        yield escape(tokens.take())
    tokens.take()


def _minus(sign: str) -> str:
    return "−" if sign == "-" else sign
