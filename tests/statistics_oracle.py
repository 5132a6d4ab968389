"""Statistics of dense weights, by loops in float64: from their definitions, nothing of ours."""

import math

import numpy as np


def statistics_oracle(
    weights, first_query=0, *, query_tokens=None, key_tokens=None, keys=(), k=3, size=5
):
    """Every statistic of weights (head, query, key), by the name of its result.

    `keys`, `k` and `size` are the arguments of WeightOn, TopK and Overview.
    """
    weights = np.asarray(weights, np.float64)
    H, Q, K = weights.shape
    rows = {name: np.zeros((H, Q)) for name in ROW_RESULTS}
    rows["max_key"] = np.zeros((H, Q), np.int64)
    top_weights, top_keys = np.zeros((H, Q, k)), np.full((H, Q, k), -1)
    for h, i in np.ndindex(H, Q):
        found = of_row(
            list(weights[h, i]),
            first_query + i,
            None if query_tokens is None else query_tokens[i],
            key_tokens,
            keys,
        )
        for name, number in found.items():
            rows[name][h, i] = number
        ranked = sorted((-p, j) for j, p in enumerate(weights[h, i]) if p > 0)[:k]
        for rank, (negative, j) in enumerate(ranked):
            top_weights[h, i, rank], top_keys[h, i, rank] = -negative, j
    if key_tokens is None:
        del rows["duplicate"], rows["induction"]
    mean, largest = overview(weights, size)
    return rows | {
        "top_weights": top_weights,
        "top_keys": top_keys,
        "received": np.array([[math.fsum(weights[h, :, j]) for j in range(K)] for h in range(H)]),
        "received_max": np.array([[max(weights[h, :, j]) for j in range(K)] for h in range(H)]),
        "overview_mean": mean,
        "overview_max": largest,
    }


ROW_RESULTS = (
    "entropy",
    "max",
    "max_key",
    "distance_mean",
    "distance_std",
    "first",
    "previous",
    "self",
    "keys",
    "duplicate",
    "induction",
)


def of_row(p, position, token, key_tokens, keys):
    """What is one number per query: p are its weights, and it stands at `position`."""
    K = len(p)
    mean, std = moments(p, position)
    found = {
        "entropy": -math.fsum(x * math.log(x) for x in p if x > 0),
        "max": max(p),
        "max_key": p.index(max(p)) if max(p) > 0 else -1,
        "distance_mean": mean,
        "distance_std": std,
        "first": p[0],
        "previous": p[position - 1] if 0 <= position - 1 < K else 0.0,
        "self": p[position] if 0 <= position < K else 0.0,
        "keys": math.fsum(p[j] for j in set(keys)),
    }
    if key_tokens is not None:
        found["duplicate"] = math.fsum(
            p[j] for j in range(K) if j < position and key_tokens[j] == token
        )
        found["induction"] = math.fsum(
            p[j]
            for j in range(1, K)
            if j <= position and j - 1 < position and key_tokens[j - 1] == token
        )
    return found


def moments(p, position):
    """Mean and standard deviation of position − j under weights that need not sum to 1."""
    total = math.fsum(p)
    if total == 0:
        return 0.0, 0.0
    mean = math.fsum(x * (position - j) for j, x in enumerate(p)) / total
    variance = math.fsum(x * (position - j - mean) ** 2 for j, x in enumerate(p)) / total
    return mean, math.sqrt(variance)


def overview(weights, size):
    """Mean and maximum of bins of ceil(Q / size) × ceil(K / size)."""
    H, Q, K = weights.shape
    height, width = math.ceil(Q / size), math.ceil(K / size)
    shape = (H, math.ceil(Q / height), math.ceil(K / width))
    mean, largest = np.zeros(shape), np.zeros(shape)
    for h, a, b in np.ndindex(*shape):
        part = weights[h, a * height : (a + 1) * height, b * width : (b + 1) * width]
        mean[h, a, b], largest[h, a, b] = math.fsum(part.ravel()) / part.size, part.max()
    return mean, largest


EXACT = {"max", "max_key", "top_weights", "top_keys", "previous", "self", "first"}
EXACT |= {"received_max", "overview_max"}


def assert_equal(found, wanted, dtype):
    """Equal, or as near as the dtype's rounding of that statistic allows."""
    rtol = {"float64": 1e-12, "float32": 1e-6}[dtype]
    for name, array in found.items():
        expected = wanted[name]
        assert array.dtype == ("int64" if name.endswith(("_key", "_keys")) else dtype), name
        assert array.shape == expected.shape, name
        if name in EXACT:
            np.testing.assert_array_equal(array, expected, err_msg=name)
        elif name == "distance_std":
            # The variance is what is left of squares of distances; in float32, within 16 keys.
            squares = (wanted["distance_mean"] ** 2 + expected**2).max(initial=0)
            atol = {"float64": 1e-12 + 2e-15 * squares, "float32": 2e-5}[dtype]
            variance = array.astype(np.float64) ** 2
            np.testing.assert_allclose(variance, expected**2, rtol=rtol, atol=atol, err_msg=name)
        elif name == "distance_mean":  # a sum of either sign
            atol = {"float64": 1e-12, "float32": 2e-6}[dtype]
            np.testing.assert_allclose(array, expected, rtol=rtol, atol=atol, err_msg=name)
        else:
            np.testing.assert_allclose(array, expected, rtol=rtol, atol=1e-37, err_msg=name)
