"""Scores of a head on rows that have one class each."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from featx.errors import DataError
from featx.heads.metrics.calibration_error import expected_calibration_error

TOP = 5


def score_report(
    y_true: ArrayLike, decision: ArrayLike, classes: Sequence[str], probability: ArrayLike | None = None
) -> dict[str, Any]:
    """Score decisions on labeled rows. The report consists of JSON values.

    Parameters
    ----------
    y_true : int array (rows,)
        Index into ``classes`` of the true class of each row.
    decision : float array (rows, classes), or (rows,) for two classes
        From ``decision_function``. The class with the largest decision is predicted. With one decision per row, the
        second class is predicted if the decision is above 0.
    classes : sequence of str
    probability : float array (rows, classes), optional

    Returns
    -------
    dict
        ``n`` is the number of rows. The scores are ``accuracy``, ``balanced_accuracy`` (mean recall of the classes that
        have rows), ``macro_f1`` (mean over the classes that have rows or predictions), ``top5_accuracy`` (None for up
        to five classes) and ``calibration_error`` (expected calibration error in 15 bins, None without probabilities).
        ``classes`` has one dict per class: ``class``, ``n``, ``precision``, ``recall`` and ``f1``. A score of a class
        is None if it would divide by zero rows. ``confusion`` has one list of counts per true class.

    Raises
    ------
    DataError
        If there are no rows, shapes do not match, a label is not an index of a class, or a decision is not finite.
    """
    truth, scores = np.asarray(y_true), np.asarray(decision)
    count = len(classes)
    _check(truth, scores, count)
    predicted = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
    table = score_classes(truth, predicted, classes)
    return {
        "n": len(truth),
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": mean_of_known(row["recall"] for row in table),
        "macro_f1": mean_of_known(row["f1"] for row in table),
        "top5_accuracy": _top_accuracy(truth, scores) if count > TOP else None,
        "calibration_error": None if probability is None else _calibration_error(truth, probability, count),
        "classes": table,
        "confusion": confusion_matrix(truth, predicted, labels=np.arange(count)).tolist(),
    }


def score_classes(truth: NDArray[Any], predicted: NDArray[Any], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return precision, recall and F1 of each class. A score is None if it would divide by zero rows.

    Parameters
    ----------
    truth, predicted : int array (rows,), or bool array (rows, classes)
        Indices into ``classes``, or multi-label indicators.
    classes : sequence of str
    """
    scores = precision_recall_fscore_support(truth, predicted, labels=np.arange(len(classes)), zero_division=np.nan)
    return [
        {"class": name, "n": int(n), "precision": _known(precision), "recall": _known(recall), "f1": _known(f1)}
        for name, precision, recall, f1, n in zip(classes, *scores, strict=True)
    ]


def mean_of_known(values: Iterable[float | None]) -> float:
    """Return the mean of the values that are not None."""
    return float(np.mean([value for value in values if value is not None]))


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _check(truth: NDArray[Any], scores: NDArray[Any], count: int) -> None:
    if truth.ndim != 1 or not len(truth):
        raise DataError(
            f"labels to score must be a one-dimensional array with one row or more, got shape {truth.shape}"
        )
    allowed = [(len(truth), count)] + ([(len(truth),)] if count == 2 else [])
    if scores.shape not in allowed:
        raise DataError(f"decisions for {len(truth)} rows must have shape {allowed[-1]}, got {scores.shape}")
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= count:
        raise DataError(f"labels to score must be integers from 0 to {count - 1}, got {np.unique(truth).tolist()}")
    if not np.isfinite(scores).all():
        raise DataError("decisions to score must be finite, got NaN or infinity")


def _top_accuracy(truth: NDArray[Any], scores: NDArray[Any]) -> float:
    """Return the share of rows for which fewer than ``TOP`` classes have a larger decision than the true class.

    `sklearn.metrics.top_k_accuracy_score` breaks ties by the order of the classes. Here a tie counts as right.
    """
    own = scores[np.arange(len(truth)), truth]
    return float(((scores > own[:, np.newaxis]).sum(axis=1) < TOP).mean())


def _calibration_error(truth: NDArray[Any], probability: ArrayLike, count: int) -> float:
    """Compare the confidence in the most probable class with how often it is right."""
    shares = np.asarray(probability, dtype=np.float64)
    if shares.shape != (len(truth), count):
        raise DataError(f"probabilities to score must have shape {(len(truth), count)}, got {shares.shape}")
    return expected_calibration_error(shares.argmax(axis=1) == truth, shares.max(axis=1))
