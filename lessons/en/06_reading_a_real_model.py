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
# # 6 · Reading a real model
#
# A trained model finishes a sentence that it has never seen, and you find out which of its heads
# did it: by looking at their weights, by a table of roles, and by switching heads off. The model
# is `mini`, which lives inside the package; the same lines read GPT-2, Llama or BERT. About
# 20 minutes. You need to know what a head, a layer and the causal mask are (lessons 2 and 5), and
# PyTorch: the first cell installs it if it is missing.

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
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np
import torch

import atento
from atento.embedded import load_mini
from atento.lessons import check
from atento.lm import load_model

_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## The model, and a riddle
#
# `mini` is a small GPT-2: 3 layers of 4 heads, 128 numbers for each token, a vocabulary of 7,700
# pieces of English and Spanish. It is stored like any model of Hugging Face, a folder with a
# configuration and weights, and `load_model` makes a PyTorch module of it. `load_mini` gives us
# its tokenizer.

# %%
model = load_model(files("atento") / "embedded" / "mini")
mini = load_mini()
print(model.config.num_layers, model.config.num_heads, model.config.d_model)
print(sum(parameter.numel() for parameter in model.parameters()))

# %% [markdown]
# Here is the riddle. We give it the beginning of a sentence, and print the three tokens that it
# thinks most likely to come next, with their probabilities.


# %%
def likeliest(prompt, count=3):
    ids = torch.tensor([mini.encode(prompt).ids])
    found = model(ids)[0, -1].softmax(-1).topk(count)
    for probability, token in zip(*found, strict=True):
        print(f"{probability:.3f} {mini.tokenizer.text_of(int(token))}")


likeliest("my friend drinks tea and my friend drinks")
likeliest("mi abuela bebe café y mi abuela bebe")

# %% [markdown]
# `tea`, with a probability of 0.83; the runner-up has 0.006. In Spanish `café` comes first as
# well, with less certainty. Grammar alone does not tell what a friend drinks. The model must have
# looked back at the first half of the sentence. Where, and with which heads?

# %% [markdown]
# ## Capture: look while it runs
#
# `atento.capture` watches a model run and keeps the queries, the keys and the log-sum-exp of every
# head. The model changes in nothing: it keeps its own fast kernels, and the last line shows that
# its logits are equal to the last bit.

# %%
encoding = mini.encode("my friend drinks tea and my friend drinks")
ids = torch.tensor([encoding.ids])
plain = model(ids)
with atento.capture(model) as recording:
    logits = model(ids)
recording.name_tokens(list(encoding.tokens))
print(len(recording), recording[0].shape, torch.equal(logits, plain))

# %% [markdown]
# Three layers, each with weights of shape (batch 1, head 4, query 8, key 8). We write **0.2** for
# layer 0, head 2. These are its weights, computed again from what was kept:
#
# $$\text{weights}_{ij} = \exp\!\left(\frac{q_i \cdot k_j}{\sqrt d} - \text{lse}_i\right), \qquad
# \text{lse}_i = \log \sum_{j \le i} \exp\!\left(\frac{q_i \cdot k_j}{\sqrt d}\right)$$

# %%
recording[0].weights(head=2).round(2)

# %% [markdown]
# Read it row by row: each token looks at the one before it, with 0.98 to 1.00 of its weight. Only
# the first token, which has nothing before it, looks at itself. This is a **previous-token head**.
#
# Now the same head as a picture, and head 1.2 beside it. Rows look, columns are looked at.

# %% alt="Left, head 0.2: a line just below the diagonal. Right, head 1.2: the upper rows look at the first two tokens; from the second my on there is a slanted line, some places further left."
fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
_ = atento.plot(recording, "map", layer=0, head=2, ax=axes[0], title="0.2")
_ = atento.plot(recording, "map", layer=1, head=2, ax=axes[1], title="1.2")

# %% [markdown]
# Left, a line just below the diagonal. Right, two habits: the upper rows look at the first two
# tokens, `my` and `friend`; from the second `my` on, a slanted line begins, some places further left.
# Find out where the last row of head 1.2 looks: there the token `drinks`, at position 7, has to say
# what comes next. Which position (0 to 7) gets most of its weight?

