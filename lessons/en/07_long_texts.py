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
# # 7 · Long texts
#
# The weights of 16,384 tokens fill a gigabyte, for one head. You derive the softmax that needs no
# whole row, write it in NumPy, measure the memory it saves, and then look around in a map of 134
# million weights that is never computed as a whole. About 25 minutes. You need the equation
# (lesson 1) and the causal mask (lesson 2); the last section uses PyTorch, which the first cell
# installs if it is missing.

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
import tracemalloc

import matplotlib.pyplot as plt
import numpy as np

import atento
from atento.lessons import check
from atento.masks import Causal
from atento.statistics import Overview

# %% [markdown]
# ## The matrix is the problem
#
# Queries, keys, values and output have a row for each token. The weights have one for each *pair* of
# tokens. In float32 a number takes 4 bytes, so the weights of one head take $4\,T^2$ bytes. Here in
# MB, beside the queries of the same head with 64 numbers each:

# %%
for tokens in (128, 4096, 16_384, 131_072):
    print(f"{tokens:7} {4 * tokens**2 / 1e6:9.1f} MB {4 * tokens * 64 / 1e6:5.1f} MB")

# %% [markdown]
# The left column grows by four whenever $T$ doubles, the right one by two. At 131,072 tokens the
# weights of *one* head take 69 GB. From how many tokens on is a memory of 16 GB ($16 \cdot 10^9$
# bytes) too small for one head? The nearest whole number will do.

# %% tags=["question"]
answer = None

# %%
check(answer, np.sqrt(16e9 / 4))

# %% [markdown]
# ## One row, a few keys at a time
#
# The output needs no weights to be *kept*: it is a sum over keys, and sums can be made bit by bit.
# What stands in the way is the softmax, which seems to need the whole row twice: once for the
# maximum $m$, which keeps the exponential from overflowing, once for the sum $\ell$:
#
# $$\text{output} = \frac{1}{\ell} \sum_j e^{s_j - m}\, v_j, \qquad
# m = \max_j s_j, \qquad \ell = \sum_j e^{s_j - m}$$
#
# Suppose some of the keys have passed, and we hold $m$, $\ell$ and the sum $o = \sum_j e^{s_j - m} v_j$
# over *these* keys. Now further keys come, with a larger maximum $m'$. Every exponential so far was
# taken relative to $m$ and should have been relative to $m'$. But $e^{s - m'} = e^{s - m} \cdot e^{m - m'}$,
# and the second factor is the same for all of them. So the sums are mended with one multiplication:
#
# $$m' = \max\left(m, \max_j s_j\right)$$
# $$\ell' = e^{m - m'}\,\ell + \sum_j e^{s_j - m'}$$
# $$o' = e^{m - m'}\,o + \sum_j e^{s_j - m'}\, v_j$$
#
# with $j$ over the new keys. We begin with $m = -\infty$, $\ell = 0$, $o = 0$; when all keys have passed,
# the output is $o / \ell$. This is the **online softmax**. In NumPy it is six lines.


# %%
def update(state, scores, values):
    m, total, summed = state
    new = np.maximum(m, scores.max(axis=-1, keepdims=True))
    factor, weights = np.exp(m - new), np.exp(scores - new)
    total = factor * total + weights.sum(axis=-1, keepdims=True)
    return new, total, factor * summed + weights @ values


# %% [markdown]
# We try it on the six tokens of lesson 2, "Your journey starts with one step". The scores are those of
# `journey` with all six (there, without a scale), and the values are the tokens themselves. One key at
# a time; each line shows $m$, $\ell$, and what the output would be if the text ended here.

# %%
tokens = [[0.43, 0.15, 0.89], [0.55, 0.87, 0.66], [0.57, 0.85, 0.64]]
tokens = np.array([*tokens, [0.22, 0.58, 0.33], [0.77, 0.25, 0.10], [0.05, 0.80, 0.55]])
scores = tokens @ tokens[1]
state = -np.inf, 0.0, 0.0
for i in range(6):
    state = update(state, scores[i : i + 1], tokens[i : i + 1])
    m, total, summed = state
    print(f"{m[0]:.4f} {total[0]:.4f}", (summed / total).round(4))

# %% [markdown]
# The second key raises the maximum from 0.9544 to 1.4950. So the sum so far, 1, is multiplied by
# $e^{0.9544 - 1.4950} = 0.5824$, and the new key adds $e^0 = 1$: 1.5824. After that no score is larger,
# and the factor is always 1. The last line is the context vector of lesson 2: 0.4419, 0.6515, 0.5683.
#
# ## Exercise: all of a row
#
# Write the loop for a row of any length and any block size. Use `update`, or write the three lines
# anew. The last case has scores up to 2,000, where $e^s$ alone would overflow.


