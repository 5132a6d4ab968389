# %%
def context_of(token, x):
    return torch.softmax(x @ x[token], dim=-1) @ x


# %%
def self_attention(x, W_query, W_key, W_value):
    query, key, value = x @ W_query, x @ W_key, x @ W_value
    scores = query @ key.T / query.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1) @ value


# %%
answer = 15

# %%
answer = 3 * (3 * 2) + 2 * 2 + 2
