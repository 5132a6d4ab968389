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
# # 2 · Self-attention by hand
#
# Six tokens, three numbers each, small enough to check every product on paper. They attend to
# each other four times in this lesson: with nothing learned, with trainable weights, without
# looking ahead, and with two heads. Each time the numbers are compared with published ones,
# from chapter 3 of Sebastian Raschka's *Build a Large Language Model (From Scratch)*.
#
# About 25 minutes. You need lesson 1 (or the equation of attention from somewhere else) and a
# little PyTorch. Nothing is trained here, and nothing is downloaded beyond missing packages.

# %% tags=["setup"]
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

missing = [name for name in ("atento", "matplotlib", "torch") if find_spec(name) is None]
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
import torch
from torch import nn

import atento
from atento.lessons import check
from atento.masks import Causal
from atento.nn import (
    CausalSelfAttention,
    MultiHeadAttention,
    SelfAttention,
    SimplifiedSelfAttention,
)

torch.set_grad_enabled(False)
torch.set_printoptions(precision=4, sci_mode=False)

# %% [markdown]
# ## Six tokens
#
# A sentence enters a model as one vector per token. Real models use hundreds of numbers for
# each; here it is three:

# %%
words = ["Your", "journey", "starts", "with", "one", "step"]
x = torch.tensor(
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ]
)

# %% [markdown]
# On its own, the vector of *starts* says what *starts* means anywhere. A model needs to know
# what it means **here**, after *journey* and before *with one step*. Networks that read one
# word after another carry what they have read in a single state, and by the end of a long
# sentence its beginning has worn away (lesson 3 measures that). Attention lets each token look
# at all others directly, however far away they are.
#
# When queries, keys and values all come from the same sentence, that is **self-attention**. Its
# answer for a token is called its **context**: a vector that says what the token means among
# its neighbours.
#
# To compare with the book we need to say what equal means. It prints four decimals, so half of
# the last one is the tolerance:


# %%
def agrees(computed, published):
    return torch.allclose(computed, torch.tensor(published), rtol=0, atol=5.1e-5)


# %% [markdown]
# ## Simplified: nothing learned
#
# Let a token be its own query, key and value. Take the second, *journey*, as the query. Its
# score with each token is a dot product; with *Your*, for instance,
# $0.55 \cdot 0.43 + 0.87 \cdot 0.15 + 0.66 \cdot 0.89 = 0.9544$. All six at once:

# %%
scores = x @ x[1]
assert agrees(scores, [0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865])
scores

# %% [markdown]
# Highest for *journey* itself, 1.4950, and close behind for *starts*, whose vector is almost
# the same. To make weights of them, one could divide by their sum:

# %%
assert agrees(scores / scores.sum(), [0.1455, 0.2278, 0.2249, 0.1285, 0.1077, 0.1656])
scores / scores.sum()

# %% [markdown]
# They add up to 1, but only because no score is negative. With scores 1 and −1 the sum is 0 and
# there is nothing to divide by. Softmax has no such trouble:

# %%
weights = torch.softmax(scores, dim=-1)
assert agrees(weights, [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581])
weights

# %% [markdown]
# The context of *journey* is the mean of all six vectors with these weights: 24% of itself, 23%
# of *starts*, 16% of *step*, and less of the others.

# %%
context = weights @ x
assert agrees(context, [0.4419, 0.6515, 0.5683])
context

# %% [markdown]
# **Your turn.** Write the same for any token: `x` is the matrix of all tokens, `token` the
# number of one, counted from 0. It is tried with this sentence, and with vectors twice as
# long.


# %% tags=["question"]
def context_of(token, x):
    return ...


# %%
def reference_context(token, x):
    return SimplifiedSelfAttention()(x)[token]


check(context_of, reference_context, cases=[(0, x), (3, x), (5, 2 * x)])

# %% [markdown]
# Nobody computes token by token. With all tokens as queries, the scores are one matrix,
# $X X^\top$, with a row for each query and a column for each key, and softmax works along the
# rows:

# %%
weights = torch.softmax(x @ x.T, dim=-1)
published = [
    [0.2098, 0.2006, 0.1981, 0.1242, 0.1220, 0.1452],
    [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581],
    [0.1390, 0.2369, 0.2326, 0.1242, 0.1108, 0.1565],
    [0.1435, 0.2074, 0.2046, 0.1462, 0.1263, 0.1720],
    [0.1526, 0.1958, 0.1975, 0.1367, 0.1879, 0.1295],
    [0.1385, 0.2184, 0.2128, 0.1420, 0.0988, 0.1896],
]
assert agrees(weights, published)
weights

# %% [markdown]
# And the contexts of all six:

# %%
contexts = weights @ x
published = [
    [0.4421, 0.5931, 0.5790],
    [0.4419, 0.6515, 0.5683],
    [0.4431, 0.6496, 0.5671],
    [0.4304, 0.6298, 0.5510],
    [0.4671, 0.5910, 0.5266],
    [0.4177, 0.6503, 0.5645],
]
assert agrees(contexts, published)
contexts

