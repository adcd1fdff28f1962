"""Score a head on multi-label rows. Each class is decided separately: a decision above 0 predicts the class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from featx.errors import DataError
from featx.heads.metrics.calibration_error import expected_calibration_error
from featx.heads.metrics.multiclass import mean_of_known, score_classes

AVERAGES = {"average_precision_micro": "micro", "average_precision_macro": "macro"}
"""The kind of average that each scorer of multi-label rows takes."""


def average_precision(truth: NDArray[Any], decisions: NDArray[Any], average: str) -> float:
    """Return the average precision of all decisions (micro), or the mean over the classes that have rows (macro).

    scikit-learn's macro average counts a class without rows as 0, with a warning. Here such a class is left out.

    Parameters
    ----------
    truth : bool or int array (rows, classes)
    decisions : float array (rows, classes)
    average : {"micro", "macro"}

    Raises
    ------
    DataError
        If the rows are not multi-label, or no row has a label.
    """
    if truth.ndim != 2 or not truth.any():
        raise DataError(
            f"{average} average precision needs multi-label targets with at least one label, got shape {truth.shape}"
        )
    if average == "micro":
        return float(average_precision_score(truth.ravel(), decisions.ravel()))
    return mean_of_known(_class_precision(truth, decisions, index) for index in range(truth.shape[1]))


def multilabel_report(
    truth: ArrayLike, decision: ArrayLike, classes: Sequence[str], probability: ArrayLike | None = None
) -> dict[str, Any]:
    """Score decisions on multi-label rows. The report consists of JSON values.

    Parameters
    ----------
    truth : bool array (rows, classes)
    decision : float array (rows, classes)
    classes : sequence of str
    probability : float array (rows, classes), optional

    Returns
    -------
    dict
        ``n`` is the number of rows. The scores are ``subset_accuracy`` (share of rows with all labels right),
        ``micro_average_precision``, ``macro_average_precision`` (mean over the classes that have rows), ``micro_f1``,
        ``macro_f1`` and ``calibration_error`` (expected calibration error over all rows and classes in 15 bins, None
        without probabilities). ``classes`` has one dict per class: ``class``, ``n``, ``precision``, ``recall``, ``f1``
        and ``average_precision``. A score of a class is None if it would divide by zero rows.

    Raises
    ------
    DataError
        If no row has a label, shapes do not match, or a decision is not finite.
    """
    labels, scores = np.asarray(truth, dtype=bool), np.asarray(decision)
    if labels.shape != scores.shape or labels.ndim != 2 or labels.shape[1] != len(classes):
        raise DataError(f"labels and decisions must be (rows, {len(classes)}), got {labels.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise DataError("decisions to score must be finite, got NaN or infinity")
    predicted = scores > 0
    table = score_classes(labels, predicted, classes)
    for index, row in enumerate(table):
        row["average_precision"] = _class_precision(labels, scores, index)
    return {
        "n": len(labels),
        "subset_accuracy": float(accuracy_score(labels, predicted)),
        "micro_average_precision": average_precision(labels, scores, "micro"),
        "macro_average_precision": average_precision(labels, scores, "macro"),
        "micro_f1": float(f1_score(labels, predicted, average="micro")),
        "macro_f1": mean_of_known(row["f1"] for row in table),
        "calibration_error": None if probability is None else _calibration_error(labels, np.asarray(probability)),
        "classes": table,
    }


def _class_precision(truth: NDArray[Any], decisions: NDArray[Any], index: int) -> float | None:
    """Return the average precision of one class, or None if no row has the class."""
    if not truth[:, index].any():
        return None
    return float(average_precision_score(truth[:, index], decisions[:, index]))


def _calibration_error(labels: NDArray[np.bool_], shares: NDArray[Any]) -> float:
    """Compare the probability of each label with how often the label is present."""
    if shares.shape != labels.shape:
        raise DataError(f"probabilities to score must have shape {labels.shape}, got {shares.shape}")
    return expected_calibration_error(labels.ravel(), shares.ravel().astype(np.float64))
