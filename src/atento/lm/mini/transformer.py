"""The embedded model as it was trained: GPT-2's shape, and a start that is its own.

Radford et al., "Language Models are Unsupervised Multitask Learners" (2019): LayerNorm before each
block, learned positions, tied embeddings. `to_gpt2` and `from_gpt2` speak Hugging Face's names.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

EMBEDDING_SCALE = 0.05  # first standard deviation of token and position vectors
LINEAR_SCALE = 0.7  # and of linear weights, times the root of their inputs
ALIKE_SCALE = 2.0  # of the query and key maps that begin alike


def wave_rates(context: int, width: int) -> Tensor:
    """Return (width / 2,): the rates of the position's waves, from fast to slow.

    Vaswani et al. 2017, section 3.5, with the longest wave fit to the context.
    """
    return context ** -(torch.arange(0, width, 2) / width)


def sinusoids(context: int, width: int) -> Tensor:
    """Return (context, width): sine and cosine of the position at each rate."""
    angles = torch.arange(context)[:, None] * wave_rates(context, width)  # (context, width / 2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes of a Transformer."""

    vocabulary_size: int
    context: int = 128
    d_model: int = 128
    num_layers: int = 3
    num_heads: int = 4
    dropout: float = 0.0
    norm_epsilon: float = 1e-5


