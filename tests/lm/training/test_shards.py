"""A model in parts: two processes with half of it each do what one does with all of it."""

import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from atento.lm import load_model, train

pytestmark = pytest.mark.slow

TEAM = """
    import sys
    import torch
    from atento.lm import TransformerConfig, train
    from atento.lm.training import loop

    text = "to be or not to be, that is the question. " * 60
    config = TransformerConfig(1, context=16, d_model=8, num_layers=2, num_heads=2)
    parts = []
    step = loop.Loop._step

    def looked_at(self):
        if not parts:
            parts.append(sum(p.to_local().numel() for p in self.model.parameters()))
            assert parts[0] < 0.6 * sum(p.numel() for p in self.model.parameters())
        return step(self)

    loop.Loop._step = looked_at
    out, kind = sys.argv[1:]
    given = dict(config=config, batch=4, accumulate=2, evaluate_every=4, warm_up=2, seed=5,
                 learning_rate=3e-3, steps=12, watch=["to be or not"], watch_every=6)
    if kind == "resume":
        train(out=out, resume=True, shard=True, progress=False)
    else:
        train([text], out=out, shard=True, progress=False, **given)
    assert parts
"""


@pytest.fixture
def together(tmp_path):
    """Runs the script in two processes of torchrun."""
    script = tmp_path / "team.py"
    script.write_text(textwrap.dedent(TEAM))

    def call(folder, kind):
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
             str(script), str(folder), kind],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    return call


def rows(folder):
    return json.loads((folder / "log.json").read_text())


def cut_back(folder, step):
    """As if it had been killed after a step."""
    for path in (folder / "checkpoints").glob("step-*"):
        if int(path.name[5:]) > step:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def test_two_halves_give_the_curve_of_one_and_go_on_from_each_other(small, together, tmp_path):
    shape = {"num_layers": 2}
    options = {"watch": ["to be or not"], "watch_every": 6}
    alone = small("alone", accumulate=2, shape=shape, keep=9, **options)
    both = tmp_path / "both"
    together(both, "new")
    for name in ("loss", "validation", "gradient"):
        one, other = ([row[name] for row in r if row[name]] for r in (alone.log, rows(both)))
        np.testing.assert_allclose(other, one, atol=1e-4)
    torch.testing.assert_close(
        dict(load_model(both).named_parameters()),
        dict(alone.model().named_parameters()),
        atol=1e-4,
        rtol=1e-3,
    )
    looks = [sorted(p.name for p in (f / "watch").iterdir()) for f in (alone.folder, both)]
    assert looks[0] == looks[1]

    # One goes on with what two have begun, ...
    cut_back(both, 8)
    again = train(out=both, resume=True, progress=False)
    expected = [row["loss"] for row in alone.log]
    np.testing.assert_allclose([row["loss"] for row in again.log], expected, atol=1e-4)
    # ... and two with what one has.
    cut_back(alone.folder, 8)
    together(alone.folder, "resume")
    found = rows(alone.folder)
    assert [row["step"] for row in found] == list(range(1, 13))
    np.testing.assert_allclose([row["loss"] for row in found], expected, atol=1e-4)
