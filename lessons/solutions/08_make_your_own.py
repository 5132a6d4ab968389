# %%
def grouped(query, key, value):
    shared = len(query) // len(key)
    key, value = (np.repeat(x, shared, axis=0) for x in (key, value))
    return plain(query, key, value)


# %%
def linear_bias(num_heads, tokens):
    slopes = 2.0 ** (-8 * np.arange(1, num_heads + 1) / num_heads)
    far = np.abs(np.arange(tokens)[:, None] - np.arange(tokens))
    return -slopes[:, None, None] * far


# %%
def capped(query, key, value, mask, cap):
    scores = cap * np.tanh(scaled_scores(query, key) / cap)
    return softmax(np.where(mask, scores, -np.inf)) @ value


# %%
def fading(query, key, value):
    tokens = query.shape[-2]
    far = np.abs(np.arange(tokens)[:, None] - np.arange(tokens))
    raised = np.exp(scaled_scores(query, key)) / (1 + far)
    return raised / raised.sum(-1, keepdims=True) @ value
