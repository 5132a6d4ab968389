"""Rotary scalings: how slower turns make room for texts longer than those of the training.

Each changes the table of frequencies step by step as `transformers` computes it, so that a model
that was trained with one of them gives the same numbers here.
"""

from dataclasses import dataclass
from math import ceil, floor, log, pi
from types import ModuleType
from typing import Any

from atento._errors import InputError, ShapeError
from atento.positions.checks import number_above, whole_number
from atento.positions.frequencies import plain_frequencies

__all__ = [
    "DynamicNTKScaling",
    "LinearScaling",
    "Llama3Scaling",
    "RotaryScaling",
    "YarnScaling",
]


@dataclass(frozen=True)
class LinearScaling:
    """Every turn is ``factor`` times slower: positions are squeezed into the trained length.

    Args:
        factor: how many times slower.

    Source: Chen et al. 2023 (arXiv 2306.15595), section 2.3.

    >>> LinearScaling(factor=4.0)
    LinearScaling(factor=4.0)
    """

    factor: float

    def __post_init__(self) -> None:
        number_above("LinearScaling: factor", self.factor, 0)

    def frequencies(
        self, xp: ModuleType, base: float, powers: Any, length: Any
    ) -> tuple[Any, float]:
        """(inverse frequencies, attention factor)."""
        del xp, length
        return plain_frequencies(base, powers) / self.factor, 1.0


@dataclass(frozen=True)
class DynamicNTKScaling:
    """A larger base for texts of more than ``original_length`` tokens: slow turns slow down most.

    ``base' = base · (factor · T / original_length − (factor − 1))^(d / (d − 2))`` for T tokens in
    all, that is, the last position and one.

    So the table depends on the text: a key that was turned (and cached) when the text was shorter
    is not turned as it would be now.

    Args:
        factor: how much more room there is for each token beyond the original length.
        original_length: the length of the training.

    Source: bloc97 and emozilla 2023; Peng et al. 2023 (arXiv 2309.00071), appendix B.1.

    >>> DynamicNTKScaling(factor=2.0, original_length=4096)
    DynamicNTKScaling(factor=2.0, original_length=4096)
    """

    factor: float
    original_length: int

    def __post_init__(self) -> None:
        number_above("DynamicNTKScaling: factor", self.factor, 0)
        whole_number("DynamicNTKScaling: original_length", self.original_length, 1)

    def frequencies(
        self, xp: ModuleType, base: float, powers: Any, length: Any
    ) -> tuple[Any, float]:
        """(inverse frequencies, attention factor); ``length`` an array of no axes, or None."""
        d = 2 * powers.shape[0]
        if d <= 2:
            raise ShapeError(
                f"DynamicNTKScaling needs at least 4 rotated features: the exponent is d / (d − 2);"
                f" got d = {d}."
            )
        if length is None:
            return plain_frequencies(base, powers), 1.0
        original = xp.asarray(self.original_length, dtype=length.dtype, device=length.device)
        stretch = self.factor * xp.maximum(length, original) / self.original_length
        wider: Any = base * (stretch - (self.factor - 1)) ** (d / (d - 2))
        return plain_frequencies(wider, powers), 1.0