# %% [markdown]
# `atento` has this as a module that also keeps the steps. Its picture of the weights has a row
# for each query; the darker a cell, the larger the weight.

# %% alt="Weights of the simplified attention, a row for each of six queries: the columns of journey and starts are dark, those of with and one pale."
simplified = SimplifiedSelfAttention().trace(x)
assert torch.allclose(simplified.output, contexts)
figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
_ = atento.plot(simplified, ax=axes, tokens=words)

# %% [markdown]
# Look at the third row. *starts* gives 0.2369 to *journey* and 0.2326 to itself: more to its
# neighbour than to itself, since *journey* points the same way and has the longer vector. The
# columns of *with* and *one* are pale, for short vectors get low scores from nearly everybody
# (*one* itself is the exception). All this follows from the
# vectors as they are. Nothing can be tuned, and no token can look for anything but what is like
# itself. That is what the next step changes.
#
# ## Trainable: a map for each part to play
#
# As a query, a token should say what it is looking for; as a key, what it can be found by; as a
# value, what it has to tell. So each role gets a matrix of its own, which training can change:
#
# $$Q = X W_q \qquad K = X W_k \qquad V = X W_v \qquad
# \text{contexts} = \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$
#
# Here they take three numbers to $d = 2$. They start at random; the seed makes them those of
# the book.

# %%
torch.manual_seed(123)
W_query, W_key, W_value = (torch.rand(3, 2) for _ in range(3))
query, key, value = x @ W_query, x @ W_key, x @ W_value
query.shape, key.shape, value.shape

# %%
weights = torch.softmax(query @ key.T / 2**0.5, dim=-1)
published = [
    [0.2996, 0.8053],
    [0.3061, 0.8210],
    [0.3058, 0.8203],
    [0.2948, 0.7939],
    [0.2927, 0.7891],
    [0.2990, 0.8040],
]
assert agrees(weights @ value, published)
weights[1], weights @ value

# %% [markdown]
# Contexts now have two numbers, as values do. *journey* gives itself 0.2264 and *starts*
# 0.2199: at random, the matrices did not change the picture much. Here are all steps; point at
# a number to see what it was made of.

# %% tags=["varies"]
atento.show(atento.explain(query=query, key=key, value=value, names=words))

# %% [markdown]
# **Your turn.** Write it as one function of tokens and three matrices. $\sqrt d$ must follow
# from the matrices, not be a 2 that you typed.


# %% tags=["question"]
def self_attention(x, W_query, W_key, W_value):
    return ...


# %%
def reference(x, W_query, W_key, W_value):
    return atento.attention(x @ W_query, x @ W_key, x @ W_value)


wide = [torch.rand(3, 5) for _ in range(3)]
cases = [(x, W_query, W_key, W_value), (x, *wide), (x[:2], wide[0], wide[1], W_value)]
check(self_attention, reference, cases=cases)

# %% [markdown]
# In PyTorch one lets `nn.Linear` hold such a matrix, because it starts with numbers of a size
# that trains well. `atento.nn.SelfAttention` does so too, in the same order as the book, and
# so the same seed gives the same contexts:

# %%
torch.manual_seed(789)
published = [
    [-0.0739, 0.0713],
    [-0.0748, 0.0703],
    [-0.0749, 0.0702],
    [-0.0760, 0.0685],
    [-0.0763, 0.0679],
    [-0.0754, 0.0693],
]
head = SelfAttention(3, 2)
assert agrees(head(x), published)
head(x)

# %% [markdown]
# All rows are nearly alike. Smaller matrices make smaller scores, so all weights lie near
# 1/6 and every context is nearly the plain mean of the values. Training would have to pull
# them apart.
#
# ## Causal: no looking ahead
#
# A language model learns to guess the next token. If *journey* may look at *starts*, there is
# nothing left to guess. So each token is allowed to see itself and what came before:

# %%
allowed = torch.ones(6, 6, dtype=torch.bool).tril()
allowed.int()

# %% [markdown]
# 1 means "may look": the second row, *journey*, sees the first two tokens. There are two ways
# to apply it. Either set forbidden weights to 0 and divide each row by what is left; or set
# forbidden **scores** to $-\infty$ before the softmax, and $e^{-\infty} = 0$ does the rest.

# %%
scaled = head.trace(x)["scaled"].value
after = torch.softmax(scaled, dim=-1) * allowed
after = after / after.sum(dim=-1, keepdim=True)

before = torch.softmax(scaled.masked_fill(~allowed, -torch.inf), dim=-1)
assert torch.allclose(after, before)
assert agrees(before[1], [0.5517, 0.4483, 0.0, 0.0, 0.0, 0.0])
before

# %% [markdown]
# The same weights, and the second way needs one softmax and no division of its own. The first
# row is 1 and zeros: *Your* sees nothing but itself. The second is the book's, 0.5517 and
# 0.4483.
#
# **Your turn.** How many of the 36 weights are 0?

