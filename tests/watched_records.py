"""What was watched of a training that never was: numbers that are easy to find again."""

import numpy as np

from atento.lm.watching import Watched
from atento.lm.watching.look import STATISTICS
from atento.lm.watching.plan import Prompt

STEPS = (0, 10, 100, 400)
LAYERS = ("blocks.0", "blocks.1")
HEADS = (0, 1, 2)


def watched(*, text="abcabc", layers=LAYERS, side=6, pools=1, steps=STEPS, log=True):
    """Head 1 of layer 0 becomes a previous-token head at step 100, head 2 of layer 1 an induction
    head at step 400; on map k of head h all weight is on key (h + k) mod side."""
    count = len(steps)
    numbers = np.full((count, len(STATISTICS), len(layers), len(HEADS)), 0.125)
    numbers += np.arange(len(HEADS)) / 100 + np.arange(len(layers))[:, None] / 20
    numbers[:, STATISTICS.index("duplicate")] = np.nan
    numbers[:, STATISTICS.index("entropy")] = 1.75
    numbers[2:, STATISTICS.index("previous"), 0, 1] = 0.875
    numbers[3:, STATISTICS.index("induction"), -1, 2] = 0.75
    maps = np.zeros((count, pools, len(layers), len(HEADS), side, side), np.float16)
    for step in range(count):
        for head in range(len(HEADS)):
            maps[step, :, :, head, :, (head + step) % side] = 1
    if pools > 1:
        maps[:, 0] *= np.float16(0.5)
    prompts = (
        Prompt(text, tuple(range(len(text))), tuple(text)),
        Prompt("hello", (1, 2, 3, 3, 4), ("he", "l", "l", "o", "<b>&")),
    )
    losses = np.array([[4.0, 4.5], [3.5, 3.75], [3.0, 3.25], [1.0, 1.5]])[:count]
    rows = tuple({"step": step, "loss": 4.0 - step / 200, "validation": None} for step in steps[1:])
    return Watched(
        steps=np.array(steps, np.int64),
        total=800,
        layers=tuple(layers),
        heads=HEADS,
        numbers=numbers,
        losses=losses,
        prompts=prompts,
        maps=(maps, maps[..., ::-1]),
        log=rows if log else (),
    )
