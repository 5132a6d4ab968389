"""TrainingSettings: how long, how fast, how careful."""

from dataclasses import dataclass
from typing import Any

from atento.lm.setting import number, within

__all__ = ["TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """Everything that decides the steps of a training.

    Args:
        steps: how many updates.
        batch: rows of one update.
        accumulate: in how many parts a batch is computed, to fit into memory; the gradients are
            added up.
        learning_rate: the highest, reached after `warm_up` steps.
        final_learning_rate: the last; half a cosine leads there (Loshchilov & Hutter 2017, arXiv
            1608.03983). None: a tenth of the highest.
        warm_up: steps of a straight climb.
        weight_decay: of matrices; norms and biases are left alone (Loshchilov & Hutter 2019, arXiv
            1711.05101).
        betas: of AdamW.
        clip: the longest gradient; longer ones are shortened to it. 0: none is.
        evaluate_every: steps between two validations, each of which keeps a checkpoint.
        evaluate_rows: rows of a validation.
        patience: it ends after so many validations without a better one; None: never.
        keep: how many checkpoints stay, beside the best model.
        seed: of the first weights, the batches and dropout.
        precision: "float32"; "bfloat16", where torch's autocast holds that to be safe; "auto": the
            latter on GPUs that have it, and on CPUs with tiles for it from 256 features on.
        compile: let `torch.compile` make the steps faster. "auto": on GPUs with Triton, and on a
            CPU with a C++ compiler where the training takes 10¹⁴ operations or more (6 · parameters
            · tokens): compiling alone takes minutes.

    Raises:
        InputError: for a value out of its range.
    """

    steps: int = 2000
    batch: int = 12
    accumulate: int = 1
    learning_rate: float = 1e-3
    final_learning_rate: float | None = None
    warm_up: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    evaluate_every: int = 250
    evaluate_rows: int = 64
    patience: int | None = None
    keep: int = 2
    seed: int = 0
    precision: str = "auto"
    compile: bool | str = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "evaluate_every", "evaluate_rows", "keep"):
            within(name, getattr(self, name), _whole(getattr(self, name), 1), "a whole number ≥ 1")
        for name in ("warm_up", "seed"):
            within(name, getattr(self, name), _whole(getattr(self, name), 0), "a whole number ≥ 0")
        within("seed", self.seed, self.seed < 2**64, "a whole number of at most 64 bits")
        if self.patience is not None:
            within("patience", self.patience, _whole(self.patience, 1), "a whole number ≥ 1")
        within("batch", self.batch, self.batch % self.accumulate == 0, "a multiple of accumulate")
        rate = self.learning_rate
        within("learning_rate", rate, number(rate) and 0 < rate < 10, "above 0 and below 10")
        low = self.lowest_rate
        fits = number(low) and 0 <= low <= rate
        within("final_learning_rate", low, fits, "from 0 to learning_rate")
        decay, clip, betas = self.weight_decay, self.clip, self.betas
        within("weight_decay", decay, number(decay) and 0 <= decay < 10, "from 0 to 10")
        within("clip", clip, number(clip) and clip >= 0, "≥ 0")
        kinds = ("auto", "float32", "bfloat16")
        within("precision", self.precision, self.precision in kinds, "auto, float32 or bfloat16")
        chosen = self.compile == "auto" or isinstance(self.compile, bool)
        within("compile", self.compile, chosen, 'True, False or "auto"')
        two = isinstance(betas, tuple | list) and len(betas) == 2
        two = two and all(number(beta) and 0 <= beta < 1 for beta in betas)
        within("betas", betas, two, "two below 1")

    @property
    def lowest_rate(self) -> float:
        """The learning rate of the last step."""
        if self.final_learning_rate is None:
            return self.learning_rate / 10
        return self.final_learning_rate


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
