"""Attention over keys by the formula in float64, from nothing of ours."""

import numpy as np


def scan_oracle(queries, keys, values=None, *, scale, bias=None, temperature=1.0):
    """Scores, weights, log-sum-exp and value of all keys, in float64."""
    queries, keys = (np.asarray(x, np.float64) for x in (queries, keys))
    scores = queries @ keys.T * scale
    if bias is not None:
        scores = scores + np.asarray(bias, np.float64)
    if temperature == 0:
        tied = scores == scores.max(axis=1, keepdims=True)
        weights = tied / tied.sum(axis=1, keepdims=True)
        lse = scores.max(axis=1) + np.log(tied.sum(axis=1))
    else:
        scores = scores / temperature
        top = scores.max(axis=1, keepdims=True)
        terms = np.exp(scores - top)
        weights = terms / terms.sum(axis=1, keepdims=True)
        lse = top[:, 0] + np.log(terms.sum(axis=1))
    return scores, weights, lse, None if values is None else weights @ np.asarray(values, float)


def best_rows(scores, count):
    """The largest of each row, largest first, of equals the lower row."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