@dataclass(frozen=True)
class YarnScaling:
    """YaRN: fast turns stay, slow ones are ``factor`` times slower, with a ramp between.

    A feature pair that turns more than ``beta_fast`` times within ``original_length`` tokens
    stays as it is; one that turns less than ``beta_slow`` times is slowed down in full.

    Args:
        factor: how much longer than ``original_length`` texts may be.
        original_length: the length of the training.
        beta_fast, beta_slow: turns within ``original_length`` where the ramp begins and ends.
        attention_factor: multiplies cosines and sines, so scores by its square; when left out,
            ``0.1 · ln(factor) + 1``.
        mscale, mscale_all_dim: when both are given (DeepSeek), the attention factor is
            ``(0.1 · mscale · ln(factor) + 1) / (0.1 · mscale_all_dim · ln(factor) + 1)``.
        truncate: the ramp begins and ends at whole feature pairs.

    Source: Peng et al. 2023 (arXiv 2309.00071), sections 3.2 to 3.4.

    >>> import numpy as np
    >>> from atento.positions import rotary
    >>> x = np.ones((2, 4))
    >>> scaling = YarnScaling(factor=4.0, original_length=2048)
    >>> rotary(x, scaling=scaling).shape
    (2, 4)
    """

    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        number_above("YarnScaling: factor", self.factor, 0)
        whole_number("YarnScaling: original_length", self.original_length, 1)
        number_above("YarnScaling: beta_slow", self.beta_slow, 0)
        if number_above("YarnScaling: beta_fast", self.beta_fast, 0) <= self.beta_slow:
            raise InputError(
                f"YarnScaling: beta_fast must be more than beta_slow; got {self.beta_fast} and "
                f"{self.beta_slow}. Did you swap them?"
            )

    def frequencies(
        self, xp: ModuleType, base: float, powers: Any, length: Any
    ) -> tuple[Any, float]:
        """(inverse frequencies, attention factor)."""
        del length
        pairs = powers.shape[0]
        wavelengths = base**powers  # divided by 2π
        first, last = self._ramp(base, 2 * pairs)
        steps = xp.arange(pairs, dtype=powers.dtype, device=powers.device)
        kept = 1 - xp.clip((steps - first) / (last - first), 0, 1)
        slow, fast = 1.0 / (self.factor * wavelengths), 1.0 / wavelengths
        return slow * (1 - kept) + fast * kept, self._attention_factor()

    def _ramp(self, base: float, d: int) -> tuple[float, float]:
        """The feature pairs at which the ramp begins and ends."""

        def pair_with(turns: float) -> float:
            return d * log(self.original_length / (turns * 2 * pi)) / (2 * log(base))

        first, last = pair_with(self.beta_fast), pair_with(self.beta_slow)
        if self.truncate:
            first, last = floor(first), ceil(last)
        first, last = max(first, 0), min(last, d - 1)
        return first, last + (0.001 if first == last else 0)

    def _attention_factor(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor <= 1:
            return 1.0
        if self.mscale and self.mscale_all_dim:
            one, all_dims = (
                0.1 * m * log(self.factor) + 1 for m in (self.mscale, self.mscale_all_dim)
            )
            return one / all_dims
        return 0.1 * log(self.factor) + 1


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1: fast turns stay, slow ones are ``factor`` times slower, and it fades between.

    A feature pair with a wavelength below ``original_length / high_freq_factor`` stays as it is;
    above ``original_length / low_freq_factor`` it is slowed down in full.

    Source: Grattafiori et al. 2024 (arXiv 2407.21783), section 3.4.2; the numbers in Meta's code.

    >>> import numpy as np
    >>> from atento.positions import rotary
    >>> x = np.ones((2, 4))
    >>> scaling = Llama3Scaling(
    ...     factor=8.0, original_length=8192, low_freq_factor=1.0, high_freq_factor=4.0
    ... )
    >>> rotary(x, scaling=scaling).shape
    (2, 4)
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_length: int

    def __post_init__(self) -> None:
        number_above("Llama3Scaling: factor", self.factor, 0)
        whole_number("Llama3Scaling: original_length", self.original_length, 1)
        low = number_above("Llama3Scaling: low_freq_factor", self.low_freq_factor, 0)
        if number_above("Llama3Scaling: high_freq_factor", self.high_freq_factor, 0) <= low:
            raise InputError(
                "Llama3Scaling: high_freq_factor must be more than low_freq_factor; got "
                f"{self.high_freq_factor} and {self.low_freq_factor}. Did you swap them?"
            )

    def frequencies(
        self, xp: ModuleType, base: float, powers: Any, length: Any
    ) -> tuple[Any, float]:
        """(inverse frequencies, attention factor)."""
        del length
        low, high, T = self.low_freq_factor, self.high_freq_factor, self.original_length
        fast = plain_frequencies(base, powers)
        wavelength = 2 * pi / fast
        is_slow, is_fast = wavelength > T / low, wavelength < T / high
        stepped = xp.where(is_slow, fast / self.factor, fast)
        kept = (T / wavelength - low) / (high - low)
        faded = (1 - kept) * stepped / self.factor + kept * stepped
        return xp.where(is_slow | is_fast, stepped, faded), 1.0


RotaryScaling = LinearScaling | DynamicNTKScaling | YarnScaling | Llama3Scaling
