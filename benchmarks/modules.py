"""`MultiHeadAttention` against `nn.MultiheadAttention`, same weights."""

from collections.abc import Iterator

import torch
from torch import nn

from atento.nn import MultiHeadAttention
from benchmarks.harness import Row, ratio


def rows() -> Iterator[Row]:
    torch.manual_seed(2017)
    for batch, tokens in ((8, 128), (4, 512), (1, 2048)):
        theirs = nn.MultiheadAttention(512, 8, batch_first=True)
        ours = MultiHeadAttention.from_torch(theirs)
        x = torch.randn(batch, tokens, 512)
        for mode in ("inference", "training"):
            theirs.train(mode == "training")
            ours.train(mode == "training")
            for weights, least in ((False, 1.0), (True, 1.5)):
                calls = (
                    lambda x=x, weights=weights, m=theirs: m(
                        x, x, x, need_weights=weights, average_attn_weights=False
                    ),
                    lambda x=x, weights=weights, m=ours: m(x, return_weights=weights),
                )
                with torch.set_grad_enabled(mode == "training"):
                    yield ratio(
                        f"nn.MultiheadAttention / ours, {batch} × {tokens} × 512, {mode}"
                        + (", with weights" if weights else ""),
                        *calls,
                        at_least=least,
                        pairs=31 if tokens < 2000 else 11,
                    )
