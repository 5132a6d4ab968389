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
# # 5 · Multi-head attention in a Transformer
#
# From the word "Hello" to a model that writes: characters become numbers, numbers become vectors,
# two heads look at them, two layers are stacked, and half a minute of training later the model has
# learned to copy a name. Everything is small enough to look at: 16 features, 2 heads, 8592
# parameters. About 25 minutes; you need lesson 2 and PyTorch.

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
import math
import string
import tempfile

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn
from torch.nn import functional

import atento
from atento.lessons import check
from atento.lm import CharTokenizer, Transformer, TransformerConfig, generate, train
from atento.masks import Causal
from atento.nn import LearnedPositions, MultiHeadAttention

torch.manual_seed(5)
torch.set_num_threads(1)
# %% [markdown]
# One thread is no mistake: with matrices as small as these, a second one costs more than it brings.
#
# ## B, T, C
#
# A model reads numbers. The simplest *tokenizer* gives each character its place in a list; ours is
# Python's `string.printable`: digits, letters, punctuation, spaces.

# %%
tokenizer = CharTokenizer(string.printable)
tokenizer.vocabulary_size, tokenizer.encode("Hello")

# %% [markdown]
# 100 characters; "H" is number 43 and both "l" are 21. And back again:

# %%
tokenizer.decode([43, 14, 21, 21, 24])

# %% [markdown]
# A number says nothing about a character. So each gets a vector, the row of a table that training
# will fill: its *embedding*. Three letters name the axes from here on:
#
# | letter | axis | here |
# |---|---|---|
# | B | batch: texts side by side | 1 |
# | T | tokens of a text | 5, at most 25 |
# | C | channels: features of a token | 16 |

# %%
ids = torch.tensor([tokenizer.encode("Hello")])
embedding = nn.Embedding(tokenizer.vocabulary_size, 16).requires_grad_(False)
list(ids.shape)

# %% [markdown]
# **Question 1.** What is the shape of `embedding(ids)`? Answer with a list.

# %% tags=["question"]
answer = None

# %%
letters = embedding(ids)
check(answer, list(letters.shape))

# %% [markdown]
# ## Attention does not know what comes first
#
# Here is multi-head attention with 2 heads, its weights still random. "Hello" has two "l": do their
# outputs differ?

# %%
attention = MultiHeadAttention(d_model=16, num_heads=2).requires_grad_(False)
out = attention(letters)
torch.allclose(out[0, 2], out[0, 3])

# %% [markdown]
# They are the same. Both "l" ask the same query of the same five keys, and a weighted sum does not
# care in which order it adds up. Read "olleH", and you get the same vectors in another order. To
# attention alone, a text is a bag of letters.
#
# So the place is told as well. `LearnedPositions` holds a vector for each of 25 places and adds it:
# $x_t = E[\text{id}_t] + P[t]$.

# %%
positions = LearnedPositions(25, 16, std=1.0).requires_grad_(False)
x = positions.embed(letters)
out = attention(x)
list(out.shape), torch.allclose(out[0, 2], out[0, 3])

# %% [markdown]
# Now the two differ, and the shape is (1, 5, 16), as what went in: B, T, C. That is why layers can
# be stacked.
#
# ## Heads are slices
#
# "Two heads" sounds like two modules. In fact there is one matrix for the queries of both, with 16
# rows, and each head owns 8 of them: C = 2 × 8.

# %%
list(attention.query.weight.shape), list(attention.head(1).query.weight.shape)

# %%
torch.equal(attention.head(1).query.weight, attention.query.weight[8:])

# %% [markdown]
# The 16 features of a query are then cut in two: (B, T, C) becomes (B, T, H, 8), and the head axis
# moves to the front, so that each head has a (T, 8) table of its own.

# %%
query = attention.query(x)
heads = query.reshape(1, 5, 2, 8).transpose(1, 2)
list(heads.shape), torch.equal(heads[:, 1], query[:, :, 8:])

# %% [markdown]
# Mind the order. `reshape(1, 2, 5, 8)` has the same shape at once, and wrong numbers: it would cut
# the text in two instead of the features.

# %%
torch.equal(query.reshape(1, 2, 5, 8), heads)

# %% [markdown]
# When each head has its context, the contexts are put side by side again and go through one last
# matrix:
#
# $$\text{output} = [\,\text{head}_0 \;\; \text{head}_1\,]\; W_\text{output} + b$$
#
# **Exercise 2.** Write it. `attention.head(0)` is the first head as a module, `attention.output`
# the last matrix. `torch.cat` puts side by side.


# %% tags=["question"]
def side_by_side(x): ...


# %%
check(side_by_side, attention, cases=[(x,), (letters[:, :3],)])

# %% [markdown]
# The same works in the other direction: `from_heads` makes one module of heads that you have.

# %%
both = [attention.head(0), attention.head(1)]
joined = MultiHeadAttention.from_heads(both, output=attention.output)
torch.allclose(joined(x), out, atol=1e-6)

