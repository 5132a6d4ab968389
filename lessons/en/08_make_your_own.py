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
# # 8 · Make your own
#
# Grouped heads, RoPE, ALiBi, windows, softcap: the attention of today's models is the equation of
# 2017 with a few lines changed. You will write those lines in NumPy, one mechanism at a time, and
# hold each against an answer that you can trust. At the end you make a mechanism that atento does
# not have, and prove that it does what you meant. About 25 minutes; you need the equation of lesson
# 1 and some NumPy.

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
from atento.masks import Causal, Rule, Window
from atento.positions import Alibi, DistanceBias, alibi, rotary

# %% [markdown]
# ## Where there is room for an idea
#
# Here is the whole equation, with every place where something can be put in:
#
# $$\text{weights} = \text{softmax}\big(\text{mask}(\text{softcap}(Q K^\top \cdot \text{scale})
# + \text{bias})\big), \qquad \text{output} = \text{weights}\; V$$
#
# | place | who works there |
# |---|---|
# | $Q$, $K$ before their product | grouped heads, RoPE |
# | bias, added to the scores | ALiBi |
# | mask, who may look at whom | causal, window |
# | softcap, how large a score may get | softcap |
#
# We begin with the equation without any of them. It is the code that you will change.


# %%
def softmax(scores):
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def scaled_scores(query, key):
    return query @ key.mT / np.sqrt(query.shape[-1])


def plain(query, key, value):
    return softmax(scaled_scores(query, key)) @ value


# %% [markdown]
# ## An oracle
#
# How do you know that a new mechanism is right? You compare it with something slow and plain that
# is known to be right: an *oracle*. Ours is `atento.attention(..., engine="dense")`, the equation
# as it stands above. Three habits make the comparison sharp:
#
# - **float64**, so that rounding is near $10^{-16}$. Then $10^{-12}$ is a strict bound: whatever
#   differs by more is not rounding, it is a mistake.
# - **Sizes that are all different.** With 7 tokens and 7 features, a swapped axis goes unnoticed.
# - **A comparison that can fail.** You will see ours turn red before you believe it.

# %%
draw = np.random.default_rng(8)
query = draw.normal(size=(6, 7, 4))  # (head, token, feature)
key, value = draw.normal(size=(6, 7, 4)), draw.normal(size=(6, 7, 5))
BOUND = 1e-12


def away(mine, oracle):
    return float(np.abs(mine - oracle).max())


def agree(mine, oracle):
    return away(mine, oracle) < BOUND


agree(plain(query, key, value), atento.attention(query, key, value, engine="dense"))

# %% [markdown]
# `True`: no number differs by more than a millionth of a millionth. And now let it fail. Forget the
# square root, the most common slip of all:

# %%
forgotten = softmax(query @ key.mT) @ value
round(away(forgotten, atento.attention(query, key, value)), 3)

# %% [markdown]
# The output is off by 0.7, and a rounding would be off by 0.0000000000000001. So the comparison can
# tell right from wrong, and we can go on.
#
# ## Grouped heads
#
# A model that writes keeps the keys and values of all earlier tokens in memory. That *cache* is
# $2 \cdot \text{layers} \cdot H_{kv} \cdot T \cdot d$ numbers, and $H_{kv}$, the number of key
# heads, is the easiest factor to shrink: let several query heads share one key head. With 32 query
# heads of 128 features in 32 layers, at 8192 tokens and 2 bytes a number, this is the cache in GB
# for 32, 8 and 1 key heads:

# %%
[round(2 * 32 * heads * 8192 * 128 * 2 / 1e9, 2) for heads in (32, 8, 1)]

# %% [markdown]
# From 4.29 to 1.07 GB with 8 key heads: Llama 3 works so. One single key head is called multi-query
# attention.
#
# Which key head belongs to which query head? With $H_q$ query heads and $H_{kv}$ key heads,
# *consecutive* query heads share:
#
# $$\text{head } h \text{ reads key head } \lfloor h \,/\, (H_q / H_{kv}) \rfloor$$
#
# **Exercise 1.** Write `grouped`. `query` is (6, 7, 4), `key` (2, 7, 4) and `value` (2, 7, 5);
# `plain` wants as many key heads as query heads. Hint: `np.repeat` has an `axis`.


# %% tags=["question"]
def grouped(query, key, value): ...


# %%
two = key[:2], value[:2]
check(grouped, atento.attention, cases=[(query, *two), (query[:4], key[:1], value[:1])])

