"""Models of transformers behind the server: read, changed, generated from; one at a time."""

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import transformers  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordLevel  # noqa: E402
from tokenizers.pre_tokenizers import Split  # noqa: E402

import atento  # noqa: E402
from atento._errors import InputError  # noqa: E402
from atento.reading.interventions import KnockOut  # noqa: E402
from atento.server.mistakes import said_of  # noqa: E402
from atento.server.torch_reader import TorchReader  # noqa: E402
from atento.server.work import Stop, StoppedError  # noqa: E402
from saved_models import WORDS, llama, saved  # noqa: E402

TEXT = "the cat sat on a dog and then ran ."


@pytest.fixture(scope="module")
def model():
    return llama()


@pytest.fixture(scope="module")
def reader(model, tmp_path_factory):
    return TorchReader(str(saved(model, tmp_path_factory.mktemp("models") / "tiny-llama")))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=31,
        max_position_embeddings=90,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    return TorchReader(str(saved(transformers.BertForMaskedLM(config).eval(), folder)))


def logits_of(model, ids, interventions=()):
    with torch.no_grad(), atento.capture(model, interventions=interventions) as recording:
        output = model(input_ids=torch.tensor([ids]))
    return output.logits[0, -1].numpy(), recording


def test_a_text_is_read_with_the_models_own_numbers(reader, model):
    assert reader.name == "tiny-llama"
    recording, logits = reader.read(TEXT, (), Stop())
    ids = reader.loaded.encode(TEXT)
    expected, other = logits_of(model, ids)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert recording.names == other.names
    np.testing.assert_allclose(recording[1].weights(3), other[1].weights(3), atol=1e-6)
    assert recording.tokens == TEXT.split()


def test_heads_that_are_off_change_the_logits_as_knock_out_does(reader, model):
    off = ((0, 1), (1, 3))
    recording, logits = reader.read(TEXT, off, Stop())
    ids = reader.loaded.encode(TEXT)
    expected, _ = logits_of(model, ids, [KnockOut(0, 1), KnockOut(1, 3)])
    plain, _ = logits_of(model, ids)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert np.abs(logits - plain).max() > 1e-3
    assert len(recording) == 2
    _, again = reader.read(TEXT, (), Stop())
    np.testing.assert_allclose(again, plain, atol=1e-5)  # nothing stays switched off


@pytest.mark.parametrize(
    ("pair", "english", "spanish"),
    [
        ((0, 99), "there is no head 99 in layer ", "no hay ninguna cabeza 99 en la capa "),
        ((9, 0), "there is no layer 9: there are 0 to 1.", "no hay ninguna capa 9: las hay de 0"),
    ],
)
@pytest.mark.parametrize("known", [False, True])
def test_a_head_that_is_not_there_is_told(reader, monkeypatch, known, pair, english, spanish):
    if known:
        reader.read(TEXT, (), Stop())
    else:
        monkeypatch.setattr(reader, "_layers", [])  # as before the first text
    options = {"tokens": 2, "temperature": 0.0, "top_k": 0, "seed": 0}
    for ask in (
        lambda: reader.read(TEXT, (pair,), Stop()),
        lambda: next(reader.generate(TEXT, (pair,), {**options, "watch": (0, 0)}, Stop())),
        lambda: next(reader.generate(TEXT, (), {**options, "watch": pair}, Stop())),
    ):
        with pytest.raises(InputError) as told:
            ask()
        assert str(told.value).startswith(english)
        assert said_of(told.value, "es").startswith(spanish)


@pytest.mark.parametrize("off", [(), ((0, 2),)])
def test_tokens_come_with_the_weights_of_the_watched_head(reader, model, off):
    options = {"tokens": 5, "temperature": 0.0, "top_k": 0, "seed": 0, "watch": (1, 2)}
    *events, last = reader.generate(TEXT, off, options, Stop())
    ids = reader.loaded.encode(TEXT)
    assert events[0]["tokens"] == TEXT.split()
    changes = [KnockOut(*pair) for pair in off]
    for event in events:
        logits, recording = logits_of(model, ids, changes)
        assert event["id"] == int(logits.argmax())
        np.testing.assert_allclose(event["weights"], recording[1].weights(2, -1)[0], atol=1e-5)
        chances = np.exp(logits - logits.max())
        assert event["probability"] == pytest.approx(chances.max() / chances.sum(), rel=1e-4)
        assert event["token"] == WORDS[event["id"]]
        ids.append(event["id"])
    assert last["text"].startswith(TEXT)


