"""GPT-2: LayerNorm, learned positions, one fused projection stored as (in, out)."""

from collections.abc import Mapping
from typing import Any

from atento.lm.checkpoints.family import expect, others
from atento.lm.config import TransformerConfig

__all__ = ["GPT2"]

BUFFERS = (".attn.bias", ".attn.masked_bias")
"""Masks that old checkpoints keep beside the weights."""


class GPT2:
    """Radford et al. 2019."""

    model_type = "gpt2"

    def lacks(self, config: TransformerConfig) -> list[str]:
        """As `Family.lacks`."""
        wanted = {
            "position": "learned",
            "norm": "layer",
            "feed_forward": "gelu",
            "window": None,
            "bias": True,
            "kv_heads": config.num_heads,
            "head_dim": config.d_model // config.num_heads,
            "has_forward_bias": True,
        }
        return others(config, wanted)

    def settings(self, config: TransformerConfig) -> dict[str, Any]:
        """As `Family.settings`."""
        return {
            "architectures": ["GPT2LMHeadModel"],
            "model_type": self.model_type,
            "activation_function": "gelu_new",
            "vocab_size": config.vocabulary_size,
            "n_positions": config.context,
            "n_embd": config.d_model,
            "n_layer": config.num_layers,
            "n_head": config.num_heads,
            "n_inner": config.hidden_size,
            "layer_norm_epsilon": config.norm_epsilon,
            "attn_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "resid_pdrop": config.dropout,
            "tie_word_embeddings": config.tied,
        }

    def config(self, settings: Mapping[str, Any]) -> TransformerConfig:
        """As `Family.config`."""
        expect(settings, "activation_function", "gelu_new", "gelu_pytorch_tanh")
        expect(settings, "scale_attn_weights", True)
        expect(settings, "scale_attn_by_inverse_layer_idx", False)
        expect(settings, "add_cross_attention", False)
        return TransformerConfig(
            vocabulary_size=settings["vocab_size"],
            context=settings["n_positions"],
            d_model=settings["n_embd"],
            num_layers=settings["n_layer"],
            num_heads=settings["n_head"],
            hidden=settings.get("n_inner"),
            norm_epsilon=settings.get("layer_norm_epsilon", 1e-5),
            tied=settings.get("tie_word_embeddings", True),
            dropout=settings.get("resid_pdrop", 0.1),
        )

    def names(self, config: TransformerConfig) -> dict[str, tuple[str, ...]]:
        """As `Family.names`."""
        found: dict[str, tuple[str, ...]] = {
            "transformer.wte.weight": ("token_embedding.weight",),
            "transformer.wpe.weight": ("position_embedding.table",),
        }
        for number in range(config.num_layers):
            ours, theirs = f"blocks.{number}.", f"transformer.h.{number}."
            for kind in ("weight", "bias"):
                found |= {
                    f"{theirs}ln_1.{kind}": (f"{ours}attention_norm.{kind}",),
                    f"{theirs}attn.c_attn.{kind}": tuple(
                        f"{ours}attention.{role}.{kind}" for role in ("query", "key", "value")
                    ),
                    f"{theirs}attn.c_proj.{kind}": (f"{ours}attention.output.{kind}",),
                    f"{theirs}ln_2.{kind}": (f"{ours}feed_forward_norm.{kind}",),
                    f"{theirs}mlp.c_fc.{kind}": (f"{ours}feed_forward.expand.{kind}",),
                    f"{theirs}mlp.c_proj.{kind}": (f"{ours}feed_forward.contract.{kind}",),
                }
        found |= {f"transformer.ln_f.{kind}": (f"norm.{kind}",) for kind in ("weight", "bias")}
        return found if config.tied else found | {"lm_head.weight": ("output.weight",)}

    def turned(self, name: str) -> bool:
        """As `Family.turned`."""
        return name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))

    def known(self, name: str) -> str | None:
        """As `Family.known`; the first checkpoints left the first word of the names out."""
        if name.endswith(BUFFERS):
            return None
        return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"
