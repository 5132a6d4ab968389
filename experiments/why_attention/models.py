"""Three models for one task: what each of them keeps of the text while it writes.

All three map source ids (batch, word) to scores for each number of the answer. In training they are
given the right answer so far ("teacher forcing"); `write` lets them go on from their own.
Shapes: B lists in a batch, S words, T numbers, C features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atento.masks import Causal, KeyPadding
from atento.nn import AdditiveAttention, CrossAttention, KVCache, MultiHeadAttention
from atento.positions import Sinusoidal
from experiments.why_attention.task import START, TARGET_ID, TARGETS, WORDS

__all__ = ["Memory", "Recurrent", "RecurrentWithAttention", "Transformer"]

Memory = tuple[Tensor, ...]
Caches = Sequence[KVCache | None]
POSITIONS = Sinusoidal()


class Recurrent(nn.Module):
    """A GRU reads, a GRU writes; between them one vector, however long the text is.

    Cho et al. 2014 (arXiv 1406.1078); Sutskever et al. 2014 (arXiv 1409.3215).
    """

    def __init__(self, d_embed: int = 64, d_model: int = 128) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), d_embed)
        self.numbers = nn.Embedding(len(TARGETS), d_embed)
        self.reader = nn.GRU(d_embed, d_model // 2, batch_first=True, bidirectional=True)
        self.first_state = nn.Linear(d_model, d_model)
        self.writer = nn.GRUCell(d_embed + d_model, d_model)
        self.output = nn.Linear(2 * d_model, len(TARGETS))

    def read(self, source: Tensor, keep: Tensor) -> tuple[Memory, Tensor]:
        """What stays of the text, and the writer's first state.

        Args:
            source: (B, S) word ids.
            keep: (B, S), True = a word.
        """
        packed = nn.utils.rnn.pack_padded_sequence(
            self.words(source), keep.sum(1), batch_first=True, enforce_sorted=False
        )
        read, last = self.reader(packed)  # last: (2 directions, B, C / 2)
        states, _ = nn.utils.rnn.pad_packed_sequence(read, batch_first=True)  # (B, S, C)
        last = last.transpose(0, 1).flatten(1)  # (B, C)
        return self.remember(states, last, keep), torch.tanh(self.first_state(last))

    def remember(self, states: Tensor, last: Tensor, keep: Tensor) -> Memory:
        """One vector for the whole text: what the GRU held at both ends."""
        del states, keep
        return (last,)

    def context(self, state: Tensor, memory: Memory) -> Tensor:
        """(B, C): the same at every step."""
        del state
        return memory[0]

    def step(self, number: Tensor, state: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Scores (B, numbers) of what follows ``number`` (B,), and the new state (B, C)."""
        context = self.context(state, memory)
        state = self.writer(torch.cat([self.numbers(number), context], -1), state)
        return self.output(torch.cat([state, context], -1)), state

    def forward(self, source: Tensor, keep: Tensor, target: Tensor) -> Tensor:
        """Scores (B, T, numbers), each step given the right numbers before it."""
        memory, state = self.read(source, keep)
        scores = []
        for number in shifted(target).unbind(1):
            score, state = self.step(number, state, memory)
            scores.append(score)
        return torch.stack(scores, 1)

    @torch.no_grad()
    def write(self, source: Tensor, keep: Tensor, length: int) -> Tensor:
        """The numbers (B, length), each step given its own before it."""
        memory, state = self.read(source, keep)
        number = torch.full_like(source[:, 0], TARGET_ID[START])
        written = []
        for _ in range(length):
            score, state = self.step(number, state, memory)
            number = score.argmax(-1)
            written.append(number)
        return torch.stack(written, 1)


class RecurrentWithAttention(Recurrent):
    """The same, but every state of the reader stays, and the writer looks again at each step.

    Bahdanau et al. 2014 (arXiv 1409.0473).
    """

    def __init__(self, d_embed: int = 64, d_model: int = 128, d_hidden: int = 64) -> None:
        super().__init__(d_embed, d_model)
        self.attention = AdditiveAttention(d_model, d_model, d_hidden)

    def remember(self, states: Tensor, last: Tensor, keep: Tensor) -> Memory:
        """All states (B, S, C), with their side of the comparison, which no step changes."""
        del last
        return states, self.attention.key(states), keep

    def context(self, state: Tensor, memory: Memory) -> Tensor:
        """(B, C): the states that matter now."""
        states, projected, keep = memory
        context: Tensor = self.attention(
            state, states, mask=KeyPadding(keep), key_projection=projected
        )
        return context

    @torch.no_grad()
    def alignment(self, source: Tensor, target: Tensor) -> Tensor:
        """Weights (T, S): where the writer looked for each number of one list, by `trace`."""
        keep = torch.ones_like(source, dtype=torch.bool)
        memory, state = self.read(source[None], keep[None])
        rows = []
        for number in shifted(target[None]).unbind(1):
            trace = self.attention.trace(state, memory[0])
            rows.append(trace["weights"].value[0, 0])  # (batch, query, key) -> (S,)
            _, state = self.step(number, state, memory)
        return torch.stack(rows)