# %% tags=["question"]
answer = None

# %%
check(answer, recording[1].weights(head=2)[7].argmax())

# %% [markdown]
# ## A table of heads
#
# Twelve matrices can be looked at one by one; the 144 heads of GPT-2 cannot. So every capture also
# keeps a few numbers for each head, means over all queries but the first four, which see too little:
#
# | number | the weight on |
# |---|---|
# | `previous` | the token before |
# | `self` | the token itself |
# | `first` | the first token of the text |
# | `induction` | tokens that once came right after the same token as this one |
#
# The role is the first one whose number is large enough; `recording.summary().to_dict()["roles"]`
# lists the thresholds.

# %%
numbers = ("previous", "self", "first", "induction")
for row in recording.summary():
    name = f"{row['layer'].split('.')[1]}.{row['head']}"
    print(name, row["role"].ljust(15), *(f"{row[n]:5.2f}" for n in numbers))

# %% [markdown]
# Head 0.2 stands out with 0.99 on the previous token. Heads 0.0 and 0.3 look at their own token
# (`diagonal`). All of layer 1 is called `induction`, and that is the slanted line of the picture: at
# the second `drinks` these heads look at what followed the first `drinks`.
#
# The page below shows every head. Choose one, point at a token, and see what it looks at.

# %% tags=["varies"]
atento.show(recording)

# %% [markdown]
# ## Exercise: score a head yourself
#
# A score is nothing but a mean of some entries of the matrix. For the previous token these are the
# entries just below the diagonal:
#
# $$\text{previous} = \frac{1}{T-1} \sum_{i=1}^{T-1} \text{weights}_{i,\,i-1}$$


# %% tags=["question"]
def previous_score(weights): ...


# %%
def reference(weights):
    return np.diagonal(weights, -1).mean()


cases = [(recording[layer].weights(head=2),) for layer in range(3)]
check(previous_score, reference, cases=cases)

# %% [markdown]
# ## Repeat anything
#
# Did the model perhaps learn that friends drink tea? We can rule that out. Take 40 words at random
# and read them twice. No grammar and no meaning can tell which word comes next; in the second
# reading, looking back can.

# %%
rng = np.random.default_rng(0)
whole = [i for word, i in mini.tokenizer.vocabulary.items() if word.isalpha() and len(word) > 3]
words = rng.choice(whole, 40, replace=False)
twice = torch.tensor(np.concatenate([words, words])[None])
print("".join(mini.tokenizer.text_of(int(word)) for word in words[:8]))

# %% [markdown]
# How surprised the model is by a word is its loss, $-\log p$. Guessing among 7,700 tokens costs
# $\log 7700 = 8.95$.


# %%
def loss(logits, rows):
    target = twice[0, rows.start + 1 : rows.stop + 1]
    return torch.nn.functional.cross_entropy(logits[0, rows], target).item()


first, second = slice(0, 39), slice(40, 79)
with atento.capture(model) as repeated:
    logits = model(twice)
print(f"{loss(logits, first):.2f} {loss(logits, second):.2f}")

# %% [markdown]
# In the first reading the loss is 11.14, more than guessing would cost: the model expects sentences,
# and these words make none. In the second it is 0.38. That is $e^{-0.38} = 0.68$, a probability of
# two thirds for the right word out of 7,700, each of which it had seen once.
#
# Where do heads 0.2 and 1.1 look while it reads these 80 words?

# %% alt="Left, head 0.2: a line just below the diagonal. Right, head 1.1: in the upper half the weight is in the first column, in the lower half on a line 39 places left of the diagonal."
fig, axes = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
_ = atento.plot(repeated, "map", layer=0, head=2, ax=axes[0], title="0.2")
_ = atento.plot(repeated, "map", layer=1, head=1, ax=axes[1], title="1.1")

