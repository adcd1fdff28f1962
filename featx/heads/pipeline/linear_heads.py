"""The three linear heads as plain scikit-learn pipelines, and their weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelBinarizer, StandardScaler
from sklearn.svm import LinearSVC

from featx.errors import SpecError
from featx.heads.pipeline.normalizer import BlockNormalizer

ESTIMATOR_MAX_ITER = 10_000
"""Limit of iterations. On power-normalized features of VGG16, every solver of scikit-learn needed fewer (measured)."""
ClassWeight = Mapping[Any, float] | str | None


def _linear_svc(C: float, class_weight: ClassWeight, random_state: int | None) -> BaseEstimator:
    # "auto" solves the dual if there are more columns than rows. For such rows the primal stops too early at C = 100,
    # and its decisions are wrong by 0.1 or more. With more rows than columns, the dual needs thousands of passes.
    return LinearSVC(
        C=C, dual="auto", class_weight=class_weight, max_iter=ESTIMATOR_MAX_ITER, random_state=random_state
    )


def _softmax(C: float, class_weight: ClassWeight, random_state: int | None) -> BaseEstimator:
    return LogisticRegression(C=C, class_weight=class_weight, max_iter=ESTIMATOR_MAX_ITER, random_state=random_state)


def _ovr_logistic(C: float, class_weight: ClassWeight, random_state: int | None) -> BaseEstimator:
    return OneVsRestClassifier(_softmax(C, class_weight, random_state))


HEADS: dict[str, Callable[[float, ClassWeight, int | None], BaseEstimator]] = {
    "linear-svc": _linear_svc,
    "softmax": _softmax,
    "ovr-logistic": _ovr_logistic,
}
"""Functions that make the estimator of each head, called with (C, class_weight, random_state)."""
MULTILABEL_HEADS = ("linear-svc", "ovr-logistic")
"""Heads that solve one problem per class, so that they can be fitted to multi-label targets."""
NORMALIZERS = ("power", "standard", "none")


def make_head(
    head: str,
    C: float = 1.0,
    *,
    normalize: str = "power",
    widths: Sequence[int] | str | None = "auto",
    class_weight: ClassWeight = None,
    random_state: int | None = 0,
    multilabel: bool = False,
) -> Pipeline:
    """Make an unfitted pipeline with the steps ``normalizer`` and ``head``.

    Parameters
    ----------
    head : str
        A key of ``HEADS``: ``linear-svc`` (squared hinge), ``softmax`` (multinomial logistic regression) or
        ``ovr-logistic`` (one logistic regression per class).
    C : float
        Inverse strength of the L2 penalty, above 0.
    normalize : str
        ``power`` (`BlockNormalizer`), ``standard`` (StandardScaler: zero mean and unit variance per column) or
        ``none``.
    widths : tuple of int, "auto" or None
        Number of columns of each block, for ``power``; see `BlockNormalizer`.
    class_weight : dict, "balanced" or None
        As in scikit-learn. For ``ovr-logistic``, a dict has two keys: in the problem of each class, 1 is that class,
        and 0 is all other classes.
    random_state : int or None
        Seed of LinearSVC if there are more columns than rows. The other solvers use no random numbers.
    multilabel : bool
        Whether the targets are a multi-label indicator (rows, classes). If so, each class is a problem of its own.

    Raises
    ------
    SpecError
        If head, C, normalize or class_weight is out of range.
    """
    if head not in HEADS:
        raise SpecError(f"head must be one of {', '.join(HEADS)}, got {head!r}")
    if not C > 0:
        raise SpecError(f"C of {head} must be above 0, got {C}")
    if multilabel and head not in MULTILABEL_HEADS:
        raise SpecError(f"head for multi-label targets must be one of {', '.join(MULTILABEL_HEADS)}, got {head!r}")
    if (
        (multilabel or head == "ovr-logistic")
        and isinstance(class_weight, Mapping)
        and not class_weight.keys() <= {0, 1}
    ):
        raise SpecError(
            f"class_weight of {head} must be 'balanced', None or a dict with keys 0 and 1, got {class_weight}"
        )
    estimator = HEADS[head](C, class_weight, random_state)
    if multilabel and not isinstance(estimator, OneVsRestClassifier):
        estimator = OneVsRestClassifier(estimator)
    return Pipeline([("normalizer", _make_normalizer(normalize, widths)), ("head", estimator)])


def _make_normalizer(normalize: str, widths: Sequence[int] | str | None) -> BaseEstimator | str:
    if normalize == "power":
        return BlockNormalizer(widths)
    if normalize == "standard":
        return StandardScaler()
    if normalize == "none":
        return "passthrough"
    raise SpecError(f"normalize must be one of {', '.join(NORMALIZERS)}, got {normalize!r}")


def is_multilabel(pipeline: Pipeline) -> bool:
    """Return whether a pipeline was fitted to a multi-label indicator, so that it decides each class separately."""
    head = pipeline.named_steps["head"]
    return hasattr(head, "label_binarizer_") and bool(head.multilabel_)


def linear_parts(pipeline: Pipeline, dtype: DTypeLike | None = np.float64) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the weights and intercepts of the head of a fitted pipeline.

    Parameters
    ----------
    pipeline : Pipeline
        From `make_head` or `from_linear_parts`, fitted.
    dtype : dtype or None
        Type of the result. None keeps the type of the fit: float32 for a logistic head fitted to float32.

    Returns
    -------
    W : array (classes, columns), or (1, columns) for two classes that exclude each other
    b : array (classes,), or (1,) for two such classes
    """
    head = pipeline.named_steps["head"]
    parts = head.estimators_ if isinstance(head, OneVsRestClassifier) else [head]
    W = np.vstack([part.coef_ for part in parts])
    b = np.concatenate([part.intercept_ for part in parts])
    return W.astype(dtype or W.dtype), b.astype(dtype or b.dtype)


