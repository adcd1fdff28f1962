"""Score decisions that are already computed, with any of scikit-learn's scorers."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, softmax
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.utils.metaestimators import available_if

from featx.errors import DataError, SpecError
from featx.heads.metrics.multilabel import AVERAGES, average_precision

Score = Callable[[str, NDArray[Any], NDArray[Any], NDArray[Any]], float]
"""A function that takes a head, decisions, labels and classes, and returns a score."""
Scoring = str | Callable[[Any, Any, Any], float]
"""The name of a scorer, or the scorer itself: a function of estimator, X and y."""
MULTICLASS_SCORERS = {
    "roc_auc": "roc_auc_ovr",
    "f1": "f1_macro",
    "precision": "precision_macro",
    "recall": "recall_macro",
    "jaccard": "jaccard_macro",
}
"""For each scorer for two classes, the corresponding scorer for more classes."""
NEED_TWO_CLASSES = ("roc_auc", "average_precision", "d2_", "positive_likelihood", "neg_negative_likelihood")
"""Scorers whose names start with these are not defined on rows of one class."""


class PrecomputedDecisions(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted classifier whose input X is decisions, so that scikit-learn's scorers can score decisions.

    Parameters
    ----------
    head : str
        The head that made the decisions. It determines the probabilities.
    classes : array (classes,)
    multilabel : bool
        Whether each class is decided separately.

    Notes
    -----
    X is a float array (rows, classes), or (rows,) for two classes that exclude each other.
    """

    def __init__(self, head: str, classes: NDArray[Any], multilabel: bool = False) -> None:
        self.head = head
        self.multilabel = multilabel
        self.classes = classes

    @property
    def classes_(self) -> NDArray[Any]:
        """The classes, under the name that scikit-learn expects."""
        return self.classes

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: NDArray[Any], y: NDArray[Any]) -> "PrecomputedDecisions":
        """Return self: there is nothing to learn."""
        return self

    def decision_function(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the decisions."""
        return X

    def predict(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return the class of each row, or a multi-label indicator (rows, classes)."""
        if self.multilabel:
            return (X > 0).astype(int)
        return np.asarray(self.classes_[(X > 0).astype(int) if X.ndim == 1 else X.argmax(axis=1)])

    @available_if(lambda self: self.head != "linear-svc")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return probabilities (rows, classes), computed in the same way as by the estimator of the head."""
        if X.ndim == 1:
            positive = expit(X)
            return np.column_stack([1 - positive, positive])
        if self.head == "softmax":
            return np.asarray(softmax(X, axis=1))
        if self.multilabel:
            return np.asarray(expit(X))
        # The sigmoids divided by their sum. They are computed from logarithms, because sigmoids of very negative
        # decisions are 0.
        return np.asarray(softmax(log_expit(X), axis=1))


def default_scoring(y: NDArray[Any]) -> str:
    """Return the name of the default scorer of labels (rows,) or of a multi-label indicator (rows, classes)."""
    return "accuracy" if y.ndim == 1 else "average_precision_macro"


def make_score(scoring: Scoring) -> Score:
    """Return a function that scores decisions as scikit-learn would score the fitted head.

    Parameters
    ----------
    scoring : str or callable
        Name of one of scikit-learn's scorers for classifiers, or a scorer as `sklearn.metrics.make_scorer` returns it.
        Multi-label rows also allow ``average_precision_macro`` and ``average_precision_micro``.

    Raises
    ------
    SpecError
        If the scorer is unknown, or if it is a scorer for regression.
    DataError
        From the returned function, if the scorer cannot score the head or the labels.
    """
    if isinstance(scoring, str) and scoring in AVERAGES:
        average = AVERAGES[scoring]
        return lambda _head, decisions, y, _classes: average_precision(y, decisions, average)
    try:
        scorer = get_scorer(scoring)
    except ValueError:
        raise SpecError(f"scoring must be the name of one of scikit-learn's scorers, got {scoring!r}") from None
    # A scorer for regression would read class names such as "3" as numbers.
    if getattr(getattr(scorer, "_score_func", None), "__module__", "").endswith("_regression"):
        raise SpecError(f"scoring must be a scorer for classifiers, got {scoring!r}, which is for regression")

    def score(head: str, decisions: NDArray[Any], y: NDArray[Any], classes: NDArray[Any]) -> float:
        made = decisions[:, 0] if decisions.shape[1] == 1 else decisions
        if made.ndim == 1 and isinstance(scoring, str):
            # Scorers take class 1 as the positive class. Decisions above 0 mean the second class.
            y, classes = (y == classes[1]).astype(int), np.arange(2)
        elif y.ndim == 1 and len(classes) > 2 and scoring in MULTICLASS_SCORERS:
            raise DataError(
                f"scoring {scoring} takes two classes, got {len(classes)}; use {MULTICLASS_SCORERS[str(scoring)]}"
            )
        try:
            return _call(scorer, scoring, PrecomputedDecisions(head, classes, y.ndim == 2), made, y)
        except AttributeError as error:
            raise DataError(
                f"scoring {scoring} cannot score {head}, which has no probabilities; choose another scoring, or the "
                f"head {'ovr-logistic' if y.ndim == 2 else 'softmax or ovr-logistic'}"
            ) from error
        except ValueError as error:
            raise DataError(f"scoring {scoring} cannot score {head} on these classes: {error}") from error

    return score


def _call(
    scorer: Callable[..., float], scoring: Scoring, decided: PrecomputedDecisions, X: NDArray[Any], y: NDArray[Any]
) -> float:
    """Score decisions X (rows, classes). A mean over classes includes only classes that have rows.

    A fold of a cross-validation may have no row of a rare class. In this case, scikit-learn's scorers warn, fail, or
    count a recall of 0.
    """
    tested = np.unique(y) if y.ndim == 1 else np.flatnonzero(y.any(axis=0))
    if len(tested) == len(decided.classes) or not isinstance(scoring, str):
        return float(scorer(decided, X, y))
    if len(tested) < 2 and scoring.startswith(NEED_TWO_CLASSES):
        raise DataError(
            f"scoring {scoring} needs test rows of two classes in each fold, but another class has too few images or "
            "groups for that; use accuracy or balanced_accuracy, or fewer folds"
        )
    if scoring == "balanced_accuracy":
        scorer = get_scorer("recall_macro")
    function = getattr(scorer, "_score_func", scorer)
    accepted = signature(function).parameters
    if scoring.startswith("roc_auc_ovr"):
        average = "weighted" if scoring.endswith("weighted") else "macro"
        columns = np.searchsorted(decided.classes, tested)
        return float(roc_auc_score(y[:, np.newaxis] == tested, decided.predict_proba(X)[:, columns], average=average))
    options: dict[str, Any] = {}
    if "labels" in accepted:
        # Scorers with ``zero_division`` compare predicted classes. Other scorers take the probabilities of all classes.
        options["labels"] = tested if "zero_division" in accepted else decided.classes
    if "zero_division" in accepted:
        options["zero_division"] = 0.0
    with config_context(enable_metadata_routing=True):
        return float(scorer(decided, X, y, **options))
