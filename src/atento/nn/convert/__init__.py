"""To and from the attention of other libraries: outputs stay equal, or the reason why not is said.

One file per peer. All weights are copied: the two modules share no memory. What a peer computes
around its attention (LayerNorm, residual sums, dropout of the output) is not part of a
`MultiHeadAttention`, and each function says where that ends.
"""

from atento.nn.convert.bert import from_bert, to_bert
from atento.nn.convert.gpt2 import from_gpt2, to_gpt2
from atento.nn.convert.llama import from_llama, to_llama
from atento.nn.convert.pytorch import from_torch, mask_from_torch, to_torch

__all__ = [
    "from_bert",
    "from_gpt2",
    "from_llama",
    "from_torch",
    "mask_from_torch",
    "to_bert",
    "to_gpt2",
    "to_llama",
    "to_torch",
]
