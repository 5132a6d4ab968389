"""The experiment: its task by hand, what its models promise, and what a quick run writes."""

import datetime
import json
import random
import re

import pytest
import torch
from experiments.why_attention.task import (
    PER_DATE,
    TARGETS,
    WORDS,
    Batch,
    Sample,
    in_numbers,
    in_words,
    number,
    ordinal,
    year,
)

DAY = datetime.date


def generator(seed):
    return random.Random(seed)  # noqa: S311


@pytest.mark.parametrize(
    ("date", "language", "form", "said"),
    [
        (DAY(1999, 3, 5), "en", 0, "the fifth of march nineteen ninety nine"),
        (DAY(1999, 3, 5), "en", 1, "march fifth nineteen ninety nine"),
        (DAY(1999, 3, 5), "es", 0, "el cinco de marzo de mil novecientos noventa y nueve"),
        (DAY(1999, 3, 5), "es", 1, "cinco de marzo de mil novecientos noventa y nueve"),
        (DAY(2001, 5, 1), "en", 0, "the first of may two thousand and one"),
        (DAY(2001, 5, 1), "es", 0, "el uno de mayo de dos mil uno"),
        (DAY(2001, 5, 1), "es", 1, "primero de mayo del dos mil uno"),
        (DAY(1900, 12, 31), "en", 1, "december thirty first nineteen hundred"),
        (DAY(1900, 12, 31), "es", 0, "el treinta y uno de diciembre de mil novecientos"),
        (DAY(2000, 1, 30), "en", 0, "the thirtieth of january two thousand"),
        (DAY(2000, 1, 30), "es", 0, "el treinta de enero de dos mil"),
        (DAY(1907, 9, 22), "en", 1, "september twenty second nineteen oh seven"),
        (DAY(1907, 9, 22), "es", 0, "el veintidós de septiembre de mil novecientos siete"),
        (DAY(2040, 2, 16), "en", 0, "the sixteenth of february twenty forty"),
        (DAY(2042, 2, 16), "es", 0, "el dieciséis de febrero de dos mil cuarenta y dos"),
    ],
)
def test_dates_are_said_as_people_say_them(date, language, form, said):
    assert in_words(date, language, form) == said


def test_numbers_are_the_iso_date_two_digits_at_a_time():
    assert in_numbers(DAY(1999, 3, 5)) == ["19", "99", "03", "05"]
    assert in_numbers(DAY(2000, 12, 31)) == ["20", "00", "12", "31"]
    date = DAY(2047, 8, 9)
    assert "".join(in_numbers(date)) == date.isoformat().replace("-", "")


@pytest.mark.parametrize("language", ["en", "es"])
def test_what_is_said_says_which(language):
    assert len({number(n, language) for n in range(100)}) == 100
    assert len({year(n, language) for n in range(1900, 2100)}) == 200
    assert len({ordinal(n) for n in range(1, 32)}) == 31


def test_a_list_is_its_dates_with_commas_between():
    sample = Sample.of([DAY(1999, 3, 5), DAY(2001, 5, 1)], ["en", "es"], [0, 0])
    assert " ".join(sample.words) == (
        "the fifth of march nineteen ninety nine , el uno de mayo de dos mil uno"
    )
    assert sample.numbers == ("19", "99", "03", "05", "20", "01", "05", "01")


def test_training_never_holds_a_day_of_the_tests():
    def days(held_out):
        draw = generator(71)
        drawn = [Sample.draw(5, draw, held_out=held_out).numbers for _ in range(2000)]
        return {numbers[i : i + PER_DATE] for numbers in drawn for i in range(0, 20, PER_DATE)}

    trained, tested = days(False), days(True)
    assert not trained & tested
    # of 73,049 days one in ten: nearly all of the 7,305 come up in 10,000 draws
    assert 5000 < len(tested) <= 7305
    assert len(trained) > 8000
    assert {numbers[2] for numbers in tested} == {f"{month:02d}" for month in range(1, 13)}
    assert {numbers[3] for numbers in tested} == {f"{day:02d}" for day in range(1, 32)}


