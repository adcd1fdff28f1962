"""The rows, labels and options that all candidates of a search share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.errors import DataError, SpecError
from featx.heads.metrics.scoring import Score, Scoring, default_scoring, make_score
from featx.heads.pipeline.linear_heads import ClassWeight
from featx.heads.solver.batch import TOLERANCE, check_rows


@dataclass(frozen=True)
class Problem:
    """The rows, labels and options that all candidates of a search share.

    For multi-label rows, ``y`` is an indicator (rows, classes) and ``codes`` is the same as bool. For other rows,
    ``codes`` (rows,) are the positions of the labels in ``classes``.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    classes: NDArray[Any]
    codes: NDArray[Any]
    sample_weight: NDArray[Any]
    normalize: str
    class_weight: ClassWeight
    score: Score
    tol: float

    @property
    def multilabel(self) -> bool:
        """Whether ``y`` is a multi-label indicator."""
        return self.y.ndim == 2


def make_problem(
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    normalize: str = "power",
    class_weight: ClassWeight = None,
    scoring: Scoring | None = None,
    tol: float = TOLERANCE,
) -> Problem:
    """Check rows, labels and options, and convert them to the types that the solver takes.

    Parameters
    ----------
    X : float array (rows, columns)
        Types other than float32 and float64 are converted to float64.
    y : array (rows,), or int or bool array (rows, classes)
        Labels, or a multi-label indicator of 0 and 1.
    sample_weight : float array (rows,), optional
        Weight of each row in the fits, 0 or more. Scores are not weighted.
    normalize : str
        As in `make_head`.
    class_weight : dict of label to weight, "balanced" or None
        As in scikit-learn. A multi-label indicator takes no dict.
    scoring : str or callable, optional
        As in `featx.HeadSearchCV`.
    tol : float
        Largest duality gap of a fit, relative to its objective.

    Raises
    ------
    SpecError
        If an option is out of range.
    DataError
        If the rows, labels or weights cannot be fitted.
    """
    values, labels = np.asarray(X), np.asarray(y)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    classes, codes = _encode(labels, class_weight)
    check_rows(values, codes, max(2, len(classes)))
    weight = np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != labels.shape[:1] or not (weight >= 0).all():
        raise DataError(f"sample_weight must be {len(labels)} numbers that are 0 or more, got shape {weight.shape}")
    if not weight.any():
        raise DataError("sample_weight must be above 0 for some rows, but all weights are zero")
    if isinstance(class_weight, Mapping):
        places = {label: code for code, label in enumerate(classes.tolist())}
        if unknown := [label for label in class_weight if label not in places]:
            raise DataError(f"class_weight must name classes of the rows, got {unknown[0]!r}")
        class_weight = {places[label]: value for label, value in class_weight.items()}
    score = make_score(scoring or default_scoring(labels))
    return Problem(values, labels, classes, codes, weight, normalize, class_weight, score, tol)


def _encode(labels: NDArray[Any], class_weight: ClassWeight) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the classes, and either the code of each row or the multi-label indicator as bool."""
    if labels.ndim != 2:
        return np.unique(labels, return_inverse=True)
    if not np.isin(labels, (0, 1)).all():
        raise DataError("multi-label targets must be an indicator of 0 and 1 with shape (rows, classes)")
    if isinstance(class_weight, Mapping):
        raise SpecError(f"class_weight of multi-label targets must be 'balanced' or None, got {class_weight}")
    return np.arange(labels.shape[1]), labels > 0
