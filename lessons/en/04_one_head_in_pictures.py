# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · One head in pictures
#
# The Transformer of 2017 gave each token 512 numbers and attended with eight heads of 64. Here
# is one of these heads at its true size: every matrix drawn, every operation with its shapes.
# Then two questions that pictures answer well: why divide by $\sqrt{64}$, and what happens to
# a head that does not?
#
# About 20 minutes. You need the equation of attention (lesson 1) and what a head is (lesson 2).
# NumPy does the work; nothing is trained or downloaded beyond missing packages.

# %% tags=["setup"]
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

missing = [name for name in ("atento", "matplotlib") if find_spec(name) is None]
folders = (Path.cwd(), *Path.cwd().parents)
clone = next((str(folder) for folder in folders if (folder / "src/atento").is_dir()), "atento")
wanted = [clone if name == "atento" else name for name in missing]
if wanted:
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-color", *wanted]
    done = subprocess.run(pip, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr)
        raise ImportError(
            "pip could not install what is missing. If it found no atento: clone its repository "
            "and run this notebook inside the clone · pip no pudo instalar lo que falta. Si no "
            "encontró atento, clona su repositorio y ejecuta este cuaderno dentro del clon."
        )

# %%
import matplotlib.pyplot as plt
import numpy as np

import atento
from atento.lessons import check

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## 128 tokens
#
# Let the tokens be random: 128 vectors of 512 numbers, drawn from a normal distribution with
# mean 0 and variance 1. They mean nothing, which suits us. Whatever structure appears in the
# pictures comes from the operations and not from a text.
#
# The four matrices of the layer are random too. A map from 512 numbers adds up 512 products, so
# its entries are drawn with variance 1/512: then what comes out has variance 1 again.

# %%
T, d_model, num_heads = 128, 512, 8
d = d_model // num_heads

rng = np.random.default_rng(0)
x = rng.standard_normal((T, d_model))
W_query, W_key, W_value, W_output = (
    rng.standard_normal((d_model, d_model)) / np.sqrt(d_model) for _ in range(4)
)
x.shape, W_query.shape, d

# %% [markdown]
# A small function draws matrices side by side, to one scale and each with its shape above: blue
# is positive, red negative, and the strongest colours stand for ±3 standard deviations of that
# matrix.


# %% alt="The tokens X, 128 × 512, and the matrix of the queries, 512 × 512, in blue and red: nothing but noise."
def draw(**matrices):
    rows, columns = np.array([matrix.shape for matrix in matrices.values()]).T
    width = min(8, columns.sum() / 50, 4 * columns.sum() / rows.max())
    size = width + 0.3 * len(rows), width * rows.max() / columns.sum() + 0.4
    _, every = plt.subplots(1, len(rows), figsize=size, width_ratios=columns)
    plt.subplots_adjust(wspace=0.4)
    for axes, (name, matrix) in zip(every, matrices.items(), strict=True):
        limit = 3 * matrix.std()
        axes.imshow(matrix, cmap="RdBu", vmin=-limit, vmax=limit)
        axes.set_title(f"{name}\n{matrix.shape[0]} × {matrix.shape[1]}", fontsize=8)
        axes.axis("off")


draw(X=x, W_query=W_query)

# %% [markdown]
# On the left the tokens, one in each row. On the right the map to queries. All noise, as it
# should be.
#
# ## From tokens to queries, keys and values
#
# $$Q = X W_q \qquad K = X W_k \qquad V = X W_v$$
#
# One product each makes the queries, keys and values **of all eight heads**: 512 columns, of
# which the first 64 belong to head 0, the next 64 to head 1, and so on.

# %% alt="The tokens X and the queries Q of all heads, both 128 × 512, and beside them the narrow strip of head 0, 128 × 64."
Q, K, V = x @ W_query, x @ W_key, x @ W_value
draw(X=x, Q=Q, head_0=Q[:, :d])
Q.shape, Q[:, :d].shape

# %% [markdown]
# The narrow strip at the right is all that head 0 sees of the queries: 64 numbers per token.
# They come from the first 64 columns of $W_q$ alone, so a head owns its part of each map. These
# three are everything that head 0 will ever learn about what to look for, what to be found by
# and what to tell:

# %% alt="What head 0 has of each matrix: three strips of 512 × 64, for queries, keys and values."
draw(W_q=W_query[:, :d], W_k=W_key[:, :d], W_v=W_value[:, :d])
np.allclose(x @ W_query[:, :d], Q[:, :d])

