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
# # 1 · From dictionary to attention
#
# A Python dictionary finds a word or fails. Attention never fails: it answers with a mean of
# everything it knows, weighted by how near each thing is. In this lesson you walk from the
# one to the other in small steps, until the equation of attention stands in your own code and
# gives the same numbers as `atento`.
#
# About 20 minutes. You need a little Python and NumPy; no torch, no download beyond the
# packages that the first cell installs if they are missing. Some cells ask you something:
# write your answer in place of `None` or `...` and run the cell after it.

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
import warnings

import matplotlib.pyplot as plt
import numpy as np

import atento
from atento.lessons import check

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
# ## An exact look-up
#
# Four words, each with a number. The words are Spanish: *méxico*, *alemania* (Germany),
# *inglaterra* (England) and *perro* (dog). Think of the numbers as anything you like, say how
# well each one did in some tournament.

# %%
numbers = {"méxico": 7, "alemania": 10, "inglaterra": 8, "perro": 5}
numbers["méxico"]

# %% [markdown]
# The dictionary compares *méxico* with its keys, finds one that is the same, and hands over
# its value: 7. Ask it for *país* (country) and it has nothing to say, although three of its
# four keys are countries:

# %%
print("país" in numbers)

# %% [markdown]
# Let's write the look-up in another way. Put the values in a row, and give each key a
# **weight**: 1 for the key that was asked for, 0 for all others. Multiply and add.

# %%
keys = list(numbers)
values = np.array(list(numbers.values()), dtype=float)
weights = np.array([1.0, 0.0, 0.0, 0.0])
float(weights @ values)

# %% [markdown]
# The same 7. A look-up in a dictionary is a weighted sum in which one weight is 1. Nothing
# obliges us to keep it that way.
#
# ## Weights by hand
#
# For *país*, let the three countries share most of the weight and leave a little to the dog:
#
# $$0.30 \cdot 7 + 0.30 \cdot 10 + 0.30 \cdot 8 + 0.10 \cdot 5 = 8.0$$

# %%
weights = np.array([0.30, 0.30, 0.30, 0.10])
float(weights @ values)

# %% [markdown]
# Three words come from here and stay until the last lesson. What you ask with is the
# **query**. What it is compared with are the **keys**. What you get a mean of are the
# **values**. The weights say how much of each value you take; none is negative, and together
# they make 1.
#
# **Your turn.** Ask for *Europe*: half of the weight on *alemania*, half on *inglaterra*,
# nothing on the others. What is the answer?

# %% tags=["question"]
answer = None

# %%
check(answer, np.array([0.0, 0.5, 0.5, 0.0]) @ values)

# %% [markdown]
# ## Where do the weights come from?
#
# We made those weights up. To compute them, words must become something that can be compared:
# **vectors**, lists of numbers, also called *embeddings*. Two steps then lead from vectors to
# weights.
#
# 1. The **score** of a key is its dot product with the query, $q \cdot k = \sum_i q_i k_i$:
#    large where both point the same way.
# 2. The **softmax** turns scores into weights. Exponentials make all of them positive, and
#    dividing by their sum makes them add up to 1:
#
# $$w_j = \frac{e^{s_j}}{\sum_i e^{s_i}}$$
#
# Try it with vectors drawn at random, 16 numbers for each word:

# %%
rng = np.random.default_rng(0)
query = rng.standard_normal(16)
key = rng.standard_normal((4, 16))

scores = key @ query
weights = np.exp(scores) / np.exp(scores).sum()
dict(zip(keys, weights.round(4).tolist(), strict=True)), float(weights @ values)

# %% [markdown]
# *méxico* gets 94% of the weight and the answer is 6.93. Sounds like an answer. Now draw the
# vectors again, seven more times:


# %%
def answer_at_random(seed):
    rng = np.random.default_rng(seed)
    query = rng.standard_normal(16)
    key = rng.standard_normal((4, 16))
    weights = np.exp(key @ query) / np.exp(key @ query).sum()
    return weights @ values


np.array([answer_at_random(seed) for seed in range(8)])

# %% [markdown]
# From 5.07, almost the dog's own number, to 9.51, almost Germany's. The computation is right
# each time, and means nothing: in random vectors *país* is no nearer to *méxico* than to
# *perro*.
#
# **Your turn.** Whatever the scores are, can this sum of weights times values ever give 12?
# Answer `True` or `False`.

# %% tags=["question"]
answer = None

# %%
check(answer, bool(values.max() >= 12))

# %% [markdown]
# ## Vectors that know something
#
# What is missing are vectors that learnt from use which words are alike. `atento` brings a
# small language model with it, `mini`, which reads English and Spanish, and a dictionary that
# asks it: `atento.SoftDict`. With a key that is there, it is a dictionary like any other.

