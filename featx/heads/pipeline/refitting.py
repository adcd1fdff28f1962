"""Fit a head with scikit-learn. Sample weights, calibration and several processes are optional."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import clone, config_context
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from featx.errors import SpecError
from featx.heads.metrics.scoring import PrecomputedDecisions
from featx.heads.parallel import one_thread_each, one_thread_if_small, raise_if_process_killed
from featx.heads.pipeline.calibration import CALIBRATION_METHOD, SigmoidCalibration
from featx.heads.solver.cholesky_factor import make_cholesky_factor
from featx.heads.solver.pivoting import MAX_ROWS
from featx.heads.splitting.folds import Fold


def refit(
    pipeline: Pipeline,
    X: NDArray[np.floating],
    y: NDArray[Any],
    *,
    sample_weight: ArrayLike | None = None,
    jobs: int = 1,
) -> Pipeline:
    """Fit a pipeline of `make_head` in place.

    If there are more columns than rows, LinearSVC is fitted to a Cholesky factor that has the same inner products and
    fewer columns (`make_cholesky_factor`). The steps of liblinear depend on inner products alone, so the weights are
    the same except for rounding. Logistic heads are fitted to the rows themselves. Their solver L-BFGS stops by its
    largest gradient entry, which depends on the axes.

    Parameters
    ----------
    pipeline : Pipeline
    X : float array (rows, columns)
    y : array (rows,), or int array (rows, classes)
        Labels, or a multi-label indicator.
    sample_weight : float array (rows,), optional
        Weights for the head. The normalizer counts all rows alike.
    jobs : int
        Number of processes for one-vs-rest. The result does not depend on it.

    Returns
    -------
    Pipeline
        The given pipeline.

    Raises
    ------
    SpecError
        If ``jobs`` is out of range.
    EngineError
        If one of several processes is killed.
    """
    head = pipeline.named_steps["head"]
    if not isinstance(head, OneVsRestClassifier):
        with _route_weights(pipeline, sample_weight) as weights:
            return _fit(pipeline, X, y, weights)
    with _route_weights(pipeline, sample_weight) as weights, _limit_processes(jobs):
        head.set_params(n_jobs=jobs)
        _fit(pipeline, X, y, weights)
    head.set_params(n_jobs=None)
    return pipeline


def refit_calibrated(
    pipeline: Pipeline,
    X: NDArray[np.floating],
    y: NDArray[Any],
    folds: Sequence[Fold],
    *,
    sample_weight: ArrayLike | None = None,
    jobs: int = 1,
) -> tuple[Pipeline, SigmoidCalibration]:
    """Fit a clone of a pipeline, and sigmoids that turn its decisions into probabilities.

    CalibratedClassifierCV does both, without an ensemble: one head is fitted on all rows, and the sigmoids are fitted
    to the decisions on held-out rows. The decisions of the head are not changed.

    Parameters
    ----------
    pipeline, X, y, sample_weight, jobs
        As in `refit`. The weights apply to the sigmoids too.
    folds : sequence of (train, test)
        From `make_folds` with one shuffle, so that every row is tested once. If there are augmented copies, only the
        plain rows are tested, and the sigmoids are fitted to the plain rows.

    Raises
    ------
    SpecError
        If ``jobs`` is out of range.
    EngineError
        If one of several processes is killed.
    """
    if sum(len(tested) for _, tested in folds) < len(y):
        return _refit_with_copies(pipeline, X, y, folds, sample_weight, jobs)
    calibrated = CalibratedClassifierCV(pipeline, method=CALIBRATION_METHOD, cv=folds, n_jobs=jobs, ensemble=False)
    with _route_weights(pipeline, sample_weight) as weights, _limit_processes(jobs):
        if weights:
            calibrated.set_fit_request(sample_weight=True)
        calibrated.fit(X, y, **weights)
    return calibrated.calibrated_classifiers_[0].estimator, _get_sigmoids(calibrated)


def _refit_with_copies(
    pipeline: Pipeline,
    X: NDArray[np.floating],
    y: NDArray[Any],
    folds: Sequence[Fold],
    sample_weight: ArrayLike | None,
    jobs: int,
) -> tuple[Pipeline, SigmoidCalibration]:
    """Fit and calibrate if some rows are never tested.

    CalibratedClassifierCV needs every row in a test fold. So it gets only the tested rows, as decisions.
    """
    weights = None if sample_weight is None else np.asarray(sample_weight)

    def fitted(rows: NDArray[np.intp]) -> Pipeline:
        weight = None if weights is None else weights[rows]
        return refit(clone(pipeline), X[rows], y[rows], sample_weight=weight, jobs=jobs)

    decisions = np.concatenate([fitted(train).decision_function(X[tested]) for train, tested in folds])
    rows = np.concatenate([tested for _, tested in folds])
    decided = FrozenEstimator(PrecomputedDecisions("linear-svc", np.unique(y)))
    whole = np.arange(len(rows))
    calibrated = CalibratedClassifierCV(decided, method=CALIBRATION_METHOD, cv=[(whole, whole)], ensemble=False)
    with config_context(enable_metadata_routing=True):
        calibrated.set_fit_request(sample_weight=True)
        calibrated.fit(decisions, y[rows], sample_weight=None if weights is None else weights[rows])
    return fitted(np.arange(len(y))), _get_sigmoids(calibrated)


def _get_sigmoids(calibrated: CalibratedClassifierCV) -> SigmoidCalibration:
    (found,) = calibrated.calibrated_classifiers_
    slope, intercept = np.array([(part.a_, part.b_) for part in found.calibrators], np.float64).T
    return SigmoidCalibration(slope, intercept)


def _fit(pipeline: Pipeline, X: NDArray[np.floating], y: NDArray[Any], weights: dict[str, ArrayLike]) -> Pipeline:
    normalizer, head = pipeline.named_steps["normalizer"], pipeline.named_steps["head"]
    svc = isinstance(head.estimator if isinstance(head, OneVsRestClassifier) else head, LinearSVC)
    if not svc or X.shape[1] <= len(X) or len(X) > MAX_ROWS or not np.isfinite(X).all():
        with one_thread_if_small(X.size):
            return pipeline.fit(X, y, **weights)
    values = X if normalizer == "passthrough" else normalizer.fit_transform(X)
    factor = make_cholesky_factor(values)
    pipeline.set_params(normalizer="passthrough")
    try:
        with one_thread_if_small(factor.rows.size):
            pipeline.fit(factor.rows, y, **weights)
    finally:
        pipeline.set_params(normalizer=normalizer)
    parts = head.estimators_ if isinstance(head, OneVsRestClassifier) else [head]
    # If all rows have a class, or none has it, OneVsRestClassifier fits a constant, which has no weights.
    parts = [part for part in parts if hasattr(part, "coef_")]
    if parts:
        W = factor.restore(np.vstack([part.coef_ for part in parts]))
        for part, coef in zip(parts, np.split(W, len(parts)), strict=True):
            part.coef_ = np.array(coef, part.coef_.dtype, order="F")
    for estimator in (head, *parts):
        estimator.n_features_in_ = X.shape[1]
    return pipeline


@contextmanager
def _route_weights(pipeline: Pipeline, sample_weight: ArrayLike | None) -> Iterator[dict[str, ArrayLike]]:
    """Make scikit-learn route sample weights to the head alone. Yield the keyword arguments for ``fit``."""
    if sample_weight is None:
        yield {}
        return
    with config_context(enable_metadata_routing=True):
        for step in pipeline.named_steps.values():
            inner = step.estimator if isinstance(step, OneVsRestClassifier) else step
            if hasattr(inner, "set_fit_request"):
                inner.set_fit_request(sample_weight=step is pipeline.named_steps["head"])
        yield {"sample_weight": sample_weight}


@contextmanager
def _limit_processes(jobs: int) -> Iterator[None]:
    """Give each of ``jobs`` processes one thread, so that sums have the same order for any number of processes."""
    if jobs < 1:
        raise SpecError(f"jobs of a fit must be 1 or more, got {jobs}")
    with raise_if_process_killed(jobs), one_thread_each():
        yield