# %% [markdown]
# Left, the previous-token head, as before; towards the end, from about position 60 on, its line gets
# blurred. Right, head 1.1 has two halves. In the second one there
# is a clean stripe, 39 places to the left of the diagonal: each word looks at the word that
# *followed* its first appearance. That is an **induction head**, and it needs no knowledge of words.
# In the first half nothing has been repeated yet, and the weight lies in the first column.

# %% [markdown]
# ## Sinks: where a head waits
#
# Softmax weights sum to 1. A head that finds nothing to its taste must still put its weight
# somewhere, and trained models put it on the first token, which every query can see. Such a key is
# called an **attention sink**. Here are the four heads of layer 1 in numbers: the mean weight on the
# first token and on the induction keys, over the first reading, then over the second.

# %%
for name in ("first", "induction"):
    found = repeated[1].statistics[name][0]
    print(name.ljust(9), found[:, 1:40].mean(-1).round(2), found[:, 40:].mean(-1).round(2))

# %% [markdown]
# First reading: heads 1.0 to 1.2 leave 0.68 to 0.78 of their weight on the first token, head 1.3
# leaves 0.38. Second reading: 0.81 to 0.90 goes to the word that followed, and hardly anything to
# the first token. They are the same heads. The sink is where they wait until there is something to
# copy, and so the role in the table depends on the text that was read: on a text without
# repetition these heads would be called sinks.

# %% [markdown]
# ## Exercise: the induction score
#
# For a text that repeats after `period` tokens, query $i$ had its first appearance at
# $i - \text{period}$, and the word that followed stands at $i - \text{period} + 1$:
#
# $$\text{induction} = \frac{1}{T - \text{period}} \sum_{i=\text{period}}^{T-1}
# \text{weights}_{i,\,i-\text{period}+1}$$


# %% tags=["question"]
def induction_score(weights, period): ...


# %%
def reference(weights, period):
    rows = np.arange(period, len(weights))
    return weights[rows, rows - period + 1].mean()


check(induction_score, reference, cases=[(repeated[1].weights(h), 40) for h in range(4)])

# %% [markdown]
# ## Knocking a head out
#
# So far we have seen where heads look. Whether the model *needs* them is another question, and it
# has an experiment: set a head's output to zero, run the model again, and measure. An intervention
# does that while `capture` looks on. We print the loss of the second reading, and the induction
# score of the four heads of layer 1.


# %%
def without(layer, heads):
    knocked = atento.KnockOut(layer=layer, heads=heads)
    with atento.capture(model, interventions=[knocked]) as changed:
        logits = model(twice)
    induction = changed[1].statistics["induction"][0, :, 40:].mean(-1)
    print(layer, heads, f"{loss(logits, second):.2f}", induction.round(2))


without(1, 1)
without(1, [0, 1])
without(1, [0, 1, 2, 3])
without(2, [0, 1, 2, 3])

# %% [markdown]
# Without head 1.1 the loss goes from 0.38 to 1.24, without two heads to 3.69, without all four to
# 11.41, as bad as the first reading. So layer 1 does the copying, and its four heads share the work.
# Layer 2 can go altogether: 0.39. The induction scores stay what they were each time, for the
# weights of a head that is knocked out are still computed; only its output is gone.
#
# Now the heads of layer 0, one at a time. None of them looks where induction looks, and none copies
# anything. What do you expect?

# %%
for head in range(4):
    without(0, head)

# %% [markdown]
# Two of the four are indispensable, and look at the scores: without head 0.2 or head 0.0, those of
# layer 1 fall from more than 0.8 to almost nothing, although nobody touched layer 1. Induction is done
# in two steps. The previous-token head 0.2 writes into each token *which word came
# before it*. In layer 1 a query then looks for a key whose previous word is the query's own word.
# Take away the first step, and the second has nothing to find. Head 0.0 looks at its own token and
# hands on, cleanly, which word it is: in this model the comparison needs that as well.

# %% [markdown]
# ## One prediction, every head
#
# Back to the tea. `sweep` switches off every head in turn and tells how the log-probability of a
# token changes. It runs the model again each time, on what it was captured with.

# %%
tea = mini.encode("tea").ids[0]
swept = recording.sweep(token=tea)
print(swept)

