"""Kernel regression: attention whose values are what is to be predicted.

``prediction(x) = Σᵢ weightᵢ(x) yᵢ`` with ``weights(x) = softmax(similarity(x, xᵢ) / temperature)``:
with similarity "distance", Nadaraya–Watson regression with a Gaussian kernel of bandwidth
√temperature (Nadaraya 1964, doi 10.1137/1109020; Watson 1964, Sankhyā A 26). The estimators are
scikit-learn's in every way, so its pipelines, searches and scores take them.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from atento.retrieval.kernel import attend_with_kernel
from atento.retrieval.similarity import checked_similarity, checked_temperature

__all__ = ["AttentionClassifier", "AttentionRegressor"]

Array = NDArray[np.float64]


class _AttentionEstimator(BaseEstimator):
    """What both have: training points are keys, and a prediction is a weighted mean of values."""

    def __init__(self, *, similarity: str = "distance", temperature: float = 1.0) -> None:
        self.similarity = similarity
        self.temperature = temperature

    def weights(self, X: Any) -> Array:
        """The weight of each training point behind each prediction.

        Args:
            X: (n, feature).

        Returns:
            (n, training point); each row is ≥ 0 and sums to 1.

        Raises:
            NotFittedError, ValueError: as scikit-learn's estimators do.
        """
        queries = self._checked(X)
        found = np.empty((len(queries), len(self.X_)))
        for part in self._attend(queries):
            found[part.queries] = part.weights
        return found

    def _fit(self, X: Array, values: Array) -> Self:
        checked_similarity(self.similarity)
        checked_temperature(self.temperature)
        self.X_, self.values_ = X, values
        return self

    def _predicted(self, X: Any) -> Array:
        queries = self._checked(X)
        found = np.empty((len(queries), self.values_.shape[1]))
        for part in self._attend(queries):
            found[part.queries] = part.value
        return found

    def _checked(self, X: Any) -> Array:
        check_is_fitted(self)
        queries: Array = validate_data(self, X, dtype=np.float64, reset=False)
        return queries

    def _attend(self, queries: Array) -> Any:
        return attend_with_kernel(
            queries,
            self.X_,
            self.values_,
            similarity=checked_similarity(self.similarity),
            temperature=checked_temperature(self.temperature),
        )


class AttentionRegressor(RegressorMixin, _AttentionEstimator):
    """Predicts the mean of what was seen, weighted by how near it was seen.

    Args:
        similarity: "distance" (−‖x − xᵢ‖²/2), "dot" (x · xᵢ / √d) or "cosine".
        temperature: divides it. For distance it is the bandwidth squared, in the units of the
            features; 0: the mean of the nearest points. Far from all points the nearest decides,
            where the textbook's quotient is 0/0.

    Attributes:
        X_: (training point, feature), the keys.
        values_: (training point, output) float64, the values.

    Source: Nadaraya 1964, "On Estimating Regression"; Watson 1964, "Smooth Regression Analysis".

    >>> model = AttentionRegressor(temperature=0.25).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 4.0])
    >>> model.predict([[1.0]]).round(4)
    array([1.213])
    >>> model.weights([[1.0]]).round(4)
    array([[0.1065, 0.787 , 0.1065]])
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training points.

        Args:
            X: (training point, feature).
            y: (training point,) or (training point, output).
        """
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        y = np.array(y, np.float64)
        self._one_output = y.ndim == 1
        return self._fit(X, y.reshape(len(y), -1))

    def predict(self, X: Any) -> Array:
        """(n,), or (n, output): the weighted means of y."""
        found = self._predicted(X)
        return found[:, 0] if self._one_output else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


class AttentionClassifier(ClassifierMixin, _AttentionEstimator):
    """Predicts the class that has most weight among what was seen.

    Args:
        similarity, temperature: as for `AttentionRegressor`.

    Attributes:
        classes_: the classes, sorted.
        X_: (training point, feature), the keys.
        values_: (training point, class), 1 where a point is of the class.

    Source: as for `AttentionRegressor`.

    >>> model = AttentionClassifier().fit([[0.0], [1.0], [3.0]], ["a", "a", "b"])
    >>> model.predict([[1.0], [2.5]])
    array(['a', 'b'], dtype='<U1')
    >>> model.predict_proba([[1.0]]).round(4)
    array([[0.9223, 0.0777]])
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Keep the training points.

        Args:
            X: (training point, feature).
            y: (training point,), the class of each.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        return self._fit(X, np.eye(len(self.classes_))[numbers])

    def predict_proba(self, X: Any) -> Array:
        """(n, class): the weight of all training points of each class."""
        return self._predicted(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,): the class of most weight, of equals the first."""
        shares = self.predict_proba(X)
        found: NDArray[Any] = self.classes_[np.argmax(shares, axis=1)]
        return found