# %% [markdown]
# Here lies a trap with a name of its own: `np.tile` also makes 6 heads out of 2, and every shape is
# right. But it lays them out 0 1 0 1 0 1 in place of 0 0 0 1 1 1:

# %%
tiled = [np.tile(x, (3, 1, 1)) for x in two]
round(away(plain(query, *tiled), atento.attention(query, *two)), 3)

# %% [markdown]
# Off by 1.6, and no error anywhere. Some libraries do count their groups in this order, so weights
# that are carried from one to another can come out wrong in silence. Shapes prove nothing; numbers
# do.
#
# ## RoPE: positions that turn
#
# Attention does not know in which order its tokens stand. *Rotary position embedding* tells it by
# turning every query and key by an angle that grows with its position. The features go in pairs
# $(a, b)$; pair $i$ of $d / 2$ at position $t$ turns by $\theta = t \cdot 10000^{-2i/d}$:
#
# $$(a, b) \;\to\; (a \cos\theta - b \sin\theta,\;\; b \cos\theta + a \sin\theta)$$
#
# The first pair turns by a whole radian at each step, the last ones hardly at all: the hands of a
# clock that shows both seconds and years.


# %%
def turn(x, start=0):
    half = x.shape[-1] // 2
    speed = 10_000.0 ** (-np.arange(half) / half)
    angle = (start + np.arange(x.shape[-2]))[:, None] * speed
    a, b = x[..., :half], x[..., half:]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


agree(turn(query), rotary(query))

# %% [markdown]
# Why turn, of all things? Take one and the same vector at five positions and look at the products:

# %%
same = np.tile(query[0, :1], (5, 1))
(turn(same) @ turn(same).T).round(3)

# %% [markdown]
# Read along the diagonals: they hold the same number, 6.784 where a token meets itself. Two vectors
# that turn together keep the angle between them, so a score depends on the *distance* of query and
# key alone. Where the sentence begins does not matter: with all positions moved by 100, nothing
# changes.

# %%
moved = softmax(scaled_scores(turn(query, 100), turn(key, 100))) @ value
agree(moved, plain(turn(query), turn(key), value))

# %% [markdown]
# ## ALiBi: far is dear
#
# *Attention with linear biases* takes another way: it leaves queries and keys alone and lowers a
# score by the distance it has to bridge.
#
# $$\text{bias}_{h,i,j} = -m_h \cdot |i - j|, \qquad m_h = 2^{-8 h / H}, \quad h = 1 \dots H$$
#
# **Exercise 2.** Write `linear_bias(num_heads, tokens)`: the array (head, query, key).


# %% tags=["question"]
def linear_bias(num_heads, tokens): ...


# %%
check(linear_bias, alibi, cases=[(8, 7), (2, 5)])

# %% [markdown]
# Each head has a slope of its own, so each sees a different stretch of the text. How far do eight
# heads look back on average when all scores are equal, so that the bias alone decides? The mean
# distance is $\sum_j \text{weight}_{ij}\,|i - j|$, for the last of 64 tokens:

# %%
empty = np.zeros((8, 64, 4))
_, weights = atento.attention(empty, empty, empty, bias=Alibi(8), return_weights=True)
(weights[:, -1] @ np.arange(63, -1, -1)).round(1)

# %% [markdown]
# From 1.5 tokens in the first head to 30.2 in the last, which is almost the 31.5 of a head without
# any bias. Nobody trained this: it is there from the first step.
#
# `Alibi(8)` is a rule and not an array. It gives the bias of any block of the scores when an engine
# asks for it, so a long text never needs the whole (head, query, key).
#
# ## A window, and a query with nobody to look at
#
# A mask says who may look: `True` = attends. A sliding window over the past is two comparisons:
#
# $$0 \le i - j \le \text{left}$$


# %%
def window(tokens, left):
    back = np.arange(tokens)[:, None] - np.arange(tokens)
    return (back >= 0) & (back <= left)


mask = window(7, left=2)
np.array_equal(mask, (Causal() & Window(left=2)).dense(7, 7)), int(mask.sum())

# %% [markdown]
# Of 49 pairs, 18 are left: 36.7 %. For 1000 tokens and 255 keys to the left it is 22.3 %, and a
# streaming engine never computes the rest.
#
# In the formula a forbidden score becomes $-\infty$, whose exponential is 0:


# %%
def masked(query, key, value, mask):
    return softmax(np.where(mask, scaled_scores(query, key), -np.inf)) @ value


