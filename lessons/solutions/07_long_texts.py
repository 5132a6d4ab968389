# %%
answer = 63246


# %%
def online(scores, values, block):
    state = -np.inf, 0.0, 0.0
    for start in range(0, len(scores), block):
        part = slice(start, start + block)
        state = update(state, scores[part], values[part])
    return state[2] / state[1]


# %%
answer = 8 * 9 / 2


# %%
def merge(output1, lse1, output2, lse2):
    lse = np.logaddexp(lse1, lse2)
    first, second = np.exp(lse1 - lse), np.exp(lse2 - lse)
    return first[:, None] * output1 + second[:, None] * output2


# %%
def tile(query, key, lse, rows, cols):
    scores = query[rows] @ key[cols].T / np.sqrt(query.shape[1])
    return np.exp(scores - lse[rows, None])


# %%
inside = tile(query, key, found.lse, slice(10880, 11008), slice(5632, 5760))
row, col = np.unravel_index(inside.argmax(), inside.shape)
answer = [10880 + row, 5632 + col]
