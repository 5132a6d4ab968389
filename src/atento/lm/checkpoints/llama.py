"""Llama and Mistral: RMSNorm, rotary positions, gated feed-forward, shared key heads."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from atento.lm.checkpoints.family import expect, others
from atento.lm.config import TransformerConfig
from atento.nn.convert.rotary_settings import rotary_of, rotary_settings
from atento.positions import DynamicNTKScaling, Rotary

__all__ = ["Llama", "Mistral"]

PARTS = {
    "input_layernorm": "attention_norm",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.o_proj": "attention.output",
    "post_attention_layernorm": "feed_forward_norm",
    "mlp.gate_proj": "feed_forward.gate",
    "mlp.up_proj": "feed_forward.expand",
    "mlp.down_proj": "feed_forward.contract",
}


class Llama:
    """Touvron et al. 2023 (arXiv 2302.13971)."""

    model_type = "llama"
    architecture = "LlamaForCausalLM"

    def lacks(self, config: TransformerConfig) -> list[str]:
        """As `Family.lacks`."""
        wanted = {"position": "rotary", "norm": "rms", "feed_forward": "swiglu", "window": None}
        return others(config, wanted) + _dynamic(config)

    def settings(self, config: TransformerConfig) -> dict[str, Any]:
        """As `Family.settings`."""
        rotary = Rotary(base=config.rotary_base, scaling=config.rotary_scaling)
        return {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "hidden_act": "silu",
            "vocab_size": config.vocabulary_size,
            "max_position_embeddings": config.context,
            "hidden_size": config.d_model,
            "num_hidden_layers": config.num_layers,
            "num_attention_heads": config.num_heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "intermediate_size": config.hidden_size,
            "rms_norm_eps": config.norm_epsilon,
            "rope_parameters": rotary_settings(rotary),
            "attention_bias": config.bias,
            "mlp_bias": config.has_forward_bias,
            "attention_dropout": config.dropout,
            "tie_word_embeddings": config.tied,
        }

    def config(self, settings: Mapping[str, Any]) -> TransformerConfig:
        """As `Family.config`."""
        expect(settings, "hidden_act", "silu")
        d_model, heads = settings["hidden_size"], settings["num_attention_heads"]
        head_dim = settings.get("head_dim") or d_model // heads
        bias, forward_bias = (settings.get(name, False) for name in ("attention_bias", "mlp_bias"))
        rotary = rotary_of("load_model", _entries(settings), head_dim)
        return TransformerConfig(
            vocabulary_size=settings["vocab_size"],
            context=settings.get("max_position_embeddings", 2048),
            d_model=d_model,
            num_layers=settings["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=settings.get("num_key_value_heads") or heads,
            hidden=settings["intermediate_size"],
            position="rotary",
            rotary_base=rotary.base,
            rotary_scaling=rotary.scaling,
            norm="rms",
            norm_epsilon=settings.get("rms_norm_eps", 1e-6),
            feed_forward="swiglu",
            bias=bias,
            forward_bias=None if forward_bias == bias else forward_bias,
            head_size=None if head_dim * heads == d_model else head_dim,
            tied=settings.get("tie_word_embeddings", False),
            dropout=settings.get("attention_dropout", 0.0),
        )

    def names(self, config: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """As `Family.names`."""
        found: dict[str, tuple[str, ...]] = {
            "model.embed_tokens.weight": ("token_embedding.weight",)
        }
        for number in range(config.num_layers):
            for theirs, ours in PARTS.items():
                biased = config.has_forward_bias if "mlp" in theirs else config.bias
                kinds = ("weight", "bias") if biased and "norm" not in ours else ("weight",)
                for kind in kinds:
                    name = f"model.layers.{number}.{theirs}.{kind}"
                    found[name] = (f"blocks.{number}.{ours}.{kind}",)
        found["model.norm.weight"] = ("norm.weight",)
        return found if config.tied else found | {"lm_head.weight": ("output.weight",)}

    def turned(self, name: str) -> bool:
        """As `Family.turned`."""
        del name
        return False

    def known(self, name: str) -> str | None:
        """As `Family.known`."""
        return None if name.endswith("rotary_emb.inv_freq") else name


class Mistral(Llama):
    """Jiang et al. 2023 (arXiv 2310.06825): a Llama that looks back through a window."""

    model_type = "mistral"
    architecture = "MistralForCausalLM"

    def lacks(self, config: TransformerConfig) -> list[str]:
        """As `Family.lacks`."""
        wanted = {
            "position": "rotary",
            "norm": "rms",
            "feed_forward": "swiglu",
            "bias": False,
            "has_forward_bias": False,
        }
        return others(config, wanted) + _dynamic(config)

    def settings(self, config: TransformerConfig) -> dict[str, Any]:
        """As `Family.settings`."""
        made = super().settings(config) | {"sliding_window": config.window}
        return {name: value for name, value in made.items() if not name.endswith("_bias")}

    def config(self, settings: Mapping[str, Any]) -> TransformerConfig:
        """As `Family.config`."""
        return replace(super().config(settings), window=settings.get("sliding_window", 4096))


def _dynamic(config: TransformerConfig) -> list[str]:
    """Their dynamic scaling begins at the context's end."""
    scaling = config.rotary_scaling
    if isinstance(scaling, DynamicNTKScaling) and scaling.original_length != config.context:
        return [f"dynamic scaling from {scaling.original_length} tokens on"]
    return []


def _entries(settings: Mapping[str, Any]) -> Any:
    def entry(name: str, default: Any) -> Any:
        value = settings.get(name)
        return default if value is None else value

    return entry