# %% [markdown]
# **Your turn.** Which column of $Q$, counted from 0, is the first of head 3?

# %% tags=["question"]
answer = None

# %%
check(answer, 3 * d)

# %% [markdown]
# To compute all heads at once, programs give them an axis of their own: from (token, 512) to
# (head, token, 64). This is where many a first implementation goes wrong, since
# `Q.reshape(8, 128, 64)` has the right shape and the wrong numbers. It cuts the matrix into
# pieces in the order in which it lies in memory, row by row, so that "head 0" gets the first 16
# tokens instead of the first 64 columns.
#
# **Your turn.** Write it properly: from (token, d_model) to (head, token, d_model / heads). It
# is tried with matrices of several shapes.


# %% tags=["question"]
def split_heads(matrix, num_heads):
    return ...


# %%
def reference_split(matrix, num_heads):
    return np.stack(np.split(matrix, num_heads, axis=1))


cases = [(Q, 8), (Q[:5], 2), (K[:7, :12], 3)]
check(split_heads, reference_split, cases=cases)

# %% [markdown]
# We go on with the reference, which cuts between columns:

# %%
query, key, value = (reference_split(matrix, num_heads) for matrix in (Q, K, V))
query.shape, key.shape, value.shape

# %% [markdown]
# ## Scores
#
# Head 0 alone from here on. Its scores are the dot products of each query with each key:
# $128 \times 128 = 16\,384$ of them, each a sum of 64 products.
#
# $$S = Q K^\top \qquad (128 \times 64)\,(64 \times 128) \to (128 \times 128)$$

# %% alt="Queries and keys of head 0, 128 × 64 each, and their scores, 128 × 128."
q, k, v = query[0], key[0], value[0]
scores = q @ k.T
draw(Q=q, K=k, scores=scores)
scores.shape, float(scores.min()), float(scores.max()), float(scores.std())

# %% [markdown]
# Queries and keys keep within ±4.5 or so; the scores run from −34 to 36, with a standard
# deviation of 8.03. Remember that 8.
#
# ## Scaled, softmax, weighted sum
#
# Divide by $\sqrt{64} = 8$, take the softmax of each row, multiply by the values:
#
# $$W = \operatorname{softmax}\!\left(\frac{S}{\sqrt{64}}\right) \qquad
# \text{output} = W V \qquad (128 \times 128)\,(128 \times 64) \to (128 \times 64)$$


# %%
def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


weights = softmax(scores / np.sqrt(d))
output = weights @ v
weights.shape, output.shape, float(weights.max())

# %% [markdown]
# `atento.trace` does the same for all eight heads and keeps each step. Do they agree?

# %%
trace = atento.trace(query, key, value)
assert np.allclose(trace["scores"].value[0], scores)
assert np.allclose(trace["weights"].value[0], weights)
assert np.allclose(trace.output[0], output)
print(trace)

# %% [markdown]
# And here is the whole head, from left to right. Under each matrix stand its shape and its
# smallest and largest number.

# %% alt="All steps of head 0, joined by arrows: queries, keys and values of 128 × 64, scores, scaled scores and weights of 128 × 128, and an output of 128 × 64 with vertical stripes."
figure, axes = plt.subplots(figsize=(9, 4.7))
_ = atento.plot(trace, "steps", head=0, ax=axes, title="")

# %% [markdown]
# Follow the arrows. Queries and keys meet in the scores; the scaled scores look just the same,
# since only the numbers under them changed, from −34 … 36 to −4.2 … 4.5; softmax leaves pale
# blue with some darker dots, none above 0.27. The values wait below until the very end. In the
# output vertical stripes have appeared: every row is a mean of the same 128 values, so all rows
# resemble each other. How much the values spread, and how much their means:

# %%
float(v.std()), float(output.std())

# %% [markdown]
# From 1.006 down to 0.150. A mean over many independent numbers is smaller than each of them.
#
# To touch single numbers, here are the first twelve tokens of this head as a page. Point at a
# score and see its 64 products; point at a weight and see the exponentials of its row.

# %% tags=["varies"]
atento.show(atento.trace(query[:1, :12], key[:1, :12], value[:1, :12]))