# %% tags=["question"]
answer = None

# %%
check(answer, int((before == 0).sum()))

# %% [markdown]
# In `atento` the mask is a rule, `Causal()`. `CausalSelfAttention` is `SelfAttention` with that
# rule. In the picture, hatched cells are those that may not be seen.

# %% alt="Causal weights of the six tokens: a triangle, hatched above the diagonal; the first row has all of its weight on Your."
torch.manual_seed(123)
published = [
    [-0.4519, 0.2216],
    [-0.5874, 0.0058],
    [-0.6300, -0.0632],
    [-0.5675, -0.0843],
    [-0.5526, -0.0981],
    [-0.5299, -0.1081],
]
causal = CausalSelfAttention(3, 2)
assert agrees(causal(x), published)
figure, axes = plt.subplots(figsize=(4.5, 4), layout="constrained")
_ = atento.plot(causal.trace(x), ax=axes, tokens=words)

# %% [markdown]
# Does the mask keep its promise? Replace the last word by something absurd. The first five
# contexts must not notice; not nearly, but to the last bit:

# %%
changed = x.clone()
changed[5] = torch.tensor([100.0, -100.0, 100.0])
torch.equal(causal(x)[:5], causal(changed)[:5]), torch.equal(causal(x), causal(changed))

# %% [markdown]
# ## Several heads
#
# One head makes one set of weights: each token gets one mixture of the others. But there may be
# more than one thing to look for, say who acts and what with. **Heads** are attentions side by
# side, each with queries, keys and values of its own.
#
# They need no more matrices. Take the two columns of $Q$ and give one to each head, and the
# same for $K$ and $V$. Each head attends with its slice, the contexts are put side by side
# again, and one more linear map mixes them. With the book's seed:

# %%
torch.manual_seed(123)
maps = [nn.Linear(3, 2, bias=False) for _ in range(3)]
mix = nn.Linear(2, 2)
query, key, value = (m(x).reshape(6, 2, 1).swapaxes(0, 1) for m in maps)
query.shape

# %% [markdown]
# The axes are now (head, token, number): two heads, six tokens, one number per head. Matrix
# products work on the last two axes, so the rest reads as before:

# %%
scores = query @ key.swapaxes(1, 2) / 1**0.5
weights = torch.softmax(scores.masked_fill(~allowed, -torch.inf), dim=-1)
contexts = (weights @ value).swapaxes(0, 1).reshape(6, 2)
contexts

# %% [markdown]
# Compare with the single causal head, which has the same seed and so the same matrices. The
# first rows are equal, −0.4519 and 0.2216: a token that sees only itself has one choice.
# From the second on they differ, since each head has weights of its own. Row 2 of each head:

# %%
weights[:, 1, :2]

# %% [markdown]
# 0.4776 and 0.5224 in one head, 0.4988 and 0.5012 in the other. The linear map at the end gives
# the book's contexts:

# %%
published = [
    [0.3190, 0.4858],
    [0.2943, 0.3897],
    [0.2856, 0.3593],
    [0.2693, 0.3873],
    [0.2639, 0.3928],
    [0.2575, 0.4028],
]
assert agrees(mix(contexts), published)
mix(contexts)

# %% [markdown]
# And as one module, with the steps by name. `contexts` and `concatenated` are those above.

# %%
torch.manual_seed(123)
heads = MultiHeadAttention(
    d_model=3,
    num_heads=2,
    head_dim=1,
    d_out=2,
    bias=False,
    output_bias=True,
    mask=Causal(),
)
steps = heads.trace(x)
assert agrees(steps.output, published)
print(steps)

# %% [markdown]
# **Your turn.** How many numbers does this layer learn in all?

# %% tags=["question"]
answer = None

# %%
check(answer, sum(parameter.numel() for parameter in heads.parameters()))

# %% [markdown]
# ## What you now know
#
# - In self-attention queries, keys and values come from the same tokens; the output is one
#   context per token.
# - Without anything learned, a token finds what is like itself. Three matrices give it a
#   question, a label and something to tell.
# - A causal mask sets scores to $-\infty$ before the softmax, and the future leaves no trace,
#   to the last bit.
# - Heads are slices of the same three matrices, each with weights of its own; one linear map
#   mixes what they found.
#
# **Try next.** Change one number of `x` and see which contexts move, with and without the mask.
# Swap two rows of `x` in the simplified attention: what happens to the contexts, and what does
# that say about the order of words? Lesson 3 shows why all this was worth inventing, lesson 4
# draws one head of the size that real models have.
#
# **Sources.** S. Raschka 2024, *Build a Large Language Model (From Scratch)*, sections 3.3 to
# 3.6, for the example and all its numbers. Vaswani et al. 2017 (arXiv 1706.03762), sections
# 3.2.1 (scaled dot products), 3.2.2 (heads) and 3.2.3 (the causal mask).