# %% [markdown]
# Why two, then? Each head has one softmax, so it can give its weight to one place at a time. Two
# heads look in two directions. These are the weights of the last token, "o", in both:

# %%
_, weights = attention(x, return_weights=True)
weights[0, :, -1].round(decimals=2)

# %% [markdown]
# Two rows that each add up to 1 and have little to do with each other, and that is before any
# training.
#
# A model that is to *write* may not see what comes after: with the mask `Causal()` a token sees
# itself and those before it. The view shows all the steps. Go down to the masked scores, where a
# row ends at the token itself, and see what the softmax makes of them: the first token has nobody
# else and gives itself the weight 1, in each of the two heads.

# %% tags=["varies"]
causal = MultiHeadAttention(16, 2, mask=Causal()).requires_grad_(False)
atento.show(causal.trace(x))

# %% [markdown]
# ## A Transformer of 8592 numbers
#
# Attention carries information from token to token. After it each token works for itself, in a
# *feed-forward* of two matrices, 16 → 64 → 16. Both are added to what came in, so that nothing gets
# lost, and a norm before each keeps the numbers in bounds. One block is
#
# $$x \leftarrow x + \text{attention}(\text{norm}(x)), \qquad
# x \leftarrow x + \text{feedforward}(\text{norm}(x))$$
#
# Two blocks, and at the end one score for each of the 100 characters:

# %%
config = TransformerConfig(100, context=25, d_model=16, num_layers=2, num_heads=2)
torch.manual_seed(5)
model = Transformer(config)
logits = model(ids)
list(logits.shape), model.num_parameters

# %% [markdown]
# (1, 5, 100): at each of the 5 places a score for each possible *next* character. And where are the
# 8592 numbers? 1600 in the embeddings (100 × 16), 400 in the positions (25 × 16), 6560 in the two
# blocks, 32 in the last norm. The scores cost nothing: the table of embeddings serves again, a
# character's score is the product of its vector with what came out of the last norm.
#
# **Question 3.** How many numbers does one attention layer learn? It has four matrices of 16 × 16,
# for queries, keys, values and output, and each adds a bias of 16.

# %% tags=["question"]
answer = None

# %%
layer = model.blocks[0].attention
check(answer, sum(parameter.numel() for parameter in layer.parameters()))

# %% [markdown]
# ## What training makes smaller
#
# The scores become probabilities by a softmax. The loss is the mean surprise at what really came
# next:
#
# $$\text{loss} = -\frac{1}{T} \sum_t \log p_t(\text{next}_t)$$
#
# **Exercise 4.** Write `surprise(logits, following)`: `logits` is (T, 100), and `following` holds
# the T ids that came next. `logits.log_softmax(-1)` gives the logarithms.


# %% tags=["question"]
def surprise(logits, following): ...


# %%
cases = [(logits[0, :-1], ids[0, 1:]), (3 * logits[0, :2], ids[0, 1:3])]
check(surprise, functional.cross_entropy, cases=cases)

# %% [markdown]
# What is the loss of a model that knows nothing? It holds all 100 characters for equally likely, so
# its surprise is $\log 100$:

# %%
loss = functional.cross_entropy(logits[0, :-1], ids[0, 1:])
round(math.log(100), 2), round(loss.item(), 2)

# %% [markdown]
# 4.61 by the formula, and 4.53 measured. This is worth checking before every training: a first loss
# far above it means that something is wrong with the first weights.
#
# ## A text to learn
#
# Greetings in two languages, with one of six names, the same twice. What can be learned here? The
# spelling, and that is easy. But after "hola" comes the name that stood *ten characters before*,
# and that needs attention: nothing but looking back tells "Ana" from "Ben".

# %%
names = ["Ana", "Ben", "Eva", "Leo", "Noa", "Tim"]
drawn = np.random.default_rng(5).choice(names, 2000)
text = "".join(f"Hello {name}, hola {name}.\n" for name in drawn)
print(text[:63])
len(text)

# %% [markdown]
# The training draws rows of 25 characters from these 42,000 and takes 600 steps, of 16 rows each.
# How low can the loss go? The first name of a line is a matter of chance: $\log 6 = 1.79$, once in
# 21 characters, or 0.085 a character. What lies above it is the beginning of a row, where the model
# has seen too little to know where it is.

# %% tags=["varies"] alt="Loss over 600 steps: it drops sharply in the first hundred and then falls slowly towards the dashed line at 0.085."
folder = tempfile.TemporaryDirectory()
settings = {"steps": 600, "batch": 16, "learning_rate": 1e-2, "weight_decay": 0.01}
settings |= {"warm_up": 30, "evaluate_every": 300, "seed": 5, "progress": False}
run = train([text], out=folder.name, config=config, tokenizer=tokenizer, **settings)
model = run.model().eval()
steps, losses = [row["step"] for row in run.log], [row["loss"] for row in run.log]
fig, ax = plt.subplots(figsize=(5, 2.5))
ax.plot(steps, losses)
ax.axhline(math.log(6) / 21, color="gray", linestyle="--")
ax.set(xlabel="step", ylabel="loss", ylim=(0, 4.7))
plt.show()

