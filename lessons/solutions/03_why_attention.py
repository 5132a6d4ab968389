# %%
answer = [48, 48, 48]


# %%
def additive(query, key, W, U, v):
    scores = torch.tanh((query @ W.T)[:, None] + key @ U.T) @ v
    return scores.softmax(-1) @ key


# %%
def place(k):
    return 3 * (k // 3) + 2 - k % 3