def test_draws_follow_the_generator_alone():
    first, second = (Sample.draw(3, generator(73), held_out=False) for _ in range(2))
    assert first == second
    assert first != Sample.draw(3, generator(74), held_out=False)


def test_a_batch_is_ids_and_who_is_a_word():
    short = Sample.of([DAY(2000, 1, 30)], ["es"], [1])
    long = Sample.of([DAY(1999, 3, 5)], ["en"], [0])
    batch = Batch.of([short, long])
    assert short.words == ("treinta", "de", "enero", "del", "dos", "mil")
    assert batch.keep.sum(1).tolist() == [6, 7]
    assert [WORDS[i] for i in batch.source[0]] == [*short.words, "<pad>"]
    assert [WORDS[i] for i in batch.source[1]] == list(long.words)
    assert [TARGETS[i] for i in batch.target[1]] == ["19", "99", "03", "05"]


def test_every_word_has_an_id():
    draw = generator(79)
    seen = {word for _ in range(3000) for word in Sample.draw(2, draw, held_out=False).words}
    assert seen | {"<pad>"} == set(WORDS)
    assert len(WORDS) == len(set(WORDS))


def models():
    from experiments.why_attention.train import MODELS

    return MODELS


@pytest.fixture(params=["recurrent", "recurrent_with_attention", "transformer"])
def model(request):
    torch.manual_seed(83)
    return models()[request.param]().eval()


def lists():
    """Two lists of two dates, the first the shorter."""
    days = [[DAY(2000, 1, 30), DAY(2001, 5, 1)], [DAY(1999, 3, 5), DAY(1907, 9, 22)]]
    batch = Batch.of([Sample.of(two, ["es", "en"], [1, 0]) for two in days])
    assert not batch.keep.all()
    return batch


def test_padding_changes_nothing(model):
    batch = lists()
    together = model(batch.source, batch.keep, batch.target)
    words = int(batch.keep[0].sum())
    alone = model(batch.source[:1, :words], batch.keep[:1, :words], batch.target[:1])
    assert torch.allclose(together[:1], alone, rtol=0, atol=1e-5)


def test_no_number_is_told_before_it_is_asked(model):
    batch = lists()
    scores = model(batch.source, batch.keep, batch.target)
    changed = batch.target.clone()
    changed[:, 5] = 17
    after = model(batch.source, batch.keep, changed)
    assert torch.allclose(after[:, :6], scores[:, :6], rtol=0, atol=1e-5)
    assert not torch.allclose(after[:, 6], scores[:, 6], rtol=0, atol=1e-5)


def test_writing_is_going_on_from_ones_own(model):
    batch = lists()
    written = model.write(batch.source, batch.keep, 8)
    assert written.shape == (2, 8)
    # given what it wrote as if it were right, the best next numbers are those again
    assert torch.equal(model(batch.source, batch.keep, written).argmax(-1), written)


def test_only_attention_keeps_more_of_a_longer_text():
    short, long = (Batch.draw(1, dates, generator(89)) for dates in (1, 3))
    kept = {}
    for name in ("recurrent", "recurrent_with_attention"):
        model = models()[name]()
        memories = [model.read(batch.source, batch.keep)[0] for batch in (short, long)]
        kept[name] = [memory[0].numel() for memory in memories]
    assert kept["recurrent"][0] == kept["recurrent"][1]
    assert kept["recurrent_with_attention"][0] * 2 < kept["recurrent_with_attention"][1]


def test_the_alignment_is_what_the_writer_looked_at():
    torch.manual_seed(97)
    model = models()["recurrent_with_attention"]().eval()
    batch = Batch.of([Sample.of([DAY(1999, 3, 5)], ["en"], [0])])
    source, target = batch.source[0], batch.target[0]
    weights = model.alignment(source, target)
    assert weights.shape == (4, 7)
    assert torch.allclose(weights.sum(1), torch.ones(4), rtol=0, atol=1e-6)
    # the first context is the states in these shares
    memory, state = model.read(batch.source, batch.keep)
    want = weights[0] @ memory[0][0]
    assert torch.allclose(model.context(state, memory)[0], want, rtol=0, atol=1e-6)


