"""What no family of transformers computes, such as attention alone: our own names and settings."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from atento.lm.checkpoints.family import others
from atento.lm.config import TransformerConfig

__all__ = ["Own"]

SINCE = {"head_size", "forward_bias"}
"""Fields that the first config.json files did not have: None."""


class Own:
    """A Transformer under the names of its own ``state_dict``; transformers does not load it."""

    model_type = "atento"

    def lacks(self, config: TransformerConfig) -> list[str]:
        """As `Family.lacks`."""
        return others(config, {"rotary_scaling": None})

    def settings(self, config: TransformerConfig) -> dict[str, Any]:
        """As `Family.settings`."""
        return {"model_type": self.model_type, **asdict(config)}

    def config(self, settings: Mapping[str, Any]) -> TransformerConfig:
        """As `Family.config`."""
        fields = TransformerConfig.__dataclass_fields__.keys() - SINCE
        later: dict[str, Any] = {name: settings.get(name) for name in SINCE}
        return TransformerConfig(**{name: settings[name] for name in fields}, **later)

    def names(self, config: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """As `Family.names`."""
        from atento.lm.transformer import Transformer

        return {name: (name,) for name in Transformer(config).state_dict()}

    def turned(self, name: str) -> bool:
        """As `Family.turned`."""
        del name
        return False

    def known(self, name: str) -> str | None:
        """As `Family.known`."""
        return name
