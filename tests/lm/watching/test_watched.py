"""The record of a training that was watched: its numbers, its roles, and its doors."""

import json

import numpy as np
import pytest

import atento
from atento import InputError
from atento.lm import Watched, load_watch
from atento.lm.watching.look import STATISTICS, Look, write_look
from atento.lm.watching.plan import Plan, Prompt, write_plan
from watched_records import watched

PROMPT = Prompt("ab", (0, 1), ("a", "b"))


def test_a_statistic_is_asked_for_by_its_name():
    record = watched()
    assert record["induction"].shape == (4, 2, 3)
    assert record["induction"][3, 1, 2] == 0.75
    assert record["previous"][2, 0, 1] == 0.875
    assert record.names == tuple(record) == STATISTICS
    np.testing.assert_allclose(record.loss, [4.25, 3.625, 3.125, 1.25])
    with pytest.raises(InputError, match="there is no statistic 'copying'; there are induction"):
        record["copying"]
    assert repr(record) == "Watched(4 steps up to 400, 6 heads)"


def test_when_each_head_formed():
    rows = {(row["layer"], row["head"]): row for row in watched().formed()}
    assert len(rows) == 6
    assert rows["blocks.0", 1] == {
        "layer": "blocks.0",
        "head": 1,
        "role": "previous token",
        "number": "previous",
        "value": 0.875,
        "threshold": 0.5,
        "step": 100,
    }
    assert (rows["blocks.1", 2]["role"], rows["blocks.1", 2]["step"]) == ("induction", 400)
    assert rows["blocks.0", 0]["role"] == "other"
    assert all(rows["blocks.0", 0][name] is None for name in ("number", "value", "step"))


def test_a_head_is_what_it_is_at_the_end_not_what_it_was():
    record = watched()
    record.numbers[1, STATISTICS.index("previous"), 0, 1] = 0.9  # reached, lost and reached again
    record.numbers[2, STATISTICS.index("previous"), 0, 1] = 0.1
    row = record.formed()[1]
    assert (row["role"], row["step"]) == ("previous token", 10)
    record.numbers[3, STATISTICS.index("previous"), 0, 1] = 0.1
    assert record.formed()[1]["role"] == "other"
    assert [record.role(step, 0, 1) for step in range(4)] == [
        "other", "previous token", "other", "other",
    ]  # fmt: skip


def test_a_threshold_that_is_just_reached():
    record = watched()
    record.numbers[:, STATISTICS.index("first"), 0, 0] = [0, 0.49999, 0.5, 0.6]
    row = record.formed()[0]
    assert (row["role"], row["step"], row["value"]) == ("sink", 100, 0.6)


def test_as_plain_values_it_is_strict_json(tmp_path):
    record = watched()
    said = json.loads(json.dumps(record.to_dict(), allow_nan=False))
    assert said["steps"] == [0, 10, 100, 400]
    assert said["statistics"]["induction"][3][1][2] == 0.75
    assert said["statistics"]["duplicate"][0][0][0] is None
    assert said["loss"][1] == [3.5, 3.75]
    assert said["prompts"] == ["abcabc", "hello"]
    assert said["formed"] == record.formed()
    path = tmp_path / "film.json"
    atento.save(record, path)
    assert json.loads(path.read_text("utf-8")) == {"format": "atento.watched/1", **said}


def test_in_a_terminal_it_is_the_table_of_heads(capsys):
    atento.show(watched(), lang="en")
    printed = capsys.readouterr().out
    assert "previous token" in printed
    with pytest.raises(InputError, match="is for a recording"):
        atento.show(watched(), lang="en", batch=1)


def test_a_folder_that_holds_none(tmp_path):
    with pytest.raises(InputError, match=r"there is no run in .*nowhere"):
        load_watch(tmp_path / "nowhere")
    with pytest.raises(InputError, match="was not watched: a run is watched from its start"):
        load_watch(tmp_path)
    write_plan(tmp_path, Plan((PROMPT,), None, 5))
    with pytest.raises(InputError, match=r"nothing was seen in .* yet"):
        load_watch(tmp_path)


def a_look(step, heads=(0, 1), prompts=1):
    numbers = np.zeros((len(STATISTICS), 1, len(heads)))
    return Look(step, ("one",), heads, numbers, np.zeros(prompts), ())


def test_looks_of_different_runs_are_not_mixed(tmp_path):
    write_plan(tmp_path, Plan((PROMPT,), None, 5))
    write_look(tmp_path, a_look(0))
    write_look(tmp_path, a_look(2))
    assert isinstance(load_watch(tmp_path), Watched)
    assert load_watch(tmp_path).log == ()
    write_look(tmp_path, a_look(3, heads=(0, 1, 2)))
    with pytest.raises(InputError, match="of step 3 is of another run than the rest"):
        load_watch(tmp_path)
    write_look(tmp_path, a_look(3, prompts=2))
    with pytest.raises(InputError, match="of step 3 is of another run"):
        load_watch(tmp_path)
