"""How good decisions are where an image has several labels: each class is decided by itself, above 0 for yes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score

from featx.errors import DataError
from featx.heads.metrics import binned_error, mean_of, ratio

AVERAGES = {"average_precision_micro": "micro", "average_precision_macro": "macro"}
"""Scores by name, and the average that each is."""


def average_precision(truth: NDArray[Any], decisions: NDArray[Any], average: str) -> float:
    """Average precision over all decisions at once, or its mean over the classes that have rows.

    Parameters
    ----------
    truth : bool or int array (rows, classes)
    decisions : float array (rows, classes)
    average : str
        ``micro`` or ``macro``.

    Raises
    ------
    DataError
        If rows have one label each, or none has any.
    """
    if truth.ndim != 2 or not truth.any():
        raise DataError(
            f"{average} average precision needs rows with several labels, of which one has any, got shape {truth.shape}"
        )
    if average == "micro":
        return float(average_precision_score(truth.ravel(), decisions.ravel()))
    return mean_of(_class_precision(truth, decisions, index) for index in range(truth.shape[1]))


def _class_precision(truth: NDArray[Any], decisions: NDArray[Any], index: int) -> float | None:
    if not truth[:, index].any():
        return None
    return float(average_precision_score(truth[:, index], decisions[:, index]))


def multilabel_report(
    truth: ArrayLike, decision: ArrayLike, classes: Sequence[str], probability: ArrayLike | None = None
) -> dict[str, Any]:
    """Scores of a head on rows with several labels; all of it can go into JSON.

    Parameters
    ----------
    truth : bool array (rows, classes)
    decision : float array (rows, classes)
    classes : sequence of str
    probability : float array (rows, classes), optional

    Returns
    -------
    dict
        ``n``, ``subset_accuracy`` (rows of which every label is right), ``micro_average_precision``,
        ``macro_average_precision`` (mean over the classes that have rows), ``micro_f1``, ``macro_f1``,
        ``calibration_error`` (None without probabilities; over all rows and classes, the mean gap between the
        probability of a label and how often it is there, in 15 bins) and ``classes`` (a dict a class: ``class``, ``n``,
        ``precision``, ``recall``, ``f1``, ``average_precision``; a score that would divide by no rows is None).

    Raises
    ------
    DataError
        If there are no labels, shapes do not fit, or a decision is not finite.
    """
    there, scores = np.asarray(truth, dtype=bool), np.asarray(decision)
    if there.shape != scores.shape or there.ndim != 2 or there.shape[1] != len(classes):
        raise DataError(f"labels and decisions must be (rows, {len(classes)}), got {there.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        raise DataError("decisions to score must be finite, got NaN or infinity")
    said = scores > 0
    hits, n, guesses = (there & said).sum(axis=0), there.sum(axis=0), said.sum(axis=0)
    table: list[dict[str, Any]] = [
        {
            "class": name,
            "n": int(n[index]),
            "precision": ratio(hits[index], guesses[index]),
            "recall": ratio(hits[index], n[index]),
            "f1": ratio(2 * hits[index], n[index] + guesses[index]),
            "average_precision": _class_precision(there, scores, index),
        }
        for index, name in enumerate(classes)
    ]
    return {
        "n": len(there),
        "subset_accuracy": float((there == said).all(axis=1).mean()),
        "micro_average_precision": average_precision(there, scores, "micro"),
        "macro_average_precision": average_precision(there, scores, "macro"),
        "micro_f1": ratio(2 * hits.sum(), n.sum() + guesses.sum()),
        "macro_f1": mean_of(row["f1"] for row in table),
        "calibration_error": None if probability is None else _label_error(there, np.asarray(probability)),
        "classes": table,
    }


def _label_error(there: NDArray[np.bool_], shares: NDArray[Any]) -> float:
    if shares.shape != there.shape:
        raise DataError(f"probabilities to score must have shape {there.shape}, got {shares.shape}")
    return binned_error(there.ravel(), shares.ravel().astype(np.float64))
