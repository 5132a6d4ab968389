"""Who may look at whom: True = attends, everywhere.

A mask is a rule, not a matrix: `tile(rows, cols)` answers for one block of queries and keys, so
that a T×T array never has to exist. Rules combine with ``&``, ``|`` and ``~``.
"""

from atento.masks.causal import Causal
from atento.masks.explicit import Explicit
from atento.masks.key_padding import KeyPadding
from atento.masks.mask import ALL, NONE, Coverage, Mask, as_mask
from atento.masks.prefix import Prefix
from atento.masks.rule import Rule
from atento.masks.segments import Segments
from atento.masks.window import Window

__all__ = [
    "ALL",
    "NONE",
    "Causal",
    "Coverage",
    "Explicit",
    "KeyPadding",
    "Mask",
    "Prefix",
    "Rule",
    "Segments",
    "Window",
    "as_mask",
]
