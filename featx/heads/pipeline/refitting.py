"""Fit a head with scikit-learn. Sample weights, calibration and several processes are optional."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import ArrayLike, NDArray
from sklearn import clone, config_context
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from featx.errors import DataError, SpecError
from featx.heads.parallel import one_thread_each, one_thread_if_small, raise_if_process_killed
from featx.heads.pipeline.calibration import TemperatureCalibration, fit_temperature
from featx.heads.pipeline.convergence import not_converged, note_convergence, set_not_converged, warn_not_converged
from featx.heads.solver.cholesky_factor import make_cholesky_factor
from featx.heads.solver.pivoting import MAX_ROWS
from featx.heads.splitting.folds import Fold
from featx.runtime import pluralize


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
    fewer columns (`make_cholesky_factor`). The steps of liblinear depend only on inner products, so the weights are the
    same except for rounding. Logistic heads are fitted to the rows themselves. Their solver L-BFGS stops when the
    largest entry of the gradient is small, and this entry depends on the axes.

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

    Warns
    -----
    HeadNotConverged
        In one line, if a solver stops before it has found the best weights. `not_converged` returns the same line.
    """
    _refit(pipeline, X, y, sample_weight, jobs)
    warn_not_converged(not_converged(pipeline))
    return pipeline


def _refit(
    pipeline: Pipeline, X: NDArray[np.floating], y: NDArray[Any], sample_weight: ArrayLike | None, jobs: int = 1
) -> Pipeline:
    """Fit a pipeline like `refit`, but without a warning."""
    head = pipeline.named_steps["head"]
    if not isinstance(head, OneVsRestClassifier):
        with _route_weights(pipeline, sample_weight) as weights, note_convergence(pipeline):
            return _fit(pipeline, X, y, weights)
    with _route_weights(pipeline, sample_weight) as weights, _limit_processes(jobs), note_convergence(pipeline):
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
) -> tuple[Pipeline, TemperatureCalibration]:
    """Fit a clone of a pipeline, and the temperature that turns its decisions into probabilities.

    In each fold, another clone is fitted on the training rows and gives decisions on the test rows. The temperature is
    fitted to these decisions. It does not change the decisions of the pipeline.

    Parameters
    ----------
    pipeline, X, y, sample_weight
        As in `refit`, with one label per row. The weights apply to the temperature too.
    folds : sequence of (train, test)
        From `make_folds`. Rows that no fold tests, such as augmented copies, do not count for the temperature.
    jobs : int
        Number of processes that share the folds. The result does not depend on it.

    Raises
    ------
    SpecError
        If ``jobs`` is out of range.
    DataError
        If the folds test no row.
    EngineError
        If one of several processes is killed.

    Warns
    -----
    HeadNotConverged
        As in `refit`, and also if only the fit of a fold stops early.
    """
    weights = None if sample_weight is None else np.asarray(sample_weight)
    folds = [fold for fold in folds if len(fold[1])]
    if not folds:
        raise DataError(
            "calibration needs rows that the head was not fitted on, but the folds test no row; add images to each "
            "class, or leave out --calibrate"
        )
    tasks = [
        delayed(_decide_held_out)(clone(pipeline), X[train], y[train], None if weights is None else weights[train],
                                  X[test])
        for train, test in folds
    ]  # fmt: skip
    with _limit_processes(jobs):
        decisions, stopped = zip(*Parallel(jobs)(tasks), strict=True)
    tested = np.concatenate([test for _, test in folds])
    codes = np.searchsorted(np.unique(y), y[tested])
    calibration = fit_temperature(np.concatenate(decisions), codes, None if weights is None else weights[tested])
    fitted = _refit(clone(pipeline), X, y, sample_weight)
    if not_converged(fitted) is None and (texts := list(filter(None, stopped))):
        set_not_converged(fitted, f"in {len(texts)} of {pluralize(len(folds), 'fold')} of the calibration, {texts[0]}")
    warn_not_converged(not_converged(fitted))
    return fitted, calibration


def _decide_held_out(
    pipeline: Pipeline, X: NDArray[np.floating], y: NDArray[Any], weights: NDArray[Any] | None, held_out: NDArray[Any]
) -> tuple[NDArray[np.floating], str | None]:
    """Fit a pipeline. Return its decisions on other rows, and the line of `not_converged`."""
    fitted = _refit(pipeline, X, y, weights)
    return fitted.decision_function(held_out), not_converged(fitted)


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