# %% [markdown]
# The first two rows are the heads that we know: without 0.2 the log-probability of `tea` falls by
# 13.7, that is, the probability is divided by $e^{13.7}$, about 900,000. Then come heads of layers 1
# and 0, with changes from −1.7 to −0.4. Layer 2 and head 0.1 change next to nothing.
#
# Now compare with where they look. Of the four heads of layer 1, which one gives `tea` (position 3)
# the *least* weight from the last position? Write its number.

# %% tags=["question"]
answer = None

# %%
check(answer, np.argmin([recording[1].weights(head)[7, 3] for head in range(4)]))

# %% [markdown]
# Look for that head in the sweep: of its layer it is the one that matters *most*. The weights tell
# where a head looks; what it moves from there is in its values and its output projection, and how
# much the model relies on it is told by the experiment alone. Keep the two apart whenever you read
# that a model "attends to" something.
#
# One more trap. Do the effects of single heads add up?

# %%
for heads in (0, 1, 2, 3, [0, 1, 2, 3]):
    effect = recording.effect(atento.KnockOut(layer=1, heads=heads), token=tea)
    print(heads, f"{effect.change.log_probability:.2f}")

# %% [markdown]
# Taken one by one, the four heads cost 1.17 + 0.35 + 0.79 + 1.69 = 4.0. Taken together they cost
# 12.3, three times as much: while one is missing, the others still carry the answer. Heads that do
# the same work hide each other, so a small effect of a single head does not show that its work is
# not needed.

# %% [markdown]
# ## Your own model
#
# Nothing above is special to `mini`. With `pip install "atento[models]"` any model of Hugging Face is
# read in the same way; its weights are downloaded on the first call, so these lines are here to be
# copied, not run:
#
# ```python
# from transformers import AutoModelForCausalLM, AutoTokenizer
#
# name = "gpt2"  # or "meta-llama/Llama-3.2-1B", or a folder of yours
# tokenizer = AutoTokenizer.from_pretrained(name)
# model = AutoModelForCausalLM.from_pretrained(name).eval()
#
# with atento.capture(model) as recording:
#     model(**tokenizer("my friend drinks tea and my friend drinks", return_tensors="pt"))
# recording.name_tokens(tokenizer)
# print(recording.summary())
# atento.save(recording, "gpt2.html")
# ```
#
# No `attn_implementation="eager"`, no hooks; encoders such as BERT are loaded with `AutoModel`. From the command line it is
# `atento inspect --model gpt2 --text "..." --out gpt2.html`, and without `--model` it reads with
# `mini` and needs no PyTorch.

# %% [markdown]
# ## What you now know
#
# - `capture` keeps queries, keys and log-sum-exp, and any weight can be computed again from them.
# - A previous-token head, a sink and an induction head can each be told by one mean over weights.
# - Induction takes two steps: one layer marks each token with what came before it, the next one looks
#   for that mark.
# - Weights say where a head looks. Only an intervention says whether it matters, and single effects
#   do not add up.
#
# ## What to try next
#
# - Replace `KnockOut` by `atento.Temperature(layer=1, temperature=4.0)`, which blunts the weights without
#   removing a head.
# - Write a sentence of your own that repeats itself, in Spanish or in English. When does the copy fail?
# - Read the same text with GPT-2, and look for its induction heads.
#
# ## Sources
#
# - Olsson et al. 2022, *In-context Learning and Induction Heads*, arXiv 2209.11895 (the score by
#   repeated random tokens; the two-step circuit).
# - Elhage et al. 2021, *A Mathematical Framework for Transformer Circuits*,
#   transformer-circuits.pub (how heads of two layers compose).
# - Xiao et al. 2023, *Efficient Streaming Language Models with Attention Sinks*, arXiv 2309.17453,
#   section 3.
# - Michel et al. 2019, *Are Sixteen Heads Really Better than One?*, arXiv 1905.10650 (knocking heads
#   out).
# - Jain & Wallace 2019, *Attention is not Explanation*, arXiv 1902.10186 (weights and effects).
