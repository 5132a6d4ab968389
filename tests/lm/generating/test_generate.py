"""New text: what transformers writes with the same weights, in batches, in pieces, to its stop."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import atento
from atento import InputError
from atento.lm import (
    BPETokenizer,
    CharTokenizer,
    Transformer,
    TransformerConfig,
    generate,
    save_model,
)
from atento.lm.generating.decoding import decoded
from atento.lm.generating.sampling import Sampling

SHAPES = {
    "gpt2": {},
    "llama": {
        "position": "rotary",
        "norm": "rms",
        "feed_forward": "swiglu",
        "bias": False,
        "tied": False,
        "num_kv_heads": 2,
    },
    "window": {
        "position": "rotary",
        "norm": "rms",
        "feed_forward": "swiglu",
        "bias": False,
        "window": 6,
    },
}
TOKENIZER = CharTokenizer()


def made(shape="gpt2", **changes):
    torch.manual_seed(3)
    sizes = {"context": 48, "d_model": 24, "num_layers": 2, "num_heads": 4}
    model = Transformer(TransformerConfig(100, **(sizes | SHAPES[shape] | changes)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.tokenizer = TOKENIZER
    return model


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Our model and theirs with the same weights."""
    both = {}
    for shape in SHAPES:
        folder = tmp_path_factory.mktemp(shape)
        save_model(model := made(shape), folder)
        both[shape] = model, AutoModelForCausalLM.from_pretrained(folder).eval()
    return both


def theirs(model, text, tokens, **options):
    ids = torch.tensor([TOKENIZER.encode(text)])
    written = model.generate(
        ids, max_new_tokens=tokens, attention_mask=torch.ones_like(ids), pad_token_id=0, **options
    )
    return TOKENIZER.decode(written[0, ids.shape[1] :].tolist())


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_is_theirs_token_for_token(pairs, shape):
    ours, peer = pairs[shape]
    expected = theirs(peer, "Hello world", 30, do_sample=False)
    assert generate(ours, "Hello world", max_tokens=30, temperature=0) == expected
    assert len(set(expected)) > 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.7},
        {"top_k": 5},
        {"top_p": 0.6},
        {"min_p": 0.3},
        {"repetition_penalty": 1.7},
        {"temperature": 1.3, "top_k": 30, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2},
    ],
)
def test_chance_of_one_seed_is_theirs(pairs, options):
    ours, peer = pairs["llama"]
    torch.manual_seed(11)
    expected = theirs(peer, "Hello", 30, do_sample=True, **{"top_k": 0, **options})
    assert generate(ours, "Hello", max_tokens=30, seed=11, **options) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_prompts_of_any_lengths_side_by_side_are_as_one_by_one(pairs, shape):
    model = pairs[shape][0]
    prompts = ["Hello world, hello", "a", "bcd ef", "Hello world, hello"]
    together = generate(model, prompts, max_tokens=20, temperature=0)
    assert together == [generate(model, p, max_tokens=20, temperature=0) for p in prompts]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_cache_changes_nothing(pairs, shape):
    model, ids = pairs[shape][0].eval(), [TOKENIZER.encode("Hello"), TOKENIZER.encode("ab")]
    runs = [decoded(model, ids, Sampling(0), cached=cached) for cached in (True, False)]
    for _ in range(70):  # the context of 48 fills up on the way
        one, other = map(next, runs)
        assert one == other


def test_a_full_context_is_read_anew_from_its_half():
    model = made(context=10)
    text = generate(model, "Hello", max_tokens=30, temperature=0)
    assert len(text) == 30
    whole = TOKENIZER.encode("Hello" + text)
    # With 10 tokens of context, token 11 is the first to be chosen from a half of it.
    assert next(decoded(model, [whole[6:11]], Sampling(0))) == [whole[11]]
    assert next(decoded(model, [whole[:10]], Sampling(0))) == [whole[10]]


def test_pieces_are_the_text():
    model = made()
    whole = generate(model, "Hello", max_tokens=40, seed=5)
    pieces = list(generate(model, "Hello", max_tokens=40, seed=5, stream=True))
    assert "".join(pieces) == whole
    assert len(pieces) > 30
    assert generate(model, "Hello", max_tokens=40, seed=6) != whole