class Transformer(nn.Module):
    """No recurrence: words look at words, numbers at numbers before them, and numbers at words.

    Vaswani et al. 2017 (arXiv 1706.03762), with LayerNorm before each part. Positions are their
    sines and cosines, added to the words and to the numbers: "the third date" is found by where it
    stands. Beyond the longest list of the training these waves come in combinations never seen.
    """

    def __init__(self, d_model: int = 128, num_heads: int = 4, num_layers: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), d_model)
        self.numbers = nn.Embedding(len(TARGETS), d_model)
        layers = range(num_layers)
        self.encoder = nn.ModuleList(EncoderLayer(d_model, num_heads) for _ in layers)
        self.encoder_norm = nn.LayerNorm(d_model)
        self.decoder = nn.ModuleList(DecoderLayer(d_model, num_heads) for _ in layers)
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, len(TARGETS))

    def read(self, source: Tensor, keep: Tensor) -> Tensor:
        """What stays of the text: a state for each word, (B, S, C)."""
        x = POSITIONS.embed(self.words(source))
        for layer in self.encoder:
            x = layer(x, KeyPadding(keep))
        states: Tensor = self.encoder_norm(x)
        return states

    def decode(self, numbers: Tensor, states: Tensor, keep: Tensor, caches: Caches) -> Tensor:
        """Scores (B, T, numbers) of the number after each of ``numbers`` (B, T)."""
        passed = 0 if caches[0] is None else caches[0].num_tokens
        y = POSITIONS.embed(self.numbers(numbers), start=passed)
        for layer, cache in zip(self.decoder, caches, strict=True):
            y = layer(y, states, KeyPadding(keep), cache)
        scores: Tensor = self.output(self.norm(y))
        return scores

    def forward(self, source: Tensor, keep: Tensor, target: Tensor) -> Tensor:
        """Scores (B, T, numbers), each step given the right numbers before it: all at once."""
        nothing = [None] * len(self.decoder)
        return self.decode(shifted(target), self.read(source, keep), keep, nothing)

    @torch.no_grad()
    def write(self, source: Tensor, keep: Tensor, length: int) -> Tensor:
        """The numbers (B, length), each step given its own before it."""
        states, caches = self.read(source, keep), [KVCache() for _ in self.decoder]
        number = torch.full_like(source[:, :1], TARGET_ID[START])  # (B, 1)
        written = []
        for _ in range(length):
            number = self.decode(number, states, keep, caches).argmax(-1)
            written.append(number)
        return torch.cat(written, 1)


class EncoderLayer(nn.Module):
    """Words look at words; then each alone through two linear maps. Both are added to what came."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.norm_2 = nn.LayerNorm(d_model)
        self.feed_forward = feed_forward(d_model)

    def forward(self, x: Tensor, real: KeyPadding) -> Tensor:
        """(B, S, C) -> (B, S, C)."""
        x = x + self.attention(self.norm_1(x), mask=real)
        out: Tensor = x + self.feed_forward(self.norm_2(x))
        return out


class DecoderLayer(nn.Module):
    """Numbers look at the numbers before them, then at the words."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(d_model)
        self.attention = MultiHeadAttention(d_model, num_heads, mask=Causal())
        self.norm_2 = nn.LayerNorm(d_model)
        self.look = CrossAttention(d_model, num_heads)
        self.norm_3 = nn.LayerNorm(d_model)
        self.feed_forward = feed_forward(d_model)

    def forward(self, y: Tensor, states: Tensor, real: KeyPadding, cache: KVCache | None) -> Tensor:
        """(B, T, C) and the words' states (B, S, C) -> (B, T, C)."""
        y = y + self.attention(self.norm_1(y), cache=cache)
        y = y + self.look(self.norm_2(y), states, mask=real)
        out: Tensor = y + self.feed_forward(self.norm_3(y))
        return out


def feed_forward(d_model: int) -> nn.Sequential:
    """Two linear maps with a bend in between."""
    return nn.Sequential(
        nn.Linear(d_model, 4 * d_model), nn.GELU(), nn.Linear(4 * d_model, d_model)
    )


def shifted(target: Tensor) -> Tensor:
    """What the writer has before each number (B, T): START, then the right ones but the last."""
    start = torch.full_like(target[:, :1], TARGET_ID[START])
    return torch.cat([start, target[:, :-1]], 1)
