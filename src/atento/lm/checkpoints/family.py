"""What a family of models has: its configuration, and the names of its weights."""

from collections.abc import Mapping
from typing import Any, Protocol

from atento._errors import InputError
from atento.lm.config import TransformerConfig

__all__ = ["Family", "expect", "others"]


class Family(Protocol):
    """One architecture of transformers, as our Transformer computes it.

    Attributes:
        model_type: in ``config.json``.
    """

    model_type: str

    def lacks(self, config: TransformerConfig) -> list[str]:
        """What this family cannot compute of a Transformer; nothing: it is one of them."""

    def settings(self, config: TransformerConfig) -> dict[str, Any]:
        """The ``config.json`` with which transformers builds the same model."""

    def config(self, settings: Mapping[str, Any]) -> TransformerConfig:
        """The shape that a ``config.json`` asks for.

        Raises:
            InputError: for what our Transformer does not compute.
        """

    def names(self, config: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """Their name of each weight, and ours; of several, theirs is those one above the other."""

    def turned(self, name: str) -> bool:
        """Whether the weight of their name is stored as (in, out)."""

    def known(self, name: str) -> str | None:
        """Their name as `names` has it; None for what holds no weights."""


def expect(settings: Mapping[str, Any], name: str, *usual: Any) -> None:
    """Refuse a configuration whose entry is another than those that we compute.

    Raises:
        InputError: naming the entry.
    """
    value = settings.get(name, usual[0])
    if value not in usual:
        raise InputError(
            f"load_model: this config.json has {name} = {value!r}; computed here is "
            f"{' or '.join(map(repr, usual))}."
        )


def others(config: TransformerConfig, wanted: Mapping[str, Any]) -> list[str]:
    """The fields that have another value than the one wanted, as they would be written."""
    return [
        f"{name} = {getattr(config, name)!r}"
        for name, value in wanted.items()
        if getattr(config, name) != value
    ]
