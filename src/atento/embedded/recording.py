"""The attention of the embedded model as a Recording, as `capture` makes them of others."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from atento.embedded.model import LayerRun, Mini, Run
from atento.masks import Causal
from atento.reading.layer import LayerRecord
from atento.reading.recording import Recording
from atento.statistics import survey

__all__ = ["layer_names", "record_mini"]


def layer_names(mini: Mini) -> list[str]:
    """The names of its attention layers, as transformers' GPT-2 names them."""
    return [f"transformer.h.{number}.attn" for number in range(mini.num_layers)]


def record_mini(
    mini: Mini,
    ids: Sequence[int],
    *,
    layers: Sequence[str] | None = None,
    heads: Sequence[int] | None = None,
    statistics: Any = None,
    off: Collection[tuple[int, int]] = (),
    run: Run | None = None,
) -> Recording:
    """Run the model on token ids and keep what its attention was.

    Args:
        mini: the model.
        ids: at most `Mini.context` of them.
        layers: names, out of `layer_names`; None: all.
        heads: which of each layer; None: all.
        statistics: as in `atento.survey`.
        off: heads that are switched off, as in `Mini.run`.
        run: what `Mini.run` returned for these ids and ``off``, where it ran already.

    >>> from atento.embedded import load_mini
    >>> mini = load_mini()
    >>> record_mini(mini, mini.encode("Hola, México!").ids)[0].shape
    (1, 4, 4, 4)
    """
    run = run or mini.run(ids, off=off)
    runs = zip(layer_names(mini), run.layers, strict=True)
    tokens = np.asarray(ids)[None]
    return Recording(
        [
            _record(name, layer, tokens, heads, statistics)
            for name, layer in runs
            if layers is None or name in layers
        ],
        token_ids=tokens,
    )


def _record(
    name: str, run: LayerRun, tokens: Any, heads: Sequence[int] | None, statistics: Any
) -> LayerRecord:
    chosen = slice(None) if heads is None else list(heads)
    # (head, token, head_dim) -> (batch, head, token, head_dim)
    query, key, value = (array[chosen][None] for array in (run.query, run.key, run.value))
    found = survey(query, key, value, mask=Causal(), statistics=statistics, tokens=tokens)
    record = LayerRecord(
        layer=name,
        kind="self",
        side=None,
        way="embedded",
        query=query,
        key=key,
        lse=found.lse,
        mask=Causal(),
        scale=1 / float(np.sqrt(query.shape[-1])),
        head_numbers=() if heads is None else tuple(heads),
        statistics=dict(found.statistics),
        axes={statistic: axes[1:] for statistic, axes in found.axes.items()},
    )
    record.check()
    return record
