"""Kernel regression: an estimator by scikit-learn's own checks, Nadaraya–Watson by the formula."""

import contextlib
import math
import subprocess
import sys
from unittest import SkipTest

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from atento import InputError
from atento.retrieval import AttentionClassifier, AttentionRegressor
from retrieval.soft_dict_oracle import similarity_of

ESTIMATORS = [
    AttentionRegressor(),
    AttentionRegressor(similarity="dot", temperature=0.5),
    AttentionClassifier(temperature=0.3),
    AttentionClassifier(similarity="dot"),
]
CHECKS = [pair for estimator in ESTIMATORS for pair in estimator_checks_generator(estimator)]


def named(one):
    """The same in every process: a function's own text holds its address."""
    return getattr(getattr(one, "func", one), "__name__", str(one))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=named)
def test_what_scikit_learn_asks_of_an_estimator(estimator, check):
    with contextlib.suppress(SkipTest):  # of inputs from libraries that are not installed: pandas
        check(estimator)


def test_nadaraya_watson_by_hand():
    """Two points at distance 1 and 2, bandwidth 1: weights e^-0.5 and e^-2."""
    model = AttentionRegressor().fit([[0.0], [3.0]], [10.0, 40.0])
    near, far = math.exp(-0.5), math.exp(-2)
    assert model.predict([[1.0]])[0] == pytest.approx(
        (10 * near + 40 * far) / (near + far), rel=1e-14
    )
    np.testing.assert_allclose(model.weights([[1.0]]), [[0.8175744761936437, 0.18242552380635635]])


@pytest.mark.parametrize("similarity", ["distance", "dot", "cosine"])
@pytest.mark.parametrize("temperature", [0.04, 1.0, 9.0])
def test_predictions_are_the_weighted_means_of_the_formula(similarity, temperature):
    rng = np.random.default_rng(2)
    X, Y, Q = (
        rng.standard_normal((31, 3)),
        rng.standard_normal((31, 2)),
        rng.standard_normal((7, 3)),
    )
    near = np.array([[similarity_of(q, x, similarity) for x in X] for q in Q]) / temperature
    kernel = np.exp(near - near.max(axis=1, keepdims=True))
    weights = kernel / kernel.sum(axis=1, keepdims=True)
    model = AttentionRegressor(similarity=similarity, temperature=temperature).fit(X, Y)
    np.testing.assert_allclose(model.weights(Q), weights, rtol=1e-11)
    np.testing.assert_allclose(model.predict(Q), weights @ Y, rtol=1e-11, atol=1e-13)
    classes = np.array(["no", "yes"])[(Y[:, 0] > 0).astype(int)]
    other = AttentionClassifier(similarity=similarity, temperature=temperature).fit(X, classes)
    share = weights @ (Y[:, 0] > 0)
    np.testing.assert_allclose(
        other.predict_proba(Q), np.stack([1 - share, share], 1), rtol=1e-9, atol=1e-15
    )
    assert (other.predict(Q) == np.where(share > 0.5, "yes", "no")).all()


def test_blocks_of_queries_change_nothing(monkeypatch):
    rng = np.random.default_rng(3)
    X, y, Q = rng.standard_normal((29, 2)), rng.standard_normal(29), rng.standard_normal((17, 2))
    model = AttentionRegressor().fit(X, y)
    whole, weights = model.predict(Q), model.weights(Q)
    monkeypatch.setattr("atento.retrieval.kernel.CELLS", 64)
    monkeypatch.setattr("atento.retrieval.kernel.TILE", 7)
    np.testing.assert_allclose(model.predict(Q), whole, rtol=1e-13)
    np.testing.assert_allclose(model.weights(Q), weights, rtol=1e-13)


def test_far_from_all_points_the_nearest_decides():
    model = AttentionRegressor(temperature=1e-6).fit([[0.0], [1.0]], [5.0, 7.0])
    np.testing.assert_array_equal(model.predict([[1e6], [-1e6], [0.5]]), [7, 5, 6])
    nearest = AttentionRegressor(temperature=0).fit([[0.0], [1.0], [3.0]], [1.0, 2.0, 4.0])
    np.testing.assert_array_equal(nearest.predict([[0.1], [2.0], [9.0]]), [1, 3, 4])


def test_it_is_what_a_soft_dict_of_numbers_answers():
    from atento import SoftDict

    xs, ys = [0.0, 1.0, 2.5, 7.0], [1.0, -1.0, 3.0, 0.5]
    lookup = SoftDict(zip(xs, ys, strict=True), temperature=0.7)
    model = AttentionRegressor(temperature=0.7).fit(np.array(xs)[:, None], ys)
    queries = [-1.0, 0.4, 6.0]
    np.testing.assert_allclose(lookup.attend(queries).value, model.predict(np.c_[queries]))


def test_it_takes_its_place_in_pipelines_and_searches():
    rng = np.random.default_rng(4)
    x = rng.uniform(-3, 3, (200, 1))
    y = np.sin(x[:, 0]) + 0.1 * rng.standard_normal(200)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), AttentionRegressor()),
        {"attentionregressor__temperature": [1e-6, 0.01, 1.0, 100.0]},
    ).fit(x, y)
    assert search.best_params_ == {"attentionregressor__temperature": 0.01}
    assert search.score(x, y) > 0.95
    assert clone(AttentionRegressor(temperature=3)).get_params()["temperature"] == 3


@pytest.mark.parametrize("estimator", [AttentionRegressor, AttentionClassifier])
def test_options_that_there_are_not(estimator):
    with pytest.raises(InputError, match="similarity must be one of"):
        estimator(similarity="rbf").fit([[1.0]], [1])
    with pytest.raises(InputError, match="temperature must be a finite number"):
        estimator(temperature=-1).fit([[1.0]], [1])
    with pytest.raises(InputError, match="the query that is all zeros"):
        estimator(similarity="cosine").fit([[1.0]], [1]).predict([[0.0]])


def test_all_else_goes_without_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
import atento, atento.retrieval
print(atento.SoftDict({1: 2}).attend(1).value)
try:
    atento.retrieval.AttentionRegressor
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    value, message = done.stdout.splitlines()
    assert value == "2.0"
    assert message == (
        "sklearn is needed for AttentionRegressor, which is one of its estimators, and it is not "
        'installed: pip install "atento[learn]"'
    )