# %% tags=["question"]
def online(scores, values, block): ...


# %%
def reference(scores, values, _):
    weights = np.exp(scores - scores.max())
    return weights @ values / weights.sum()


rng = np.random.default_rng(0)
rows = [(rng.standard_normal(n) * size, n) for n, size in ((6, 1), (50, 3), (101, 900))]
check(online, reference, cases=[(s, rng.standard_normal((n, 4)), 7) for s, n in rows])

# %% [markdown]
# ## All rows, and the mask
#
# Several queries at once are the same three lines with one more axis; `update` is written so that it
# takes them. What remains is two loops over blocks. With a causal mask, blocks above the diagonal
# hold nothing, and the inner loop stops early: they are not computed at all. Blocks on the diagonal
# are half hidden, and their hidden scores become $-\infty$.


# %%
def streaming(query, key, value, size=128):
    T, d = query.shape
    output, lse = np.empty_like(value), np.empty(T)
    for i in range(0, T, size):
        rows, state = slice(i, i + size), (-np.inf, 0.0, 0.0)
        for j in range(0, i + 1, size):
            scores = query[rows] @ key[j : j + size].T / np.sqrt(d)
            if i == j:
                scores[np.triu_indices_from(scores, 1)] = -np.inf
            state = update(state, scores, value[j : j + size])
        m, total, summed = state
        output[rows], lse[rows] = summed / total, (m + np.log(total))[:, 0]
    return output, lse


# %% [markdown]
# Besides the output we keep one number for each query, the **log-sum-exp**: $\text{lse} = m + \log \ell$.
# It will turn out to be the most useful number of this lesson. First, is all that correct? We compare
# with the dense formula, which holds the whole matrix.

# %%
query, key, value = rng.standard_normal((3, 1024, 32))
output, lse = streaming(query, key, value)
options = {"mask": Causal(), "engine": "dense", "return_lse": True}
dense_output, dense_lse = atento.attention(query, key, value, **options)
print(np.abs(output - dense_output).max() < 1e-12, np.abs(lse - dense_lse).max() < 1e-12)

# %% [markdown]
# Equal to twelve digits: this is not an approximation, only another order of summing. With 1,024
# tokens and blocks of 128 there are 8 × 8 blocks. How many of them did `streaming` compute?

# %% tags=["question"]
answer = None

# %%
check(answer, sum(range(1, 9)))

# %% [markdown]
# ## Exercise: put two halves together
#
# The keys may even be on two machines. Each computes attention over its own keys, and they exchange
# outputs and log-sum-exps. A softmax over half of the keys was divided by $e^{\text{lse}_1}$, and should
# have been divided by $e^{\text{lse}} = e^{\text{lse}_1} + e^{\text{lse}_2}$, so
#
# $$\text{output} = e^{\text{lse}_1 - \text{lse}}\,\text{output}_1 + e^{\text{lse}_2 - \text{lse}}\,\text{output}_2$$
#
# Write it. `np.logaddexp(a, b)` computes $\log(e^a + e^b)$ without overflow; the outputs have the shape
# (query, feature) and the log-sum-exps (query,).


# %% tags=["question"]
def merge(output1, lse1, output2, lse2): ...


# %%
halves = [
    atento.attention(query, key[part], value[part], return_lse=True)
    for part in (slice(0, 512), slice(512, None))
]
whole = atento.attention(query, key, value)
check(merge, lambda *_: whole, cases=[(*halves[0], *halves[1])])

# %% [markdown]
# With that line attention is shared out among devices (ring attention), and `atento` computes
# windows and packed documents from rectangles.
#
# ## Memory, measured
#
# Python's `tracemalloc` counts what NumPy allocates. We measure the peak of one call, for the dense
# formula and for the streaming engine, in MB.


# %%
def peak(engine, tokens):
    x = rng.standard_normal((3, tokens, 32), dtype=np.float32)
    tracemalloc.start()
    atento.attention(*x, mask=Causal(), engine=engine)
    found = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return found


# %% tags=["varies"]
lengths = [512, 1024, 2048, 4096]
peaks = {engine: [peak(engine, T) for T in lengths] for engine in ("dense", "streaming")}
for T, *found in zip(lengths, *peaks.values(), strict=True):
    print(f"{T:5}", *(f"{megabytes:7.1f}" for megabytes in found))

