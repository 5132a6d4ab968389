"""Every public name says what it is: arguments, shapes, a source, and an example that runs."""

import inspect
import re
from importlib import import_module

import pytest
from docs.making.reference_pages import MODULES, public_names

DATA = {"ALL", "NONE", "PRESETS", "RotaryScaling"}
"""Values, which have no docstring of their own: a comment of the reference is under the name."""

AS_ATTENTION = {"atento.trace", "atento.plan"}  # "the arguments are those of `attention`"
OF_MODULES = {"args", "kwargs", "options", "unknown"}

FORMULAS = {
    "atento": "attention KnockOut",
    "atento.masks": "Causal Window Prefix",
    "atento.positions": "Alibi DynamicNTKScaling LinearScaling Llama3Scaling RelativeBias "
    "Sinusoidal YarnScaling alibi alibi_slopes relative_bias relative_buckets rotary "
    "rotary_frequencies sinusoidal",
    "atento.nn": "AdditiveAttention AttentionHead CausalSelfAttention CrossAttention "
    "GroupedQueryAttention LearnedPositions LinearAttention LinearState MultiHeadAttention "
    "MultiHeadLatentAttention MultiQueryAttention MultiplicativeAttention RelativePositionBias "
    "SelfAttention SimplifiedSelfAttention",
    "atento.nn.convert": "from_bert from_gpt2 from_llama",
    "atento.statistics": "Duplicate Entropy First Induction",
    "atento.retrieval": "AttentionClassifier AttentionRegressor",
    "atento.lm": "BPETokenizer Sampling TrainingSettings Transformer TransformerConfig",
}
"""Names that stand for a formula or a method that somebody published."""

NAMES = [(module, name) for module in MODULES for name in public_names(module)]
DOCUMENTED = [(module, name) for module, name in NAMES if name not in DATA]


def thing(module, name):
    return getattr(import_module(module), name)


def said(found):
    """The docstring; of a class, that of its constructor too."""
    parts = [inspect.getdoc(found) or ""]
    if inspect.isclass(found) and "__init__" in vars(found):
        parts.append(inspect.getdoc(found.__init__) or "")
    return "\n".join(parts)


def parameters(found):
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return []
    return [name for name in signature.parameters if name not in {"self", *OF_MODULES}]


def missing(check):
    """The names that lack something, as a list to read."""
    return [f"{module}.{name}" for module, name in DOCUMENTED if not check(module, name)]


def test_each_has_a_docstring():
    assert not missing(lambda module, name: said(thing(module, name)).strip())


def test_each_has_an_example_that_the_tests_run():
    """Of a class it may stand at one of its methods."""

    def shown(module, name):
        found = thing(module, name)
        texts = [said(found)]
        if inspect.isclass(found):
            texts += [inspect.getdoc(part) or "" for part in vars(found).values()]
        return any(">>> " in text for text in texts)

    assert not missing(shown)


def test_each_argument_is_described():
    def described(module, name):
        found = thing(module, name)
        if f"{module}.{name}" in AS_ATTENTION:
            return "attention" in said(found)
        if inspect.isclass(found) and issubclass(found, Exception):
            found = import_module("atento").AtentoError  # whose constructor all of them share
        if inspect.isclass(found) and "__init__" not in vars(found) and not is_dataclass(found):
            return True  # its parent's
        text = said(found)
        return all(re.search(rf"\b{re.escape(p)}\b", text) for p in parameters(found))

    assert not missing(described)


def is_dataclass(found):
    return "__dataclass_fields__" in vars(found)


def test_functions_list_their_arguments():
    def listed(module, name):
        found = thing(module, name)
        if not inspect.isfunction(found) or f"{module}.{name}" in AS_ATTENTION:
            return True
        return not parameters(found) or "Args:" in said(found)

    assert not missing(listed)


def test_functions_that_raise_say_so():
    def told(module, name):
        found = thing(module, name)
        if not inspect.isfunction(found):
            return True
        raises = re.search(r"^ {4,}raise \w*Error", inspect.getsource(found), re.MULTILINE)
        return not raises or "Raises:" in said(found) or f"{module}.{name}" in AS_ATTENTION

    assert not missing(told)


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in FORMULAS.items() for name in names.split()],
)
def test_what_was_published_names_its_source(module, name):
    text = said(thing(module, name))
    assert re.search(r"Source|arXiv|et al\.", text), f"{module}.{name} has no source"


def test_arrays_have_axes():
    """Modules and positions say which: (batch, token, feature)."""

    def shaped(module, name):
        found = thing(module, name)
        if module != "atento.nn" and not name.islower():
            return True
        if module not in ("atento.nn", "atento.positions"):
            return True
        axes = r"(batch|token|head|query|key|feature|width|position|Tq|state|\.\.\.)"
        shape = rf"\([^()]*{axes}[^()]*\)|[Tt]he shape of"
        return re.search(shape, said(found))

    assert not missing(shaped)
