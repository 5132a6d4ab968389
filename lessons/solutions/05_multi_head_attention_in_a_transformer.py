# %%
answer = [1, 5, 16]


# %%
def side_by_side(x):
    return attention.output(torch.cat([attention.head(0)(x), attention.head(1)(x)], -1))


# %%
answer = 4 * (16 * 16 + 16)


# %%
def surprise(logits, following):
    places = torch.arange(len(following))
    return -logits.log_softmax(-1)[places, following].mean()