# %% [markdown]
# The curve falls steeply within the first hundred steps, while the model learns to spell, and then
# slowly comes down to about 0.15. The dashed line is the 0.085 of chance.

# %%
print(losses[-1] < 0.3)

# %% [markdown]
# ## It writes
#
# The model scores the next character, one is drawn, and the longer text is read again. That is all
# there is to generating. From "Hello":

# %% tags=["varies"]
print("Hello" + generate(model, "Hello", max_tokens=58, seed=1))

# %% [markdown]
# Lines, names and full stops are in their places. *Temperature* divides the scores before the
# softmax. At 0 the likeliest character is taken each time, at 1 they are drawn as the model
# believes, at 3 the unlikely ones too:

# %% tags=["varies"]
[generate(model, "Hello", max_tokens=15, temperature=t, seed=2) for t in (0, 1, 3)]

# %% [markdown]
# Now the question that matters: does it copy? For each name, the likeliest continuation:

# %% tags=["varies"]
prompts = [f"Hello {name}, hola " for name in names]
written = generate(model, prompts, max_tokens=3, temperature=0)
written

# %% [markdown]
# Guessing would hit one of six. It gets at least five:

# %%
copied = [mine == name for mine, name in zip(written, names, strict=True)]
print(sum(copied) >= 5)

# %% [markdown]
# ## How does it do that?
#
# `atento.capture` records the attention of a model while it runs. Here are the weights of both
# heads of both layers, over the text "Hello Ana, hola ". Rows are queries, columns are keys, dark
# is much. The next character has to be an "A", so look at the *last row* of each picture.

# %% tags=["varies"] alt="Four maps of weights over the text Hello Ana, hola: two layers, one above the other, of two heads each. In the last row, part of the weight is on the name."
prompt = "Hello Ana, hola "
with atento.capture(model) as recording, torch.no_grad():
    model(torch.tensor([tokenizer.encode(prompt)]))
fig, axes = plt.subplots(2, 2, figsize=(7, 7), layout="constrained")
marks = [c if c != " " else "␣" for c in prompt]
for layer, row in enumerate(axes):
    for head, ax in enumerate(row):
        ax.imshow(recording[layer].weights(head), cmap="Blues", vmin=0, vmax=1)
        ax.set(title=f"{layer}.{head}", xticks=range(16), yticks=range(16))
        ax.set(xticklabels=marks, yticklabels=marks)
plt.show()

# %% [markdown]
# In the last row some weight lies on the name, nine places back. How much, on the three letters of
# "Ana" together? For layers (rows) and heads (columns):

# %% tags=["varies"]
shares = [[layer.weights(h)[-1, 6:9].sum() for h in (0, 1)] for layer in recording]
np.array(shares).round(2)

# %% [markdown]
# If all 16 keys counted the same, it would be 3/16 = 0.19. When this was written, head 1.0 (bottom
# left) gave the name all of its weight, in one single dark cell under the "A", and head 0.0 two
# thirds. With another seed it was head 0.0, and with a third no head gave it more than 0.27, though
# all six were copied: the name must have come in two steps, by way of the characters between.
# Weights say where a head looks, and not by themselves how a model does what it does; lesson 6
# takes that up.
#
# ## And a name that it has never seen?

# %% tags=["varies"]
new = generate(model, "Hello Zoe, hola ", max_tokens=3, temperature=0)
new

# %% [markdown]
# It does not write "Zoe". No text had a "Z": all that its vector has ever learned is to be the
# wrong answer. The model has learned to copy *these six*, not to copy. Models that meet enough
# different names learn the general rule: such *induction heads* are what you will find in a real
# model in lesson 6.

# %%
print(new == "Zoe")

# %% tags=["varies"]
folder.cleanup()

# %% [markdown]
# ## What you now know
#
# - Text → ids → vectors with a place: (B, T) → (B, T, C). Without the place, attention sees a bag.
# - Heads are slices of the same matrices; side by side they make up C again, and a last matrix
#   mixes them.
# - A block is attention and feed-forward, both added to what came. All shapes stay (B, T, C), until
#   the last step gives a score for each token of the vocabulary.
# - A first loss near the logarithm of the vocabulary is what you should see.
#
# **Try next.** Add names to the text, first ten, then a hundred made of random letters: does "Zoe"
# get copied now? Take `num_heads=1`: how low does the loss go? With a text of your own,
# `atento train my_text.txt --out runs/mine` trains a larger model from the command line.
#
# **Sources.** Vaswani et al. 2017, *Attention Is All You Need*, sections 3.1–3.5 (arXiv
# 1706.03762). Gehring et al. 2017, learned positions, section 3.1 (1705.03122). Olsson et al. 2022,
# *In-context Learning and Induction Heads* (2209.11895).