# %%
lookup = atento.SoftDict(numbers)
lookup["méxico"]

# %% [markdown]
# With any other word, `attend` gives the weighted mean, and says where the weight went:

# %%
match = lookup.attend("país")
match.value, dict(match.weights)

# %% [markdown]
# 8.286. The weights were not given by hand this time, yet the dog has next to nothing
# (0.002%) and the three countries share the rest: 55%, 24% and 20%. Ask in English, or for an
# animal:

# %%
lookup.attend(["country", "animal", "gato", "europa"])

# %% [markdown]
# *country* goes to the countries and *animal* and *gato* (cat) to the dog. *europa* goes
# wrong: 51% for the dog. `mini` is small and has no good idea of what Europe is, and nothing in
# the answer gives that away. Attention is a mean over what the vectors know, no wiser than they
# are.
#
# Nothing in this is hidden. The match keeps every step, and the scores are dot products as
# before. Here they are cosines, since `mini`'s vectors have length 1:

# %%
steps = match.trace()
cosines = steps["scores"].value[0]
steps["keys"].value.shape, dict(zip(keys, cosines.round(3).tolist(), strict=True))

# %% [markdown]
# Four keys of 128 numbers each. *inglaterra* is nearest to *país*, with a cosine of 0.84;
# *perro* points the other way, −0.168. `SoftDict` divides the cosines by a *temperature* of
# 0.1 and takes the softmax. Do it by hand:

# %%
weights = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum()
assert np.isclose(weights @ values, match.value)
weights, float(weights @ values)

# %% [markdown]
# The next cell shows the same steps as a page that you can explore: point at a number, or go
# to it with the arrow keys, and it tells what it was computed from. Read it from top to bottom:
# query, keys, values, scores, weights, and at the end 8.2858. Point at the weight of
# *inglaterra* and keep in mind what it says about the maximum: we will need it soon.

# %% tags=["varies"]
atento.show(match)

# %% [markdown]
# ## Hot and cold
#
# The temperature $T$ divides the scores before the softmax. Let's see what it does to the
# four weights:

# %% alt="Weights of the four words against the temperature T, from 0.005 to 50: where it is cold, inglaterra has everything; where it is hot, all four meet at 0.25."
temperatures = np.geomspace(0.005, 50, 60)
shares = [lookup.attend("país", temperature=T).weights for T in temperatures]

figure, axes = plt.subplots(figsize=(6, 3))
for name in keys:
    axes.semilogx(temperatures, [share[name] for share in shares], label=name)
axes.set(xlabel="T", ylim=(0, 1))
axes.legend()
plt.show()

# %% [markdown]
# Towards the right, where it is hot, all four lines meet at 0.25: everything counts the same,
# and the answer is the plain mean, 7.5. Towards the left, where it is cold, *inglaterra* takes
# everything. In between lies attention. And at $T = 0$ the dictionary of the beginning is
# back: only the nearest key counts.

# %%
lookup.attend("méxico", temperature=0).value

# %% [markdown]
# ## The equation
#
# A model asks many questions at once. Stack the queries as rows of a matrix $Q$, the keys as
# rows of $K$, and let each value be a vector too, a row of $V$. Then all scores together are
# one matrix product, and all answers another:
#
# $$\text{attention}(Q, K, V) =
# \operatorname{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V$$
#
# $d$ is how many numbers a query has. $\sqrt{d}$ plays the part of the temperature; lesson 4
# shows why it is just that. Softmax is taken of each row alone.
#
# Follow the shapes, here with two queries, four keys, $d = 3$ and values of two numbers:

# %%
query, key = rng.standard_normal((2, 3)), rng.standard_normal((4, 3))
value = rng.standard_normal((4, 2))

scores = query @ key.T
exponentials = np.exp(scores / np.sqrt(3))
weights = exponentials / exponentials.sum(axis=-1, keepdims=True)
output = weights @ value
scores.shape, weights.shape, output.shape

# %% [markdown]
# Scores and weights have a row for each query and a column for each key; the output has a row
# for each query, as long as a value. Each row of weights adds up to 1:

# %%
weights.sum(axis=-1)

# %% [markdown]
# ## Why the obvious softmax breaks
#
# This is the formula, word for word:


# %%
def naive_softmax(scores):
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


naive_softmax(np.array([1.0, 2.0, 3.0]))

# %% [markdown]
# Good. Now add 1000 to each score. Softmax should not care: the factor $e^{1000}$ stands above
# and below the fraction bar, and cancels.