class Attention(nn.Module):
    """Causal multi-head attention; query, key and value leave one linear map."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.project_in = nn.Linear(config.d_model, 3 * config.d_model)
        self.project_out = nn.Linear(config.d_model, config.d_model)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project ``x`` (B, T, d_model) to query, key and value, each (B, heads, T, head_dim)."""
        batch, time, _ = x.shape
        qkv = self.project_in(x)  # (B, T, 3·d_model)
        qkv = qkv.view(batch, time, 3, self.num_heads, -1)  # (B, T, 3, heads, head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # 3 × (B, heads, T, head_dim)
        return query, key, value

    def look_at_itself(self, config: TransformerConfig) -> None:
        """Let the first head begin by looking at its own token (weight 0.98 before training).

        Its query and key maps read the same features and are alike, up to a turn of the position's
        waves by one step; so a token matches itself best, and its identity passes through the head
        undiluted. That is what the previous-token and induction heads wait for: without it none
        formed within 30 minutes on two cores (EXPERIMENTS.md).
        """
        head_dim = config.d_model // config.num_heads
        pairs = torch.arange(head_dim // 2)
        # every second wave, from the fastest on; every one, where a lone head has to read them all
        waves = pairs * min(2, config.num_heads)
        rates = wave_rates(config.context, config.d_model)[waves]
        sine, cosine = 2 * waves, 2 * waves + 1  # where position_embedding holds them
        query, key = torch.zeros(2, head_dim, config.d_model)
        rows = 2 * pairs
        query[rows, sine], query[rows, cosine] = rates.cos(), -rates.sin()  # sin(ω(t − 1))
        query[rows + 1, sine], query[rows + 1, cosine] = rates.sin(), rates.cos()  # cos(ω(t − 1))
        key[rows, sine], key[rows + 1, cosine] = 1.0, 1.0
        weight = self.project_in.weight.data
        weight[:head_dim] = ALIKE_SCALE * query
        weight[config.d_model : config.d_model + head_dim] = ALIKE_SCALE * key

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of ``x`` (B, T, d_model), each with those before it."""
        query, key, value = self.query_key_value(x)
        y = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        y = y.transpose(1, 2).flatten(2)  # (B, heads, T, head_dim) → (B, T, d_model)
        out: Tensor = self.project_out(y)
        return out


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each added to what came in."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.d_model, config.norm_epsilon)
        self.attention = Attention(config)
        self.norm_2 = nn.LayerNorm(config.d_model, config.norm_epsilon)
        self.expand = nn.Linear(config.d_model, 4 * config.d_model)
        self.contract = nn.Linear(4 * config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` (B, T, d_model) after attention and perceptron."""
        x = x + self.dropout(self.attention(self.norm_1(x)))
        hidden = functional.gelu(self.expand(self.norm_2(x)), approximate="tanh")
        out: Tensor = x + self.dropout(self.contract(hidden))
        return out


class Transformer(nn.Module):
    """Next-token scores for every position of a sequence of ids."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocabulary_size, config.d_model)
        self.position_embedding = nn.Embedding(config.context, config.d_model)
        blocks = [Block(config) for _ in range(config.num_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.d_model, config.norm_epsilon)
        self.apply(self._initialise)
        # Learnt positions that begin as waves: "the one before" is then the same turn everywhere,
        # and a head finds it once instead of 128 times.
        waves = sinusoids(config.context, config.d_model)
        self.position_embedding.weight.data.copy_(EMBEDDING_SCALE * math.sqrt(2) * waves)
        blocks[0].attention.look_at_itself(config)

    def _initialise(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=EMBEDDING_SCALE)
        if isinstance(module, nn.Linear):  # GPT-2's 0.02, which is meant for widths near 1000,
            nn.init.normal_(module.weight, std=LINEAR_SCALE / math.sqrt(module.in_features))
            nn.init.zeros_(module.bias)  # leaves a narrow model's attention uniform for long
        if isinstance(module, Block):  # each adds to the stream: smaller, the more of them
            for last in (module.attention.project_out, module.contract):
                last.weight.data /= math.sqrt(2 * self.config.num_layers)

    def states_of(self, embedded: Tensor) -> Tensor:
        """Return the last normed states (B, T, d_model) of token embeddings (B, T, d_model)."""
        positions = torch.arange(embedded.shape[1], device=embedded.device)
        x = embedded + self.position_embedding(positions)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.norm(x)
        return out

    def states(self, ids: Tensor) -> Tensor:
        """Return the last normed states (B, T, d_model) of ``ids`` (B, T)."""
        return self.states_of(self.token_embedding(ids))

    def logits_of(self, states: Tensor) -> Tensor:
        """Return next-token scores (..., vocabulary) of states (..., d_model)."""
        return functional.linear(states, self.token_embedding.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Return next-token scores (B, T, vocabulary) of ``ids`` (B, T)."""
        return self.logits_of(self.states(ids))


def gpt2_config(config: TransformerConfig) -> dict[str, Any]:
    """Return the `config.json` with which `transformers` builds the same model."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "vocab_size": config.vocabulary_size,
        "n_positions": config.context,
        "n_embd": config.d_model,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "layer_norm_epsilon": config.norm_epsilon,
        "attn_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": True,
    }


# Ours to GPT-2's; GPT-2 keeps linear weights as (in, out), torch as (out, in).
BLOCK_NAMES = {
    "norm_1": "ln_1",
    "attention.project_in": "attn.c_attn",
    "attention.project_out": "attn.c_proj",
    "norm_2": "ln_2",
    "expand": "mlp.c_fc",
    "contract": "mlp.c_proj",
}


def _gpt2_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    top = {"token_embedding": "wte", "position_embedding": "wpe", "norm": "ln_f"}
    if module in top:
        return f"transformer.{top[module]}.{kind}"
    _, number, part = module.split(".", 2)
    return f"transformer.h.{number}.{BLOCK_NAMES[part]}.{kind}"


def _turned(name: str) -> bool:
    return name.startswith("blocks") and name.endswith("weight") and ".norm_" not in name


def to_gpt2(model: Transformer) -> dict[str, Tensor]:
    """Return the weights under GPT-2's names."""
    return {
        _gpt2_name(name): (weight.T if _turned(name) else weight).detach().contiguous()
        for name, weight in model.state_dict().items()
    }


def from_gpt2(config: TransformerConfig, weights: Mapping[str, Tensor]) -> Transformer:
    """Build a Transformer from weights under GPT-2's names, in float32."""
    model = Transformer(config)
    ours = {}
    for name in model.state_dict():
        weight = weights[_gpt2_name(name)].float()
        ours[name] = weight.T if _turned(name) else weight
    model.load_state_dict(ours)
    return model
