"""Our own family of models, as transformers loads one: told to it once it is asked for."""

from functools import cache
from typing import Any

from atento._optional import require
from atento.lm.checkpoints.own import Own
from atento.lm.config import TransformerConfig

__all__ = ["known_to_transformers"]


@cache
def known_to_transformers() -> None:
    """From now on transformers loads what `save_model` writes of our own family.

    It is one of its models then, without a cache: ``AutoModelForCausalLM.from_pretrained(folder)``
    computes the logits of `load_model`.

    Raises:
        MissingLibraryError: when transformers is not installed.
    """
    transformers = require("transformers", "to read a model of our own")
    from transformers.modeling_outputs import CausalLMOutput

    from atento.lm.transformer import Transformer

    class AtentoConfig(transformers.PretrainedConfig):  # type: ignore[misc,name-defined]
        model_type = Own.model_type
        attribute_map = {  # noqa: RUF012  transformers' own names of the same numbers
            "hidden_size": "d_model",
            "max_position_embeddings": "context",
            "num_attention_heads": "num_heads",
            "num_hidden_layers": "num_layers",
            "vocab_size": "vocabulary_size",
        }

        def __init__(self, **settings: Any) -> None:
            fields = TransformerConfig.__dataclass_fields__
            for name in fields.keys() & settings.keys():
                setattr(self, name, settings.pop(name))
            super().__init__(**{"tie_word_embeddings": False} | settings)

    class AtentoForCausalLM(transformers.PreTrainedModel):  # type: ignore[misc,name-defined]
        config_class = AtentoConfig
        base_model_prefix = "transformer"

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.transformer = Transformer(Own().config(config.to_dict()))
            self.post_init()

        def _init_weights(self, module: Any) -> None:
            """They are all in the file."""

        def forward(self, input_ids: Any, **_: Any) -> Any:
            return CausalLMOutput(logits=self.transformer(input_ids))

        def get_input_embeddings(self) -> Any:
            return self.transformer.token_embedding

        def can_generate(self) -> bool:
            return True

    transformers.AutoConfig.register(Own.model_type, AtentoConfig)
    transformers.AutoModelForCausalLM.register(AtentoConfig, AtentoForCausalLM)
    transformers.AutoModel.register(AtentoConfig, AtentoForCausalLM)