def from_linear_parts(
    head: str,
    W: NDArray[Any],
    b: NDArray[Any],
    classes: ArrayLike,
    normalizer: BaseEstimator | str,
    *,
    C: float = 1.0,
    class_weight: ClassWeight = None,
    random_state: int | None = 0,
    multilabel: bool = False,
) -> Pipeline:
    """Make a fitted pipeline from weights and intercepts: the inverse of `linear_parts`.

    If the weights have the type of the fit (``linear_parts(pipeline, None)``), the new pipeline gives exactly the same
    results as the original. There is one exception: for softmax of three or more classes, scikit-learn before 1.9
    stored the weights in another order in memory, so the results differ by rounding.

    Parameters
    ----------
    head : str
        A key of ``HEADS``.
    W : array (classes, columns), or (1, columns) for two classes that exclude each other
    b : array (classes,), or (1,) for two such classes
    classes : array (classes,)
        Labels in sorted order, as after a fit. A multi-label pipeline keeps only their number.
    normalizer : fitted transformer or "passthrough"
    C, class_weight, random_state, multilabel
        As in `make_head`. They are stored as parameters of the estimator and do not change its results.

    Raises
    ------
    SpecError
        If the head is unknown, the classes are not sorted, or the shapes do not match them.
    """
    labels = np.asarray(classes)
    _check_parts(W, b, labels, multilabel)
    pipeline = make_head(head, C, class_weight=class_weight, random_state=random_state, multilabel=multilabel)
    pipeline.set_params(normalizer=normalizer)
    estimator = pipeline.named_steps["head"]
    estimator.classes_ = labels
    estimator.n_features_in_ = W.shape[1]
    if isinstance(estimator, OneVsRestClassifier):
        known = np.eye(len(labels), dtype=int) if multilabel else labels
        estimator.label_binarizer_ = LabelBinarizer(sparse_output=True).fit(known)
        estimator.classes_ = estimator.label_binarizer_.classes_
        estimator.estimators_ = [
            _set_linear(clone(estimator.estimator), row, b[index : index + 1], np.arange(2))
            for index, row in enumerate(W)
        ]
    else:
        _set_linear(estimator, W, b, labels)
    return pipeline


def _set_linear(estimator: Any, W: NDArray[Any], b: NDArray[Any], labels: NDArray[Any]) -> Any:
    # The weights are in column order, as in scikit-learn 1.9, because BLAS rounds differently for another order in
    # memory.
    estimator.coef_ = np.array(np.atleast_2d(W), order="F")
    estimator.intercept_ = np.array(b)
    estimator.classes_ = labels
    estimator.n_features_in_ = estimator.coef_.shape[1]
    return estimator


def _check_parts(W: NDArray[Any], b: NDArray[Any], labels: NDArray[Any], multilabel: bool) -> None:
    if len(labels) < 2 or not (labels[1:] > labels[:-1]).all():
        raise SpecError(f"classes of a head must be two or more, sorted and distinct, got {labels.tolist()}")
    rows = 1 if len(labels) == 2 and not multilabel else len(labels)
    if W.ndim != 2 or len(W) != rows or b.shape != (rows,):
        raise SpecError(
            f"weights and intercepts of {len(labels)} classes must have {rows} rows, got shapes {W.shape} and {b.shape}"
        )
