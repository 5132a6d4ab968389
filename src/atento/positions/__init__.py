"""Where a token stands: what is added to it, what turns it, and what its distance costs.

Pure functions over arrays of any library, and small frozen rules that modules take as
``position=`` (`Sinusoidal`, `Rotary`) and `atento.attention` as ``bias=`` (`Alibi`,
`RelativeBias`, `DistanceBias`).
"""

from atento.positions.alibi_bias import Alibi, alibi, alibi_slopes
from atento.positions.distance_bias import DistanceBias
from atento.positions.rotary_rotation import Rotary, rotary, rotary_frequencies
from atento.positions.rotary_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    RotaryScaling,
    YarnScaling,
)
from atento.positions.sinusoids import Sinusoidal, sinusoidal
from atento.positions.t5_bias import RelativeBias, relative_bias, relative_buckets

__all__ = [
    "Alibi",
    "DistanceBias",
    "DynamicNTKScaling",
    "LinearScaling",
    "Llama3Scaling",
    "RelativeBias",
    "Rotary",
    "RotaryScaling",
    "Sinusoidal",
    "YarnScaling",
    "alibi",
    "alibi_slopes",
    "relative_bias",
    "relative_buckets",
    "rotary",
    "rotary_frequencies",
    "sinusoidal",
]