agree(masked(query, key, value, mask), atento.attention(query, key, value, mask=mask))

# %% [markdown]
# Right, but only as long as everyone may look at someone. Forbid the first token everything, as
# padding does in a batch, and compare again:

# %%
nobody = mask.copy()
nobody[0] = False
with np.errstate(invalid="ignore"):
    mine = masked(query, key, value, nobody)
mine[0, 0], atento.attention(query, key, value, mask=nobody)[0, 0]

# %% [markdown]
# Ours says `nan`: the softmax subtracted $-\infty$ from $-\infty$. One `nan` in a batch spoils
# every gradient of it. The oracle answers with zeros, which is a promise of atento on every engine:
# who may see nothing gets nothing.
#
# That is the fourth habit: **try the empty case**. No keys allowed, one token, one head.
#
# ## Softcap, and why the order matters
#
# Gemma 2 bounds its scores before the softmax, so that they cannot run away while it is trained:
#
# $$\text{softcap}(s) = c \cdot \tanh(s / c)$$
#
# Small scores pass almost unchanged; large ones approach $c$ and never go beyond.
#
# **Exercise 3.** Write attention with a mask *and* a cap. The equation at the top says in which
# order they come.


# %% tags=["question"]
def capped(query, key, value, mask, cap): ...


# %%
def oracle(query, key, value, mask, cap):
    return atento.attention(query, key, value, mask=mask, softcap=cap)


check(capped, oracle, cases=[(3 * query, key, value, mask, 2.0)])

# %% [markdown]
# What happens the other way round? $\tanh(-\infty) = -1$, so a score that was forbidden comes back
# as $-c$, an ordinary number:

# %%
late = np.where(mask, scaled_scores(query, key), -np.inf)
weights = softmax(2.0 * np.tanh(late / 2.0))
weights[0, 0].round(3)

# %% [markdown]
# The first token may see itself alone, and yet only 0.179 of its weight is its own: the rest has
# leaked to six tokens of the future, 0.137 to each. A model trained like this would shine in
# training and fail when it writes.
#
# ## All together
#
# Five ideas, one equation, each in its place:


# %%
def modern(query, key, value, mask, bias, cap):
    shared = len(query) // len(key)
    key, value = (np.repeat(x, shared, axis=0) for x in (key, value))
    scores = scaled_scores(turn(query), turn(key))
    scores = cap * np.tanh(scores / cap) + bias
    return softmax(np.where(mask, scores, -np.inf)) @ value


mine = modern(query, *two, mask, alibi(6, 7), 2.0)
turned = rotary(query), rotary(two[0]), two[1]
rules = {"mask": Causal() & Window(left=2), "bias": Alibi(6), "softcap": 2.0}
engines = "dense", "streaming"
[agree(mine, atento.attention(*turned, **rules, engine=name)) for name in engines]

# %% [markdown]
# Both engines agree with you: `dense`, which holds the whole matrix, and `streaming`, which never
# does. The view shows every step in the order of the equation. Choose head 4, which has the
# steepest slope, 1/2 (for six heads `alibi` takes the slopes of four, and then two from between
# them). Go from the capped scores, all within ±2, to the biased ones, which sink away from the
# diagonal, and to the masked ones, where a row keeps three keys at most.

# %% tags=["varies"]
atento.show(atento.trace(*turned, **rules))

# %% [markdown]
# ## One of your own
#
# Now something that atento does not have. ALiBi fades exponentially: with every token farther away,
# a weight shrinks by the same factor. Human memory is said to fade by a power law, fast at first
# and then ever more slowly. So let us demand:
#
# $$\text{weight}_{ij} \;\propto\; \frac{e^{\,s_{ij}}}{1 + |i - j|}, \qquad
# s = Q K^\top / \sqrt{d}$$
#
# **Exercise 4.** Write `fading(query, key, value)` straight from this definition: exponentials,
# divided by $1 + |i - j|$, divided by their sum over the keys, times the values. No softmax and no
# bias.


# %% tags=["question"]
def fading(query, key, value): ...


# %% [markdown]
# The check goes another way. A factor $f$ in front of an exponential is the same as $\log f$ added
# to the score, so the oracle can compute your mechanism with a bias of $-\log(1 + |i - j|)$. Two
# ways that share no line of code and agree to $10^{-12}$: that is what a proof looks like in
# engineering.


