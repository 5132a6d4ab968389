# %%
answer = 0.5 * 10 + 0.5 * 8

# %%
answer = False

# %%
answer = "float64"


# %%
def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


# %%
def attention(query, key, value):
    scores = query @ key.T / np.sqrt(query.shape[-1])
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True) @ value