def test_measuring_counts_whole_dates():
    from experiments.why_attention.train import Settings, measure

    class Knows:
        """Right everywhere but in the month of the second date."""

        def write(self, source, keep, length):
            draw = generator("1 test of 2")
            right = Batch.draw(len(source), 2, draw, held_out=True).target.clone()
            assert length == right.shape[1]
            right[:, 6] = 0
            return right

    (measured,) = measure(Knows(), Settings(seed=1, tested=(2,), lists=5))
    assert measured.by_place == (1.0, 0.0)
    assert measured.date_accuracy == 0.5
    assert measured.number_accuracy == 7 / 8
    assert measured.dates == 2


def test_the_pictures_date_is_none_that_training_holds():
    from experiments.why_attention.__main__ import SHOWN
    from experiments.why_attention.task import HELD_OUT

    for i in range(0, len(SHOWN.numbers), PER_DATE):
        century, rest, month, day = map(int, SHOWN.numbers[i : i + PER_DATE])
        assert DAY(100 * century + rest, month, day).toordinal() % HELD_OUT == 0


NUMBER = (int, float)
MODEL = {"parameters": int, "seed": int, "seconds": float, "losses": list, "accuracy": list}
ACCURACY = {
    "dates": int,
    "words": float,
    "date_accuracy": float,
    "number_accuracy": float,
    "by_place": list,
}
TOP = {"format": str, "settings": dict, "torch": str, "models": dict, "alignment": dict}


def check(kinds, given):
    assert set(given) == set(kinds)
    for name, kind in kinds.items():
        assert isinstance(given[name], kind), name


def check_schema(results):
    check(TOP, results)
    assert results["format"] == "atento.why-attention/1"
    assert list(results["models"]) == ["recurrent", "recurrent_with_attention", "transformer"]
    for model in results["models"].values():
        check(MODEL, model)
        assert model["losses"][-1][0] == results["settings"]["steps"]
        assert [one["dates"] for one in model["accuracy"]] == results["settings"]["tested"]
        for one in model["accuracy"]:
            check(ACCURACY, one)
            assert 0 <= one["date_accuracy"] <= one["number_accuracy"] <= 1
            assert len(one["by_place"]) == one["dates"]
    alignment = results["alignment"]
    check({"source": list, "target": list, "written": list, "weights": list}, alignment)
    assert len(alignment["weights"]) == len(alignment["target"]) == len(alignment["written"])
    for row in alignment["weights"]:
        assert len(row) == len(alignment["source"])
        assert sum(row) == pytest.approx(1, abs=1e-5)


def without_times(results):
    for model in results["models"].values():
        del model["seconds"]
    return results


@pytest.mark.slow
def test_a_quick_run_writes_what_it_says_and_the_same_again(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    from experiments.why_attention.__main__ import main

    threads = torch.get_num_threads()
    try:
        main(["--quick", "--out", str(tmp_path / "first" / "run")])
        main(["--quick", "--out", str(tmp_path / "second")])
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().out
    for label in ("GRU, one vector", "GRU with additive attention", "Transformer"):
        assert label in said
    first, second = tmp_path / "first" / "run", tmp_path / "second"
    names = sorted(path.name for path in first.iterdir())
    assert names == [
        "accuracy.png",
        "accuracy.svg",
        "alignment.png",
        "alignment.svg",
        "why_attention.json",
    ]
    results, again = (
        json.loads((folder / "why_attention.json").read_text("utf-8")) for folder in (first, second)
    )
    check_schema(results)
    assert without_times(results) == without_times(again)
    for name in names[:-1]:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    for name in ("accuracy.png", "alignment.png"):
        assert (first / name).read_bytes().startswith(b"\x89PNG")
    accuracy = (first / "accuracy.svg").read_text("utf-8")
    alignment = (first / "alignment.svg").read_text("utf-8")
    assert re.search(r"<text[^>]*>\s*Transformer", accuracy)  # text, not outlines
    for word in results["alignment"]["source"]:
        assert f">{word}</text>" in alignment