# %% tags=["varies"] alt="Peak memory in MB against the number of tokens T, both axes logarithmic: dense grows fourfold whenever T doubles, streaming stays almost level."
fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
for engine, marker in (("dense", "o"), ("streaming", "s")):
    ax.loglog(lengths, peaks[engine], marker=marker, label=engine)
ax.set(xlabel="T", ylabel="MB", xticks=lengths, xticklabels=lengths)
ax.minorticks_off()
_ = ax.legend()

# %% [markdown]
# On a machine with two cores the dense formula takes 3.5, 13.7, 54.6 and 218 MB: the weights, and more
# than twice as much again for the steps on the way to them. The streaming engine takes 2 to 4 MB,
# nearly all of it blocks that each thread uses again and again; more cores, more blocks. In the
# picture the upper line rises fourfold with each doubling of $T$, and the lower one is almost flat.
# What holds on any machine:

# %%
dense, stream = peaks["dense"], peaks["streaming"]
print(round(dense[-1] / dense[-2], 1), stream[-1] < 4 * lengths[-1] ** 2 / 1e6)

# %% [markdown]
# Four times the memory for twice the tokens, and streaming with less than the weights alone would
# take.
#
# ## Statistics without the matrix
#
# If the weights are never all there, how can we know what a head does? Once the log-sum-exp is
# known, any weight is final at once: $p_{ij} = e^{s_{ij} - \text{lse}_i}$. So a second pass over the blocks
# can fold whatever we like, and let each block go. The entropy, for one, is a weighted sum:
#
# $$H_i = -\sum_j p_{ij} \log p_{ij} = \text{lse}_i - \sum_j p_{ij}\, s_{ij}$$
#
# `atento.survey` does this. It returns output, log-sum-exp and statistics by name; we compare two of
# them with the matrix, which 1,024 tokens still allow.

# %%
found = atento.survey(query, key, value, mask=Causal())
weights = atento.trace(query, key, value, mask=Causal())["weights"].value
entropy = -np.sum(weights * np.log(np.maximum(weights, 1e-300)), axis=-1)
print(np.allclose(found["entropy"], entropy), np.allclose(found["max"], weights.max(-1)))
print(list(found))

# %% [markdown]
# ## Sixteen thousand tokens
#
# Now a head of 16,384 tokens, made by hand so that we know what is in it. Half of the features are
# waves: tokens at certain distances resemble each other. The other half is noise. And somewhere we
# hide a **needle**: one query and one key, far apart, that match perfectly. We don't print where.

