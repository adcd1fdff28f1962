"""Scores of decisions that are already made, by any of sklearn's scorers."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer
from sklearn.utils.metaestimators import available_if

from featx.errors import DataError, SpecError
from featx.heads.multilabel import AVERAGES, average_precision

Score = Callable[[str, NDArray[Any], NDArray[Any], NDArray[Any]], float]
OF_TWO = {
    "roc_auc": "roc_auc_ovr",
    "f1": "f1_macro",
    "precision": "precision_macro",
    "recall": "recall_macro",
    "jaccard": "jaccard_macro",
}
"""Scorers of two classes, and what to ask for of more."""


class PrecomputedDecisions(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted head whose input is its own decisions: (rows, classes), or (rows,) for two classes.

    With ``several`` labels a row each class is decided by itself.
    """

    def __init__(self, head: str, classes: NDArray[Any], several: bool = False) -> None:
        self.head = head
        self.several = several
        self.classes = classes

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, as scikit-learn asks for them."""
        return self.classes

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> "PrecomputedDecisions":
        """Nothing is left to learn."""
        return self

    def decision_function(self, X: NDArray[Any]) -> NDArray[Any]:
        """The decisions themselves."""
        return X

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """The class that wins each row, or which classes each row has."""
        if self.several:
            return (X > 0).astype(int)
        return np.asarray(self.classes_[(X > 0).astype(int) if X.ndim == 1 else X.argmax(axis=1)])

    @available_if(lambda self: self.head != "linear-svc")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        """Probabilities (rows, classes) as the head's own estimator has them."""
        if X.ndim == 1:
            positive = expit(X)
            return np.column_stack([1 - positive, positive])
        if self.head == "softmax":
            return np.asarray(softmax(X, axis=1))
        shares = expit(X)
        if self.several:
            return np.asarray(shares)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def default_scoring(y: NDArray[Any]) -> str:
    """What labels (rows,), or an indicator (rows, classes), are scored by unless told."""
    return "accuracy" if y.ndim == 1 else "average_precision_macro"


def make_score(scoring: str) -> Score:
    """A function from head, decisions (rows, rows of weights), labels and classes to the score sklearn would give.

    Raises
    ------
    SpecError
        At once, if sklearn has no scorer of classes of that name, and featx none for several labels.
    DataError
        From the function, if the scorer cannot score that head or those labels.
    """
    if scoring in AVERAGES:
        return lambda _head, decisions, y, _classes: average_precision(y, decisions, AVERAGES[scoring])
    try:
        scorer = get_scorer(scoring)
    except ValueError:
        raise SpecError(f"scoring must be the name of one of sklearn's scorers, got {scoring!r}") from None
    # It would take the names of classes for numbers, if they are numerals.
    if scorer._score_func.__module__.endswith("_regression"):
        raise SpecError(f"scoring must be one of sklearn's scorers of classes, got {scoring!r}, which scores numbers")

    def score(head: str, decisions: NDArray[Any], y: NDArray[Any], classes: NDArray[Any]) -> float:
        made = decisions[:, 0] if decisions.shape[1] == 1 else decisions
        if made.ndim == 1:  # The second of two classes is what is looked for, as above 0 is for it.
            y, classes = (y == classes[1]).astype(int), np.arange(2)
        elif y.ndim == 1 and scoring in OF_TWO:
            raise DataError(f"scoring {scoring} is for two classes, got {len(classes)}; give {OF_TWO[scoring]}")
        try:
            return float(scorer(PrecomputedDecisions(head, classes, y.ndim == 2), made, y))
        except AttributeError as error:
            raise DataError(
                f"scoring {scoring} cannot score {head}, which has no probabilities; give another scoring, or --head "
                f"{'ovr-logistic' if y.ndim == 2 else 'softmax or ovr-logistic'}"
            ) from error
        except ValueError as error:
            raise DataError(f"scoring {scoring} cannot score {head} on these classes: {error}") from error

    return score
