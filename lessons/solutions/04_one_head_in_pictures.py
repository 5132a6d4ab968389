# %%
answer = 3 * 64


# %%
def split_heads(matrix, num_heads):
    tokens, d_model = matrix.shape
    split = matrix.reshape(tokens, num_heads, d_model // num_heads)
    return split.swapaxes(0, 1)


# %%
answer = 32**0.5


# %%
def entropy(weights):
    logarithms = np.log(np.maximum(weights, 1e-300))
    return -(weights * logarithms).sum(axis=-1)