# %%
T = 16_384
rng = np.random.default_rng(7)
angle = np.arange(T)[:, None] / 10_000 ** (np.arange(4) / 4)
wave = 2 * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
noise = rng.standard_normal((2, T, 8))
query, key = (np.concatenate([wave, n], axis=1).astype(np.float32) for n in noise)
value = rng.standard_normal((T, 16), dtype=np.float32)
needle = [int(rng.integers(T // 2, T)), int(rng.integers(T // 2))]
query[needle[0], 8:] = key[needle[1], 8:] = 3.2

# %% [markdown]
# One survey over it. `Overview(128)` pools the weights into 128 × 128 bins, each of 128 × 128 weights,
# and keeps two numbers for each bin: the mean and the maximum.

# %%
found = atento.survey(query, key, value, mask=Causal(), statistics=["entropy", Overview(128)])
kept = query.nbytes + key.nbytes + found.lse.nbytes
print(f"{kept / 1e6:.1f} MB {4 * T**2 / 1e6:.1f} MB", found["overview_mean"].shape)

# %% [markdown]
# Queries, keys and log-sum-exp take 2.2 MB, and all 1,073.7 MB of weights can be made from them. First
# the overview: left the means, right the maxima, both on a logarithmic scale.

# %% alt="Overview of 16,384 tokens by mean, left, and by maximum, right, black above the diagonal: slanted bands in both; on the right also a vertical line of dots near key 5700."
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for ax, pool in zip(axes, ("mean", "max"), strict=True):
    cells = np.log10(np.maximum(found[f"overview_{pool}"], 1e-6))
    image = ax.imshow(cells, extent=(0, T, T, 0), cmap="magma")
    ax.set_title(pool)
    fig.colorbar(image, ax=ax, shrink=0.8)

# %% [markdown]
# The part above the diagonal is black: nobody looks ahead. Left, smooth slanted stripes, the waves,
# and nothing else. Right, the same stripes, grainy, and a dotted vertical line near key 5,700: the key
# of the needle is longer than the others, so that its product with many queries is large.
# One of the dots is the needle.

# %% [markdown]
# ## The needle that the mean hides
#
# We look for the largest maximum away from the diagonal (where everybody looks at the near past), and
# ask how large the *mean* of that bin is, and how many bins have a larger one.

# %%
mean, most = found["overview_mean"], found["overview_max"]
far = np.tril(most, -3)
place = np.unravel_index(far.argmax(), far.shape)
print([int(i) for i in place], f"{most[place]:.4f} {mean[place]:.6f}", (mean > mean[place]).sum())

# %% [markdown]
# Bin (85, 44): a weight of 0.9999, practically all that one query has to give. The mean of the bin is
# 0.000132, because its other 16,383 weights are small, and 2,309 bins have a larger mean. Whoever
# draws a long map from means sees stripes and misses the needle. That is why `atento` keeps both.
#
# ## Exercise: any rectangle, on demand
#
# Which query and which key? For that we need the weights inside the bin, and only those. Write `tile`:
# it takes all queries, keys and log-sum-exps, and two slices, and computes that rectangle alone:
#
# $$\text{tile}_{ij} = \exp\!\left(\frac{q_i \cdot k_j}{\sqrt d} - \text{lse}_i\right)$$
#
# We only ask for rectangles below the diagonal, so the mask need not trouble you.


# %% tags=["question"]
def tile(query, key, lse, rows, cols): ...


# %%
few = [array[:600] for array in (query, key, value)]
small = atento.trace(*few, mask=Causal())["weights"].value
inside = [(slice(500, 600), slice(0, 70)), (slice(599, 600), slice(7, 8))]
few_lse = atento.survey(*few, mask=Causal()).lse
cases = [(*few[:2], few_lse, rows, cols) for rows, cols in inside]
check(tile, lambda *case: small[case[-2:]], cases=cases)

# %% [markdown]
# Bin (85, 44) covers the queries from $85 \cdot 128 = 10880$ on and the keys from $44 \cdot 128 = 5632$
# on, 128 of each. Compute it, and write down where its largest weight stands in the whole map, as
# `[query, key]`.

# %% tags=["question"]
answer = None

# %%
check(answer, needle)

# %% [markdown]
# ## The same map, to walk around in
#
# What you have built is what `atento.capture` keeps of a real model: queries, keys, log-sum-exp, and
# pooled overviews. So its map of a long text can be zoomed into like a street map, and each tile is
# computed when you look at it. For the page below our head becomes a tiny PyTorch model; with a real
# one only the name of the model changes.


# %%
import torch


class Head(torch.nn.Module):
    def forward(self, query, key, value):
        attend = torch.nn.functional.scaled_dot_product_attention
        return attend(query, key, value, is_causal=True)


head = Head()
with atento.capture(head) as recording:
    head(*(torch.from_numpy(x)[None, None] for x in (query, key, value)))
print(recording[0].shape, recording[0].weights(0, *needle).round(4))

# %% [markdown]
# Choose "Map". Dark is much here: find the dark dot on the vertical line while the cells show "the
# largest weight", and lose it when they show "the mean"; then zoom in on it with the wheel until
# single weights appear. The whole page has about 2 MB; `atento.save(recording, "map.html")` writes it to
# a file that opens without a network.

# %% tags=["varies"]
atento.show(recording)

# %% [markdown]
# ## What you now know
#
# - The softmax can be computed in one pass: a running maximum, a running sum, a running weighted sum,
#   and one factor that mends them when the maximum grows.
# - Parts over different keys merge exactly, given their log-sum-exps.
# - With queries, keys and log-sum-exp, every weight can be made again on demand; 2.2 MB stand for
#   1,074.
# - Pooling by mean hides single large weights; keep the maximum beside it.
#
# ## What to try next
#
# - Call `streaming` with blocks of 16 and of 1,024, and time it. What is the best size on your machine?
# - Add a window to `streaming`: queries that see the last 256 keys only. Which blocks need not be
#   computed now? Compare with `mask=Causal() & Window(left=255)`.
# - Read a long text of yours: `atento inspect --model gpt2 --file letter.txt --out letter.html`.
#
# ## Sources
#
# - Milakov & Gimelshein 2018, *Online normalizer calculation for softmax*, arXiv 1805.02867, section 3.
# - Rabe & Staats 2021, *Self-attention Does Not Need O(n²) Memory*, arXiv 2112.05682.
# - Dao et al. 2022, *FlashAttention*, arXiv 2205.14135, section 3.1 and algorithm 1.
# - Liu et al. 2023, *Ring Attention with Blockwise Transformers*, arXiv 2310.01889 (parts on several
#   machines).
# - Kerpedjiev et al. 2018, *HiGlass*, Genome Biology 19:125 (maps that zoom).
