"""A Transformer's attention in float64, by the definition: every weight of every head."""

import numpy as np
import torch


def weights_of(model, ids):
    """(layer, head, query, key), causal softmax of q·k/√d, each layer's input from the model."""
    model = model.double().eval()
    found = []
    with torch.no_grad():
        x = model.token_embedding(torch.tensor([ids]))
        if model.position_embedding is not None:
            x = x + model.position_embedding.table[: len(ids)]
        for block in model.blocks:
            found.append(_layer(block, x, model.config))
            x = block(x)
    return np.stack(found)


def _layer(block, x, config):
    normed = block.attention_norm(x)[0]
    query, key = (
        one(normed).reshape(len(normed), config.num_heads, -1).numpy()
        for one in (block.attention.query, block.attention.key)
    )
    if config.position == "rotary":
        query, key = _turned(query, config.rotary_base), _turned(key, config.rotary_base)
    scores = np.einsum("qhf,khf->hqk", query, key) / np.sqrt(query.shape[-1])
    scores = np.where(np.tri(len(normed), dtype=bool), scores, -np.inf)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _turned(array, base):
    """(token, head, feature): feature f and f + d/2 are turned by token · base^(−2f/d)."""
    half = array.shape[-1] // 2
    angles = np.arange(len(array))[:, None, None] * base ** (-np.arange(half) / half)
    first, second = array[..., :half], array[..., half:]
    cos, sin = np.cos(angles), np.sin(angles)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def loss_of(model, ids):
    """The mean of −log p(next token)."""
    with torch.no_grad():
        logits = model.double().eval()(torch.tensor([ids]))[0, :-1].numpy()
    rows = np.arange(len(ids) - 1)
    top = logits.max(-1)
    lse = top + np.log(np.exp(logits - top[:, None]).sum(-1))
    return float((lse - logits[rows, list(ids[1:])]).mean())
