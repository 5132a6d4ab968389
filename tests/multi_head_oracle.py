"""Multi-head attention in float64 NumPy, from a state_dict: written from the definition alone."""

import numpy as np

from oracle import attention_oracle


def multi_head_oracle(
    state,
    query_in,
    key_in=None,
    value_in=None,
    *,
    heads,
    kv_heads=None,
    rotate=None,
    norm=None,
    **options,
):
    """Output and weights for (B, T, C) inputs; options are those of `attention_oracle`."""
    state = {name: tensor.double().numpy() for name, tensor in state.items()}
    query_in, key_in, value_in = (
        None if x is None else x.detach().double().numpy() for x in (query_in, key_in, value_in)
    )
    key_in = query_in if key_in is None else key_in
    value_in = key_in if value_in is None else value_in
    kv_heads = heads if kv_heads is None else kv_heads

    def linear(role, x):
        y = np.einsum("btc,oc->bto", x, state[f"{role}.weight"])
        return y + state.get(f"{role}.bias", 0.0)

    def apart(x, count):
        """(B, T, head · feature) -> (B, head, T, feature), by slices."""
        size = x.shape[-1] // count
        return np.stack([x[:, :, h * size : (h + 1) * size] for h in range(count)], axis=1)

    query = apart(linear("query", query_in), heads)
    key = apart(linear("key", key_in), kv_heads)
    value = apart(linear("value", value_in), kv_heads)
    if norm is not None:
        query, key = (
            normalized(query, state, "query_norm", norm),
            normalized(key, state, "key_norm", norm),
        )
    if rotate is not None:
        query, key = rotate(query), rotate(key)
    contexts, weights, _ = attention_oracle(query, key, value, sinks=state.get("sinks"), **options)
    if "gate.weight" in state:
        gate = apart(linear("gate", query_in), heads)
        contexts = contexts / (1 + np.exp(-gate))
    joined = np.concatenate([contexts[:, h] for h in range(heads)], axis=-1)
    output = linear("output", joined) if "output.weight" in state else joined
    return output, weights


def normalized(x, state, name, kind):
    weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias", 0.0)
    if kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6) * weight + bias


def rotated(x, base=10000.0):
    """Features i and i + d/2 as one complex number, turned by position · base^(−2i/d)."""
    half = x.shape[-1] // 2
    turns = np.exp(1j * np.outer(np.arange(x.shape[-2]), base ** (-np.arange(half) / half)))
    z = (x[..., :half] + 1j * x[..., half:]) * turns
    return np.concatenate([z.real, z.imag], axis=-1)