def test_generation_ends_with_the_models_positions(reader, monkeypatch):
    monkeypatch.setattr("atento.server.torch_reader._ends", lambda _: set())
    options = {"tokens": 500, "temperature": 0.0, "top_k": 0, "seed": 0, "watch": (0, 0)}
    events = list(reader.generate("the cat " * 40, (), options, Stop()))
    assert len(events) - 1 == 90 - 80


def test_generation_ends_where_the_model_ends_the_text(reader, monkeypatch):
    options = {"tokens": 5, "temperature": 0.0, "top_k": 0, "seed": 0, "watch": (0, 0)}
    monkeypatch.setattr("atento.server.torch_reader._ends", lambda _: set())
    third = list(reader.generate(TEXT, (), options, Stop()))[2]["id"]
    monkeypatch.setattr("atento.server.torch_reader._ends", lambda _: {third})
    *events, last = reader.generate(TEXT, (), options, Stop())
    assert third in [event["id"] for event in events]
    assert len(events) <= 3
    assert last["text"]


def test_an_encoder_has_no_next_token(encoder):
    recording, logits = encoder.read(TEXT, (), Stop())
    assert logits is None
    assert len(recording) == 2
    recording, logits = encoder.read(TEXT, ((1, 1),), Stop())
    assert logits is None
    options = {"tokens": 5, "temperature": 0.0, "top_k": 0, "seed": 0, "watch": (0, 0)}
    with pytest.raises(InputError, match="tiny-bert writes no text") as told:
        next(encoder.generate(TEXT, (), options, Stop()))
    assert told.value.name == "live_writes_no_text"


def test_half_a_character_is_told(reader):
    with pytest.raises(InputError, match="half a character"):
        reader.read("the \ud800 cat", (), Stop())


@pytest.fixture
def letters(model, tmp_path):
    """The model with a tokenizer of some letters, and none for what it does not know."""
    known = {letter: number for number, letter in enumerate("abc ☃")}
    tokenizer = Tokenizer(WordLevel(known, "<none>"))
    tokenizer.pre_tokenizer = Split("", "isolated")
    folder = saved(model, tmp_path / "letters", with_tokenizer=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return TorchReader(str(folder))


def test_characters_that_the_tokenizer_does_not_know_are_told(letters):
    assert len(letters.read("a ☃ b", (), Stop())[0].tokens) == 5
    with pytest.raises(InputError) as told:
        letters.read("a שb\u202e ש" * 3, (), Stop())
    assert str(told.value) == ("letters has no tokens for ש <U+202E>: take these characters out.")
    assert said_of(told.value, "es").startswith("letters no tiene tokens para ש <U+202E>")


def test_a_text_that_is_too_long_is_told_without_options_of_the_terminal(reader):
    with pytest.raises(InputError) as told:
        reader.read("the cat " * 50, (), Stop())
    for lang, words in (
        ("en", "The model reads at most 90"),
        ("es", "El modelo lee como mucho 90"),
    ):
        said = said_of(told.value, lang)
        assert said.startswith(words)
        assert "--" not in said


def test_a_reading_ends_with_its_client(reader):
    stop = Stop()
    stop.ask()
    with pytest.raises(StoppedError):
        reader.read(TEXT, (), stop)


def test_the_model_runs_for_one_client_at_a_time(reader, model, monkeypatch):
    inside, most = [], []
    forward = type(reader.loaded.model).forward

    def slow(self, *args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        try:
            return forward(self, *args, **kwargs)
        finally:
            inside.pop()

    slow.__signature__ = __import__("inspect").signature(forward)
    monkeypatch.setattr(type(reader.loaded.model), "forward", slow)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(reader.read(TEXT, (), Stop())[1]))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 6
    assert max(most) == 1
    for logits in found:
        np.testing.assert_array_equal(logits, found[0])


def test_whoever_waits_for_the_model_leaves_when_its_client_has(reader):
    stop = Stop()
    with reader._free:
        threading.Timer(0.2, stop.ask).start()
        with pytest.raises(StoppedError):
            reader.read(TEXT, (), stop)