def test_it_ends_at_a_stop_and_tells_nothing_of_it():
    model = made()
    whole = generate(model, "Hello", max_tokens=40, seed=5)
    stop = whole[20:23]
    expected = whole[: whole.index(stop)]
    assert generate(model, "Hello", max_tokens=40, seed=5, stop=stop) == expected
    assert (
        "".join(generate(model, "Hello", max_tokens=40, seed=5, stop=["\0\0", stop], stream=True))
        == expected
    )
    almost = whole[20:22] + "\0"  # begins like the text, and is not in it
    assert generate(model, "Hello", max_tokens=40, seed=5, stop=almost) == whole


def test_it_ends_where_the_text_ends():
    tokenizer = BPETokenizer.train(["a b"], 257)
    model = Transformer(TransformerConfig(257, context=20, d_model=8, num_layers=1, num_heads=1))
    with torch.no_grad():  # after anything, the end is likeliest
        model.norm.weight.zero_()
        model.norm.bias.copy_(torch.eye(8)[0])
        model.token_embedding.weight[:, 0] = 0
        model.token_embedding.weight[tokenizer.id_of("<|endoftext|>"), 0] = 5
    assert generate(model, ["ab", "b"], temperature=0, tokenizer=tokenizer) == ["", ""]


def test_a_model_in_training_is_left_in_training():
    model = made(dropout=0.5).train()
    first = generate(model, "Hello", temperature=0, max_tokens=9)
    assert model.training
    assert first == generate(model.eval(), "Hello", temperature=0, max_tokens=9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": ""}, "prompt is empty"),
        ({"prompt": "x" * 49}, "49 tokens, and the model's context is 48"),
        ({"prompt": 5}, "got int"),
        ({"prompt": [5]}, "a prompt is a text; got int"),
        ({"prompt": ["a"], "stream": True}, "several prompts"),
        ({"max_tokens": 0}, "whole number ≥ 1; got 0"),
        ({"max_tokens": True}, "got True"),
        ({"temperature": -1}, "temperature must be ≥ 0; got -1"),
        ({"temperature": float("nan")}, "temperature must be ≥ 0; got nan"),
        ({"top_k": 1.5}, "top_k must be a whole number"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"min_p": 2}, "min_p must be from 0 to 1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0"),
        ({"stop": ["a", ""]}, "at least one character"),
        ({"prompt": "ñ"}, "not among the 100"),
        ({"seed": 2**64}, "seed must be a whole number of at most 64 bits"),
        ({"seed": -(2**63) - 1}, "at most 64 bits"),
        ({"seed": 1.5}, "at most 64 bits; got 1.5"),
        ({"top_p": "0.5"}, "top_p must be above 0 and at most 1; got '0.5'"),
        ({"repetition_penalty": 1e-40}, "too far from 1"),
    ],
)
def test_wrong_use_is_told(options, said):
    with pytest.raises(InputError, match=said):
        generate(made(), **{"prompt": "Hello", **options})


def test_a_capture_sees_the_tokens_that_are_written():
    """It may begin while a text is being written: what stands there is then read again."""
    model = made(window=None).eval()
    alone = generate(model, "Hello", max_tokens=9, temperature=0)
    with atento.capture(model) as recording:
        assert generate(model, "Hello", max_tokens=9, temperature=0) == alone
    assert recording[0].keys == 5 + 8
    steps = decoded(model, [TOKENIZER.encode("Hello")], Sampling(0))
    first = [next(steps)[0] for _ in range(4)]
    with atento.capture(model) as recording:
        then = [next(steps)[0] for _ in range(5)]
    assert TOKENIZER.decode(first + then) == alone
    assert recording[0].keys == 5 + 8


def test_a_tokenizer_of_another_model_is_told():
    larger = CharTokenizer("".join(map(chr, range(32, 32 + 200))))
    with pytest.raises(InputError, match=r"from 0 to 99; got 1\d\d\. Does the tokenizer belong"):
        generate(made(), "\xc0", tokenizer=larger)


def test_weights_that_are_no_numbers_are_told():
    model = made()
    with torch.no_grad():
        model.token_embedding.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="scores are no numbers"):
        generate(model, "Hello")


@pytest.mark.parametrize("seed", [2**64 - 1, -(2**63), 0])
def test_seeds_of_64_bits(seed):
    assert len(generate(made(), "Hello", max_tokens=3, seed=seed)) == 3


def test_a_model_without_tokenizer_says_so():
    model = made()
    model.tokenizer = None
    with pytest.raises(InputError, match="pass tokenizer="):
        generate(model, "Hello")
    assert generate(model, [], tokenizer=TOKENIZER) == []
