"""Fits by sklearn itself, weighted and calibrated if asked, in several processes with the same result."""

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
from featx.heads.calibration import METHOD, Calibration
from featx.heads.folds import Fold
from featx.heads.parallel import among_processes, one_thread_each, one_thread_if_small
from featx.heads.scoring import PrecomputedDecisions
from featx.heads.solver.cholesky_factor import cholesky_factor
from featx.heads.solver.pivoting import MAX_ROWS


def refit(
    pipeline: Pipeline,
    X: NDArray[np.floating],
    y: NDArray[Any],
    *,
    sample_weight: ArrayLike | None = None,
    jobs: int = 1,
) -> Pipeline:
    """Fit a pipeline of `make_head`, in place.

    Of rows with more columns than there are rows, LinearSVC sees a triangle with the same inner products
    (`make_triangle`). Those are all that decides where liblinear's steps lead, so the weights are the same, but for
    rounding. L-BFGS would take the same steps too, but ends by its largest gradient entry, which depends on the axes.

    Parameters
    ----------
    pipeline : Pipeline
    X : float array (rows, columns)
    y : array (rows,)
    sample_weight : float array (rows,), optional
        For the head; the normalizer counts rows alike.
    jobs : int
        Processes for one-vs-rest; the result is the same for any number.

    Raises
    ------
    SpecError
        If jobs is out of range.
    EngineError
        If one of several processes is ended from outside.
    """
    head = pipeline.named_steps["head"]
    if not isinstance(head, OneVsRestClassifier):
        with _weighing(pipeline, sample_weight) as weights:
            return _fit(pipeline, X, y, weights)
    with _weighing(pipeline, sample_weight) as weights, _sharing(jobs):
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
) -> tuple[Pipeline, Calibration]:
    """Fit a clone of a pipeline, and sigmoids to its decisions on rows held out.

    Done by sklearn's CalibratedClassifierCV without ensemble: one head, fitted on all rows, whose decisions stay as
    they are, so that what it adds is two numbers a class.

    Parameters
    ----------
    pipeline, X, y, sample_weight, jobs
        As in `refit`; the weights count for the sigmoids too.
    folds : sequence of (train, test)
        From `make_folds`, of one shuffle: every row is tested once, or every plain one; the sigmoids are fitted on
        those.

    Raises
    ------
    SpecError
        If jobs is out of range.
    EngineError
        If one of several processes is ended from outside.
    """
    if sum(len(tested) for _, tested in folds) < len(y):
        return _refit_on_views(pipeline, X, y, folds, sample_weight, jobs)
    calibrated = CalibratedClassifierCV(pipeline, method=METHOD, cv=folds, n_jobs=jobs, ensemble=False)
    with _weighing(pipeline, sample_weight) as weights, _sharing(jobs):
        if weights:
            calibrated.set_fit_request(sample_weight=True)
        calibrated.fit(X, y, **weights)
    return calibrated.calibrated_classifiers_[0].estimator, _sigmoids(calibrated)


def _refit_on_views(
    pipeline: Pipeline,
    X: NDArray[np.floating],
    y: NDArray[Any],
    folds: Sequence[Fold],
    sample_weight: ArrayLike | None,
    jobs: int,
) -> tuple[Pipeline, Calibration]:
    """The same where some rows are trained on only: sklearn predicts all rows, so it is handed the decisions."""
    weights = None if sample_weight is None else np.asarray(sample_weight)

    def fitted(rows: NDArray[np.intp]) -> Pipeline:
        weight = None if weights is None else weights[rows]
        return refit(clone(pipeline), X[rows], y[rows], sample_weight=weight, jobs=jobs)

    decisions = np.concatenate([fitted(train).decision_function(X[tested]) for train, tested in folds])
    rows = np.concatenate([tested for _, tested in folds])
    decided = FrozenEstimator(PrecomputedDecisions("linear-svc", np.unique(y)))
    whole = np.arange(len(rows))
    calibrated = CalibratedClassifierCV(decided, method=METHOD, cv=[(whole, whole)], ensemble=False)
    with config_context(enable_metadata_routing=True):
        calibrated.set_fit_request(sample_weight=True)
        calibrated.fit(decisions, y[rows], sample_weight=None if weights is None else weights[rows])
    return fitted(np.arange(len(y))), _sigmoids(calibrated)


def _sigmoids(calibrated: CalibratedClassifierCV) -> Calibration:
    (found,) = calibrated.calibrated_classifiers_
    slope, intercept = np.array([(part.a_, part.b_) for part in found.calibrators], np.float64).T
    return Calibration(slope, intercept)


def _fit(pipeline: Pipeline, X: NDArray[np.floating], y: NDArray[Any], weights: dict[str, ArrayLike]) -> Pipeline:
    normalizer, head = pipeline.named_steps["normalizer"], pipeline.named_steps["head"]
    svc = isinstance(head.estimator if isinstance(head, OneVsRestClassifier) else head, LinearSVC)
    if not svc or X.shape[1] <= len(X) or len(X) > MAX_ROWS or not np.isfinite(X).all():
        with one_thread_if_small(X.size):
            return pipeline.fit(X, y, **weights)
    values = X if normalizer == "passthrough" else normalizer.fit_transform(X)
    triangle = cholesky_factor(values)
    pipeline.set_params(normalizer="passthrough")
    try:
        with one_thread_if_small(triangle.rows.size):
            pipeline.fit(triangle.rows, y, **weights)
    finally:
        pipeline.set_params(normalizer=normalizer)
    parts = head.estimators_ if isinstance(head, OneVsRestClassifier) else [head]
    # A class that all rows have, or none, has no weights.
    parts = [part for part in parts if hasattr(part, "coef_")]
    if parts:
        W = triangle.restore(np.vstack([part.coef_ for part in parts]))
        for part, coef in zip(parts, np.split(W, len(parts)), strict=True):
            part.coef_ = np.array(coef, part.coef_.dtype, order="F")
    for estimator in (head, *parts):
        estimator.n_features_in_ = X.shape[1]
    return pipeline


@contextmanager
def _weighing(pipeline: Pipeline, sample_weight: ArrayLike | None) -> Iterator[dict[str, ArrayLike]]:
    """The keywords that make ``fit`` weigh rows in the head alone, while sklearn routes them there."""
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
def _sharing(jobs: int) -> Iterator[None]:
    """Several processes, with one thread each, so that sums are added up in the same order for any number of them."""
    if jobs < 1:
        raise SpecError(f"jobs of a fit must be 1 or more, got {jobs}")
    with among_processes(jobs), one_thread_each():
        yield
