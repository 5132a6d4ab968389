"""Models that are not of transformers: torch's modules, written by hand, and atento's own."""

import torch
from torch import nn
from torch.nn import functional

from atento.masks import Causal, Window
from atento.nn import CrossAttention, MultiHeadAttention
from experiments.coverage.families import BATCH, TOKENS, Family, Inputs, normal

FEATURES, HEADS = 32, 4


class Heads(nn.Module):
    """Causal self-attention of several heads; how it is computed is left to others."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(FEATURES, 3 * FEATURES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, token, feature) to the same."""
        B, T, _ = x.shape
        query, key, value = (
            part.view(B, T, HEADS, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)
        )
        return self.attend(query, key, value).transpose(1, 2).reshape(B, T, -1)

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Torch's own attention."""
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)


class Formula(Heads):
    """The same, written out."""

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """softmax(Q Kᵀ/√d) V."""
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        return scores.masked_fill(hidden, -torch.inf).softmax(-1) @ value


class Asked(nn.Module):
    """`nn.MultiheadAttention`, asked for its weights or not."""

    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(FEATURES, HEADS, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, token, feature) to the same."""
        made, _ = self.attention(x, x, x, need_weights=self.need_weights)
        return made


def _tokens() -> Inputs:
    return {"args": (normal(BATCH, TOKENS, FEATURES),)}


def _encoder() -> tuple[nn.Module, Inputs]:
    layer = nn.TransformerEncoderLayer(FEATURES, HEADS, 48, batch_first=True)
    hidden = torch.zeros(BATCH, TOKENS, dtype=torch.bool)
    hidden[1, 9:] = True
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return model, {**_tokens(), "src_key_padding_mask": hidden}


def _decoder() -> tuple[nn.Module, Inputs]:
    layer = nn.TransformerDecoderLayer(FEATURES, HEADS, 48, batch_first=True)
    tokens, memory = normal(BATCH, 7, FEATURES), normal(BATCH, TOKENS, FEATURES)
    hidden = torch.full((7, 7), -torch.inf).triu(1)
    return nn.TransformerDecoder(layer, 2), {"args": (tokens, memory), "tgt_mask": hidden}


def _own() -> nn.Module:
    mask = Causal() & Window(left=4)
    return nn.Sequential(
        MultiHeadAttention(FEATURES, HEADS, num_kv_heads=2, mask=mask),
        MultiHeadAttention(FEATURES, HEADS),
    )


def _traced(model: nn.Sequential, inputs: Inputs) -> list[torch.Tensor]:
    """The weights of each module's trace."""
    (x,), found = inputs["args"], []
    with torch.no_grad():
        for module in model:
            found.append(module.trace(x)["weights"].value)
            x = module(x)
    return found


def _crossing() -> tuple[nn.Module, Inputs]:
    args = normal(BATCH, 7, FEATURES), normal(BATCH, TOKENS, FEATURES)
    return CrossAttention(FEATURES, HEADS), {"args": args}


FAMILIES = [
    Family("nn.TransformerEncoder", "other", build=_encoder),
    Family("nn.TransformerDecoder", "other", build=_decoder),
    Family("nn.MultiheadAttention", "other", build=lambda: (Asked(False), _tokens())),
    Family("nn.MultiheadAttention, weights", "other", build=lambda: (Asked(True), _tokens())),
    Family("written by hand, kernel", "other", build=lambda: (Heads(), _tokens())),
    Family("written by hand, formula", "other", build=lambda: (Formula(), _tokens())),
    Family(
        "atento.nn.MultiHeadAttention", "other", build=lambda: (_own(), _tokens()), told=_traced
    ),
    Family("atento.nn.CrossAttention", "other", build=_crossing),
]
