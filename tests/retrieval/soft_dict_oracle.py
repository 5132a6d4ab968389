"""What a dictionary that attends must answer, by loops in float64 from the definition."""

import math

import numpy as np


def similarity_of(query, key, similarity):
    query, key = ([float(x) for x in np.atleast_1d(v)] for v in (query, key))
    product = sum(a * b for a, b in zip(query, key, strict=True))
    if similarity == "dot":
        return product / math.sqrt(len(key))
    if similarity == "cosine":
        return product / (math.hypot(*query) * math.hypot(*key))
    return -sum((a - b) ** 2 for a, b in zip(query, key, strict=True)) / 2


def oracle(query, pairs, similarity, temperature):
    """(weights by key, value, log-sum-exp)."""
    near = [similarity_of(query, key, similarity) for key in pairs]
    highest = max(near)
    if temperature == 0:
        exps = [float(n == highest) for n in near]
    else:
        exps = [math.exp((n - highest) / temperature) for n in near]
    total = sum(exps)
    weights = {key: e / total for key, e in zip(pairs, exps, strict=True)}
    value = sum(weights[key] * np.asarray(value, float) for key, value in pairs.items())
    return weights, value, highest / (temperature or 1) + math.log(total)
