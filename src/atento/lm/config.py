"""TransformerConfig: everything that decides the shape of a Transformer, checked once."""

from dataclasses import dataclass, replace
from typing import Any

from atento._errors import InputError
from atento.lm.setting import number
from atento.positions import RotaryScaling

__all__ = ["PRESETS", "TransformerConfig"]

CHOICES = {
    "position": ("learned", "rotary", None),
    "norm": ("layer", "rms"),
    "feed_forward": ("gelu", "swiglu", None),
}


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and parts of a decoder-only Transformer.

    Each block adds to its input x (token, d_model): ``x + attention(norm(x))``, then
    ``x + feed_forward(norm(x))``.

    Args:
        vocabulary_size: how many tokens there are.
        context: the most tokens of one sequence.
        d_model: features of a token.
        num_layers: blocks.
        num_heads: query heads of each.
        num_kv_heads: key heads, each shared by consecutive query heads; None: as many.
        head_size: features of a head; None: d_model / num_heads.
        hidden: features between the two maps of the feed-forward; None: 4 · d_model for "gelu",
            and the next multiple of 8 above 8/3 · d_model for "swiglu", which has three maps.
        position: "learned", added to the embeddings; "rotary", turning queries and keys; None.
        rotary_base, rotary_scaling: of "rotary", as in `atento.positions.rotary`.
        norm: "layer" (Ba et al. 2016, arXiv 1607.06450) or "rms" (Zhang & Sennrich 2019, arXiv
            1910.07467), before each part and at the end.
        norm_epsilon: added to the variance.
        feed_forward: "gelu" (GPT-2's, by tanh), "swiglu" (Shazeer 2020, arXiv 2002.05202), or None:
            a model of attention alone.
        window: how many tokens a query sees, its own among them; None: all before it.
        bias: of the linear maps.
        forward_bias: of the feed-forward's maps; None: as bias.
        tied: one matrix embeds tokens and scores them.
        dropout: of embeddings, weights and what each part adds, in training.

    Raises:
        InputError: for sizes that do not fit, naming some that do.

    >>> TransformerConfig.preset("toy", vocabulary_size=100).num_parameters
    8592
    """

    vocabulary_size: int
    context: int = 128
    d_model: int = 128
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int | None = None
    hidden: int | None = None
    position: str | None = "learned"
    rotary_base: float = 10000.0
    rotary_scaling: RotaryScaling | None = None
    norm: str = "layer"
    norm_epsilon: float = 1e-5
    feed_forward: str | None = "gelu"
    window: int | None = None
    bias: bool = True
    tied: bool = True
    dropout: float = 0.0
    head_size: int | None = None
    forward_bias: bool | None = None

    def __post_init__(self) -> None:
        for name in ("vocabulary_size", "context", "d_model", "num_layers", "num_heads"):
            _whole(name, getattr(self, name))
        for name in ("num_kv_heads", "hidden", "window", "head_size"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name))
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"TransformerConfig: {name} must be one of "
                    f"{', '.join(map(repr, choices))}; got {getattr(self, name)!r}."
                )
        if self.d_model % self.num_heads:
            fits = [n for n in range(1, min(self.d_model, 64) + 1) if self.d_model % n == 0]
            raise InputError(
                f"TransformerConfig: d_model = {self.d_model} must be a multiple of num_heads; got "
                f"{self.num_heads}. Of {self.d_model}, these are: {', '.join(map(str, fits))}."
            )
        if self.num_heads % self.kv_heads:
            raise InputError(
                f"TransformerConfig: num_heads = {self.num_heads} must be a multiple of "
                f"num_kv_heads; got {self.num_kv_heads}."
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise InputError(
                "TransformerConfig: rotary positions turn pairs of features, and a head has "
                f"{self.head_dim}: choose another number of heads, or head_size."
            )
        if not (number(self.dropout) and 0 <= self.dropout < 1):
            raise InputError(
                f"TransformerConfig: dropout must be at least 0 and below 1; got {self.dropout!r}."
            )
        if not (number(self.norm_epsilon) and 0 <= self.norm_epsilon < 1):
            raise InputError(
                "TransformerConfig: norm_epsilon must be at least 0 and below 1; got "
                f"{self.norm_epsilon!r}."
            )
        for name in ("bias", "tied"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(
                    f"TransformerConfig: {name} must be True or False; got {getattr(self, name)!r}."
                )

    @property
    def head_dim(self) -> int:
        """Features of a head."""
        return self.d_model // self.num_heads if self.head_size is None else self.head_size

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def has_forward_bias(self) -> bool:
        """Whether the feed-forward's maps add one."""
        return self.bias if self.forward_bias is None else self.forward_bias

    @property
    def hidden_size(self) -> int:
        """Features inside the feed-forward; 0 where there is none."""
        if self.feed_forward is None:
            return 0
        if self.hidden is not None:
            return self.hidden
        if self.feed_forward == "gelu":
            return 4 * self.d_model
        return 8 * -(-self.d_model // 3)

    @property
    def num_parameters(self) -> int:
        """How many numbers are learned.

        Embeddings and their positions; in each block the maps to queries, keys, values and back,
        those of the feed-forward, and the norms; the last norm, and the scores' matrix if untied.
        """
        d, one, too = self.d_model, int(self.bias), int(self.has_forward_bias)
        queries, keys = self.num_heads * self.head_dim, self.kv_heads * self.head_dim
        norm = d * (2 if self.norm == "layer" else 1)
        attention = (queries + 2 * keys) * (d + one) + d * (queries + one)
        wide = self.hidden_size
        forward = {
            "gelu": 2 * d * wide + too * (wide + d),
            "swiglu": 3 * d * wide + too * (2 * wide + d),
            None: 0,
        }[self.feed_forward]
        norms = norm * (1 if self.feed_forward is None else 2)
        positions = self.context * d if self.position == "learned" else 0
        scores = 0 if self.tied else self.vocabulary_size * d
        blocks = self.num_layers * (attention + forward + norms)
        return self.vocabulary_size * d + positions + blocks + norm + scores

    @classmethod
    def preset(cls, name: str, vocabulary_size: int, **changes: Any) -> "TransformerConfig":
        """A named shape: one of `PRESETS`, with some of its fields changed.

        Raises:
            InputError: for a name or a field that there is not.
        """
        if name not in PRESETS:
            raise InputError(
                f"there is no preset {name!r}; there are {', '.join(map(repr, PRESETS))}.",
                name="lm_preset",
                came=repr(name),
                known=", ".join(PRESETS),
            )
        unknown = [field for field in changes if field not in cls.__dataclass_fields__]
        if unknown:
            raise InputError(
                f"TransformerConfig has no {', '.join(unknown)}; it has "
                f"{', '.join(cls.__dataclass_fields__)}."
            )
        return replace(cls(vocabulary_size, **PRESETS[name]), **changes)


LLAMA: dict[str, Any] = {
    "position": "rotary",
    "norm": "rms",
    "feed_forward": "swiglu",
    "bias": False,
    "tied": False,
}

PRESETS: dict[str, dict[str, Any]] = {
    "toy": {"context": 25, "d_model": 16, "num_layers": 2, "num_heads": 2},
    "small": {"context": 64, "d_model": 128, "num_layers": 4, "num_heads": 4},
    "gpt2": {"context": 1024, "d_model": 768, "num_layers": 12, "num_heads": 12},
    "llama": LLAMA
    | {"context": 512, "d_model": 384, "num_layers": 6, "num_heads": 6, "num_kv_heads": 2},
    "induction": {
        "context": 64,
        "d_model": 64,
        "num_layers": 2,
        "num_heads": 4,
        "feed_forward": None,
        "position": "rotary",
        "tied": False,
    },
}
"""Shapes by name: a toy whose every number can be looked at, a character model for two cores,
GPT-2's smallest, a small Llama, and attention alone in two layers."""


def _whole(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(
            f"TransformerConfig: {name} must be a whole number ≥ 1; got {value!r}.",
            name="lm_setting",
            setting=name,
            wanted="a whole number ≥ 1",
            came=repr(value),
        )