# %%
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    broken = naive_softmax(np.array([1001.0, 1002.0, 1003.0]))

[str(warning.message) for warning in caught], broken

# %% [markdown]
# $e^{1001}$ is larger than any number that a computer holds in 64 bits, so it becomes infinite,
# and infinity divided by infinity is *not a number*. The warning is easy to miss; the `nan`
# then spreads through everything that is computed from it. How large may a score be? That
# depends on how many bits its number has:

# %%
for dtype in (np.float16, np.float32, np.float64):
    print(f"{dtype.__name__}: {np.log(float(np.finfo(dtype).max)):.2f}")

# %% [markdown]
# Models compute in 16 or 32 bits, and scores of 20 or 100 are nothing unusual in them. Far below
# zero it ends the same way: $e^{-1000}$ is 0, and $0/0$ is `nan` again.
#
# **Your turn.** A score is 100. In which of the three does the obvious softmax still work?
# Write its name as a text: `"float16"`, `"float32"` or `"float64"`.

# %% tags=["question"]
answer = None

# %%
check(answer, "float64")

# %% [markdown]
# The way out is that very cancellation. Subtract the largest score $m$ of the row from all of
# them first:
#
# $$\frac{e^{s_j - m}}{\sum_i e^{s_i - m}}
# = \frac{e^{-m}\, e^{s_j}}{e^{-m} \sum_i e^{s_i}}
# = \frac{e^{s_j}}{\sum_i e^{s_i}}$$
#
# The weights are the same, and now the largest exponent is 0: no exponential exceeds 1, and
# the sum is at least 1, so nothing overflows and nothing is divided by 0.
#
# You will write it in a moment. To check it we need a softmax that is known to be right, and
# `atento` has one inside. With keys and values that are the identity matrix, and nothing to
# divide by, $Q K^\top = Q$ and the output is the weights themselves. So this *is* a softmax:


# %%
def reference_softmax(scores):
    identity = np.eye(scores.shape[-1])
    return atento.attention(scores, identity, identity, scale=1.0)


small = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 5.0]])
reference_softmax(small)

# %% [markdown]
# **Your turn.** Write the softmax with the maximum subtracted. Scores come as a matrix, one row
# per query, and each row has its own maximum. (`scores.max(axis=-1, keepdims=True)` keeps the
# column in which the maxima stand.)


# %% tags=["question"]
def softmax(scores):
    return ...


# %%
check(softmax, reference_softmax, cases=[(small,), (small + 1000,), (-900 * small,)])

# %% [markdown]
# ## The whole equation, yours
#
# **Your turn.** Put it together: scores, divided by $\sqrt{d}$, softmax, times values. Write it
# so that this cell does not depend on the one above. It is checked against `atento` with queries
# of ordinary size, with queries a thousand times as large, and with as many keys as features,
# where an axis that was mixed up goes unnoticed by shapes.


# %% tags=["question"]
def attention(query, key, value):
    return ...


# %%
square = rng.standard_normal((3, 3))
cases = [
    (query, key, value),
    (1000 * query, key, value),
    (square, square + 1, square),
]
check(attention, atento.attention, cases=cases)

# %% [markdown]
# If it says *right*, you have written attention.
#
# One thing `atento.attention` does that a few lines of NumPy don't: it looks at what you give
# it. Here the queries have 3 numbers and the keys 2, so there is no dot product between them:

# %%
try:
    atento.attention(query, key[:, :2], value)
except atento.ShapeError as error:
    print(error)

# %% [markdown]
# ## What you now know
#
# - A look-up in a dictionary is a weighted sum whose weights are one 1 and many 0s; attention
#   lets them be anything between.
# - Weights are the softmax of scores, and scores are dot products of a query with the keys.
# - The vectors carry the meaning. With random ones the computation is right and says nothing.
# - Softmax needs the largest score subtracted first, or it overflows: at 89 in 32 bits.
# - $\operatorname{softmax}(Q K^\top / \sqrt d)\, V$ is four lines of NumPy.
#
# **Try next.** Put words of your own into a `SoftDict`. What are `attend` and `temperature` good
# for with numbers as keys, `atento.SoftDict({1.0: 10, 2.0: 20, 4.0: 40}).attend(3.0)`? In
# lesson 2 a sentence looks at itself.
#
# **Sources.** Vaswani et al. 2017, *Attention Is All You Need* (arXiv 1706.03762), section
# 3.2.1, for the equation. Bahdanau, Cho and Bengio 2014 (arXiv 1409.0473), section 3, for
# attention as a weighted mean that a network learns. Milakov and Gimelshein 2018 (arXiv
# 1805.02867), section 2, for the softmax with its maximum subtracted.
