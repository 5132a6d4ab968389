# %%
answer = 3


# %%
def previous_score(weights):
    rows = np.arange(1, len(weights))
    return weights[rows, rows - 1].mean()


# %%
def induction_score(weights, period):
    return np.diagonal(weights[period:], 1).mean()


# %%
answer = 3