# %% [markdown]
# ## Why √64?
#
# The scores had a standard deviation of 8.03, and we divided by 8. That is no accident. Let
# $q_i$ and $k_i$ be independent, with mean 0 and variance 1. Their product has variance 1 as
# well, and variances of independent terms add up:
#
# $$\operatorname{Var}(q \cdot k) = \operatorname{Var}\Big(\sum_{i=1}^{d} q_i k_i\Big)
# = \sum_{i=1}^{d} \operatorname{Var}(q_i k_i) = d$$
#
# So scores spread like $\sqrt d$, and dividing by it brings them back to 1, however wide the
# head. Don't believe it, measure it:


# %%
def variance_of_scores(d):
    q, k = rng.standard_normal((2, 4000, d))
    return (q * k).sum(axis=-1).var()


widths = np.array([4, 16, 64, 256, 1024])
variances = np.array([variance_of_scores(d) for d in widths])
variances / widths

# %% alt="Variance of the scores against d, both axes logarithmic: the points lie on the line on which the variance is d."
figure, axes = plt.subplots(figsize=(5, 3))
axes.loglog(widths, variances, "o", label="Var(q · k)")
axes.loglog(widths, widths, "-", label="d")
axes.set(xlabel="d")
_ = axes.legend()

# %% [markdown]
# The dots lie on the line: over a range of 256 the variance is $d$ to within a few per cent. In
# our own head, where queries and keys were computed from tokens, it holds just as well, and
# after dividing it is 1:

# %%
float(scores.var()), float((scores / np.sqrt(d)).var())

# %% [markdown]
# **Your turn.** With 16 heads instead of 8, the same 512 numbers leave 32 for each. What would
# the standard deviation of the scores be before scaling?

# %% tags=["question"]
answer = None

# %%
check(answer, np.sqrt(32), tolerance=0.01)

# %% [markdown]
# ## What softmax makes of large scores
#
# Suppose we forget to divide. Softmax looks at differences: a score that is ahead by 8 gets
# $e^8 \approx 3000$ times the weight. With a spread of 8 somebody is always far ahead. Here are
# the weights of both heads on the same scale of colours, from 0 to 1:

# %% alt="Weights of 128 queries over 128 keys, twice: divided by the root of 64, pale everywhere; undivided, one or two dark cells in almost every row."
unscaled = softmax(scores)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for axes, one, name in ((left, weights, "/ √64"), (right, unscaled, "/ 1")):
    axes.imshow(one, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(name)

# %% [markdown]
# Left, with $\sqrt{64}$: hardly a trace of colour, since every key gets a little. Right, without:
# most rows have one or two dark cells, and nothing else. A number that says this in one word is the **entropy** of a row,
#
# $$H = -\sum_j w_j \ln w_j .$$
#
# It is 0 where one key has all the weight, and $\ln 128 = 4.85$ where all 128 have the same.
# $e^H$ reads as "how many tokens the query looks at".
#
# `atento.survey` computes such statistics without keeping the weights. It takes queries and
# keys; to ask it about a matrix of weights, we hand it scores whose softmax they are: their
# logarithms, with the identity as keys.


# %%
def reference_entropy(weights):
    identity = np.eye(weights.shape[-1])
    logarithms = np.log(np.maximum(weights, 1e-300))
    return atento.survey(logarithms, identity, identity, scale=1.0)["entropy"]


reference_entropy(np.array([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]]))

# %% [markdown]
# 0 for the row that is sure, $\ln 4 = 1.386$ for the even one.
#
# **Your turn.** Write it yourself for a matrix of weights, one entropy per row. A weight may be
# exactly 0; then $w \ln w$ counts as 0, which is its limit, but NumPy says `nan`. (`np.where`, or
# a `np.maximum` inside the logarithm, helps.)


# %% tags=["question"]
def entropy(weights):
    return ...


# %%
even, sure = np.full((2, 128), 1 / 128), np.eye(5)
check(entropy, reference_entropy, cases=[(weights,), (unscaled,), (even,), (sure,)])

# %% [markdown]
# Now head 0 with and without the scale, query by query. `survey` takes it straight from queries
# and keys:

# %% alt="Entropy of the weights, query by query: with the scale just below the dotted line at ln 128 = 4.85, without it always below 2."
with_scale = atento.survey(query[:1], key[:1], value[:1])
without = atento.survey(query[:1], key[:1], value[:1], scale=1.0)