# %%
def by_bias(query, key, value):
    tokens = query.shape[-2]
    far = np.abs(np.arange(tokens)[:, None] - np.arange(tokens))
    return atento.attention(query, key, value, bias=-np.log1p(far))


cases = [(query, key, value), (query[0], key[0], value[0])]
check(fading, by_bias, cases=cases, tolerance=BOUND)

# %% [markdown]
# Does it do what we wanted? One query, 200 keys, all scores equal: how much weight is left at each
# distance, beside ALiBi's with the slope 1/16?

# %% alt="Weight against distance, both axes logarithmic: the power is a straight line; the dashed exponential lies above it in the middle and then plunges out of the picture."
far = np.arange(200)
power, exponential = 1 / (1 + far), np.exp(-far / 16)
fig, ax = plt.subplots(figsize=(5, 3))
ax.loglog(1 + far, power / power.sum(), label="1 / (1 + |i − j|)")
ax.loglog(1 + far, exponential / exponential.sum(), "--", label="exp(−|i − j| / 16)")
ax.set(xlabel="1 + |i − j|", ylim=(1e-6, 1))
ax.legend()
plt.show()

# %% [markdown]
# On logarithmic axes the power law is a straight line: at distance 199 a key still has 1/200 of the
# weight of the nearest. The exponential (dashed) lies above it in the middle and then drops, out of
# the picture before distance 199.
#
# The idea is out in the world: with two learned numbers per head, $-a \log(1 + b\,|i - j|)$, it is
# the logarithmic form of KERPLE (Chi et al. 2022).
#
# And it scales already. `bias=` takes any object with a `bind` method that answers with a
# `DistanceBias`: one number for each distance, not for each pair. With it your mechanism runs on a
# long text in the streaming engine, without a T × T matrix. For 4096 tokens that matrix would be
# 134 MB in float64; the bias itself is this many kilobytes:


# %%
class Fading:
    def bind(self, shape, xp, device, dtype):
        *_, Tq, Tk = shape
        far = xp.abs(xp.arange(1 - Tq, Tk, dtype=dtype, device=device))
        return DistanceBias(-xp.log1p(far), (Tq, Tk))


T = 4096
long = draw.normal(size=(T, 16))
output = atento.attention(long, long, long, bias=Fading(), engine="streaming")
bias = Fading().bind((T, T), np, "cpu", np.float64)
bias.values.nbytes / 1000

# %% [markdown]
# 65.5 kB, since there are 8191 distances. Is the long answer right? The last hundred queries can be
# computed with `engine="dense"`, and the rows compared:

# %%
rows = slice(T - 100, T)
part = bias.tile(range(T - 100, T), range(T))
oracle_rows = atento.attention(long[rows], long, long, bias=part, engine="dense")
agree(output[rows], oracle_rows)

# %% [markdown]
# ## What you now know
#
# - Mechanisms differ in *where* they touch the equation: before the product (grouped heads, RoPE),
#   on the scores (softcap, ALiBi) or in who may look (mask). The order is part of the definition.
# - A factor on the weights is a logarithm on the scores. Many ideas become a bias by that.
# - Test in float64 against an oracle, with sizes that are all different, with an empty row, and
#   with a mistake made on purpose. Shapes prove nothing.
#
# **Try next.** A `Rule` is a mask of your own, written as a function of positions and asked block
# by block. This one lets a query see keys at distances 0, 1, 2, 4, 8, …: about $\log_2 T$ of them.
# How many steps does information need to get from the first token to the last?


# %%
def powers_of_two(_batch, _head, query, key):
    back = query - key
    return (back >= 0) & (back & (back - 1) == 0)


Rule(powers_of_two).dense(9, 9).astype(int)

# %% [markdown]
# In PyTorch all of this is there as a module, to train with:
# `MultiHeadAttention(512, 8, num_kv_heads=2, position=Rotary(), mask=Causal() & Window(left=255), softcap=50.0)`
# from `atento.nn`.
#
# **Sources.** Vaswani et al. 2017, *Attention Is All You Need*, section 3.2 (arXiv 1706.03762).
# Shazeer 2019, multi-query attention, section 3 (1911.02150). Ainslie et al. 2023, grouped queries,
# section 2.2 (2305.13245). Su et al. 2021, RoPE, section 3.2 (2104.09864). Press et al. 2021,
# ALiBi, section 3 (2108.12409). Beltagy et al. 2020, sliding windows, section 3.1 (2004.05150).
# Gemma team 2024, softcap, section 2 (2408.00118). Chi et al. 2022, KERPLE (2205.09921).