figure, axes = plt.subplots(figsize=(7, 3))
axes.axhline(np.log(T), color="grey", linestyle=":", label="ln 128")
axes.plot(with_scale["entropy"][0], label="/ √64")
axes.plot(without["entropy"][0], label="/ 1")
axes.set(ylim=(0, 5), ylabel="H")
_ = axes.legend(loc="center right")

# %%
means = np.array([with_scale["entropy"].mean(), without["entropy"].mean()])
means, np.exp(means)

# %% [markdown]
# Blue stays not far below the dotted line at 4.85; orange keeps to the bottom and never gets to
# 2. The means are 4.36 with the scale, of 4.85 that are possible: a query looks at about 78 of the 128 tokens.
# 0.59 without: at fewer than two. A head that has learnt nothing yet would already have made up
# its mind, at random.
#
# And it would find it hard to change it. When a score moves a little, its weight moves by
# $w_j (1 - w_j)$ times as much. Where a weight is near 0 or near 1, next to nothing happens, and
# no gradient flows. Added up over a row that is $1 - \sum_j w_j^2$; the mean over all rows:

# %%
movable = np.array([(w * (1 - w)).sum(axis=-1).mean() for w in (weights, unscaled)])
decided = np.array([(w.max(axis=-1) > 0.5).mean() for w in (weights, unscaled)])
movable, decided

# %% [markdown]
# 0.98 against 0.29. Without the scale, 88% of the queries have given more than half of their
# weight to a single key; with it, none. This is what the authors of the paper suspected in a
# single sentence ("pushing the softmax function into regions where it has extremely small
# gradients"), and why the $\sqrt{d}$ is there.
#
# ## Eight heads, and back to 512
#
# Each head has made 64 numbers for each token. Side by side they are 512 again, and one more
# matrix mixes what the heads found:
#
# $$\text{output} = [\text{head}_0 \ \dots\ \text{head}_7]\; W_o
# \qquad (128 \times 512)\,(512 \times 512) \to (128 \times 512)$$

# %% alt="The outputs of the eight heads side by side, 128 × 512, and what the last matrix makes of them, 128 × 512 again."
concatenated = trace.output.swapaxes(0, 1).reshape(T, d_model)
mixed = concatenated @ W_output
draw(heads=concatenated, output=mixed)
x.shape, mixed.shape

# %% [markdown]
# What comes out has the shape of what went in, so that it can be added to the tokens and handed
# to the next layer. And since head 0 fills the first 64 columns, it meets the first 64 rows of
# $W_o$ and no others. So the product can be cut into eight, one for each head, and the layer's
# output is simply their sum:

# %%
rows = W_output.reshape(num_heads, d, d_model)
by_head = trace.output @ rows
by_head.shape, np.allclose(by_head.sum(axis=0), mixed)

# %% [markdown]
# That is why one can speak of what a single head does, and switch one off (lesson 6). Here are
# the weights of all eight:

# %% alt="Small maps of the weights of the eight heads: the same pale noise in each."
figure, axes = plt.subplots(figsize=(9, 1.7))
_ = atento.plot(trace, "grid", ax=axes)

# %% [markdown]
# Eight times the same pale noise. That is what heads look like before training: each has its own
# random matrices, and none has a habit. Trained heads look nothing like it, as lesson 6 shows.
#
# ## What you now know
#
# - One head of the original size: 128 × 512 tokens, maps to 128 × 64 queries, keys and values,
#   128 × 128 scores and weights, 128 × 64 output; eight of them make 128 × 512 again.
# - Heads are blocks of columns. Give them an axis by splitting columns, never by a bare reshape
#   to the wanted shape.
# - The variance of a dot product is its number of terms. Dividing by $\sqrt d$ makes it 1,
#   whatever the width of the head.
# - Without it the softmax picks one or two keys at random (0.59 nats in place of 4.36) and lets
#   hardly any gradient through.
#
# **Try next.** Draw `x` with a variance of 4 in place of 1: what becomes of the scores, and of
# the entropy? What would undo it? (Some models normalise queries and keys for this very reason.)
# Replace `num_heads` by 1 or by 64 and look at the step strip again. Lesson 5 puts such a layer
# into a Transformer and trains it.
#
# **Sources.** Vaswani et al. 2017, *Attention Is All You Need* (arXiv 1706.03762): section 3.2.1
# and its footnote 4 for the variance of the scores, section 3.2.2 for the heads and their
# sizes. Dehghani et al. 2023 (arXiv 2302.05442), section 2, for what large
# scores do to the entropy of attention, and the normalisation that keeps them small.
