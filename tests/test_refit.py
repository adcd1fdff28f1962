"""Weighted, calibrated and parallel fits equal those of scikit-learn."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_info, threadpool_limits

from featx.errors import DataError, ModelError, SpecError
from featx.heads.pipeline.calibration import TemperatureCalibration, fit_temperature
from featx.heads.pipeline.linear_heads import HEADS, NORMALIZERS, linear_parts, make_head
from featx.heads.pipeline.refitting import refit, refit_calibrated
from featx.heads.solver.cholesky_factor import make_cholesky_factor
from featx.heads.splitting.folds import make_folds

pytestmark = pytest.mark.core


def make_rows(classes=3, n=90, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    X = np.abs(rng.normal(size=(classes, 12))[codes] + 1.5 * rng.normal(size=(n, 12)))
    return X.astype(np.float32), np.array(["ant", "bee", "cat", "dog"])[codes], rng.integers(1, 4, n)


def held_out_decisions(head, X, y, folds, weight=None):
    """Fit a head in each fold by scikit-learn alone; return decisions and labels of the tested rows."""
    decisions, labels = [], []
    for train, test in folds:
        arguments = {} if weight is None else {"head__sample_weight": weight[train]}
        decisions.append(clone(head).fit(X[train], y[train], **arguments).decision_function(X[test]))
        labels.append(y[test])
    return np.concatenate(decisions), np.concatenate(labels)


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_calibration_minimizes_the_cross_entropy_on_held_out_rows(normalize, classes):
    X, y, _ = make_rows(classes)
    folds = make_folds(y, n_splits=3)
    head = make_head("linear-svc", normalize=normalize)
    pipeline, calibration = refit_calibrated(head, X, y, folds)
    np.testing.assert_array_equal(pipeline.decision_function(X), refit(head, X, y).decision_function(X))
    decisions, labels = held_out_decisions(head, X, y, folds)

    def smoothed_loss(temperature):
        shares = TemperatureCalibration(temperature).predict_proba(decisions)
        smoothing = classes / (len(y) + classes)
        targets = (1 - smoothing) * (labels[:, np.newaxis] == np.unique(y)) + smoothing / classes
        return -(targets * np.log(shares)).sum()

    found = smoothed_loss(calibration.temperature)
    assert found < min(smoothed_loss(calibration.temperature * factor) for factor in (0.5, 0.99, 1.01, 2))


@pytest.mark.parametrize("classes", [2, 3])
def test_on_many_rows_a_calibration_is_that_of_sklearn(classes):
    """Without smoothing, which matters on few rows."""
    X, y, weight = make_rows(classes, n=9000)
    folds = make_folds(y, n_splits=3)
    head = make_head("linear-svc", normalize="none")
    pipeline, calibration = refit_calibrated(head, X, y, folds)
    expected = CalibratedClassifierCV(head, method="temperature", cv=folds, ensemble=False).fit(X, y)
    np.testing.assert_allclose(
        calibration.predict_proba(pipeline.decision_function(X)), expected.predict_proba(X), atol=1e-3
    )
    weighted = refit_calibrated(head, X, y, folds, sample_weight=weight)[1]
    decisions, labels = held_out_decisions(head, X, y, folds, weight)
    tested = np.concatenate([test for _, test in folds])
    repeated = np.repeat(np.arange(len(y)), weight[tested])
    same = fit_temperature(decisions[repeated], np.searchsorted(np.unique(y), labels[repeated]))
    assert weighted.temperature == pytest.approx(same.temperature, rel=1e-3)
    assert weighted.temperature != pytest.approx(calibration.temperature, rel=1e-6)


def test_decisions_without_any_mistake_get_no_certainty():
    """Otherwise the best temperature would be 0, on ten rows that a head happens to decide right."""
    decisions = 5.0 * np.eye(2)[np.arange(10) % 2]
    shares = fit_temperature(decisions, np.arange(10) % 2).predict_proba(decisions)
    assert 0.85 < shares.max() < 0.99
    assert fit_temperature(np.zeros((10, 3)), np.arange(10) % 3).temperature == 1


def test_useless_decisions_get_probabilities_near_chance():
    rng = np.random.default_rng(0)
    shares = fit_temperature(rng.normal(size=(300, 4)), rng.integers(0, 4, 300)).predict_proba(np.eye(4))
    assert np.abs(shares - 0.25).max() < 0.1


def test_folds_that_test_nothing_are_refused():
    X, y, _ = make_rows()
    with pytest.raises(DataError, match="calibration needs rows that the head was not fitted on"):
        refit_calibrated(make_head("linear-svc"), X, y, [(np.arange(len(y)), np.arange(0))])


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_a_temperature_that_is_not_above_0_is_refused(temperature):
    with pytest.raises(ModelError, match="temperature of a calibration must be a number above 0, got"):
        TemperatureCalibration(temperature)


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_weights_equal_those_of_sklearn(head, classes, normalize):
    X, y, weight = make_rows(classes)
    pipeline = refit(make_head(head, normalize=normalize), X, y, sample_weight=weight)
    step = make_head("softmax", normalize=normalize).named_steps["normalizer"]
    rows = X if step == "passthrough" else step.fit_transform(X)
    W, b = linear_parts(pipeline)
    for code, name in enumerate(np.unique(y)[-len(W) :]):
        if head == "softmax":
            expected = LogisticRegression(max_iter=10_000).fit(rows, y, sample_weight=weight)
        elif head == "ovr-logistic":
            expected = LogisticRegression(max_iter=10_000).fit(rows, y == name, sample_weight=weight)
        else:
            expected = LinearSVC(random_state=0, max_iter=10_000).fit(rows, y, sample_weight=weight)
        row = code if len(expected.coef_) > 1 else 0
        np.testing.assert_allclose(W[code], expected.coef_[row], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(b[code], expected.intercept_[row], rtol=1e-5, atol=1e-6)
    assert abs(W - linear_parts(refit(make_head(head, normalize=normalize), X, y))[0]).max() > 1e-3


def test_the_number_of_processes_does_not_change_the_fit():
    X, y, weight = make_rows()
    one, two = (refit(make_head("ovr-logistic"), X, y, sample_weight=weight, jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(linear_parts(one)[0], linear_parts(two)[0])
    assert two.named_steps["head"].n_jobs is None
    folds = make_folds(y, n_splits=3)
    one, two = (refit_calibrated(make_head("linear-svc"), X, y, folds, jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(linear_parts(one[0])[0], linear_parts(two[0])[0])
    assert one[1] == two[1]


def test_zero_processes_are_refused():
    X, y, _ = make_rows()
    with pytest.raises(SpecError, match="jobs of a fit must be 1 or more, got 0"):
        refit(make_head("ovr-logistic"), X, y, jobs=0)


def make_wide(dtype=np.float32):
    """Return rows with more than twice as many columns; one row is zero, and one is there twice."""
    rng = np.random.default_rng(0)
    codes = np.arange(36) % 3
    X = np.abs(rng.normal(size=(3, 100))[codes] + 2 * rng.normal(size=(36, 100)))
    X[4], X[8] = 0, X[5]
    return X.astype(dtype), np.array(["ant", "bee", "cat"])[codes]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("head", HEADS)
def test_a_fit_to_wide_rows_equals_that_of_sklearn(head, classes, dtype, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "featx.heads.pipeline.refitting.make_cholesky_factor",
        lambda X: seen.append(X.shape) or make_cholesky_factor(X),
    )
    X, y = make_wide(dtype)
    kept = np.isin(y, ["ant", "bee", "cat"][:classes])
    X, y = X[kept], y[kept]
    fitted, expected = refit(make_head(head, 10.0), X, y), make_head(head, 10.0).fit(X, y)
    assert seen == ([X.shape] if head == "linear-svc" else [])
    for parts in (0, 1):
        found, wanted = (linear_parts(pipeline, None)[parts] for pipeline in (fitted, expected))
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, atol=1e-8 if head == "linear-svc" else 0)
    np.testing.assert_array_equal(fitted.predict(X), expected.predict(X))
    assert fitted.n_features_in_ == 100
    assert repr(fitted) == repr(expected)


@pytest.mark.parametrize("head", ["linear-svc", "ovr-logistic"])
def test_wide_rows_may_be_multilabel(head):
    X, y = make_wide()
    Y = np.column_stack([y == "ant", y != "bee", np.zeros(36, bool)]).astype(int)
    with pytest.warns(UserWarning, match="Label not 2 is present in all training examples"):
        fitted = refit(make_head(head, multilabel=True), X, Y)
    with pytest.warns(UserWarning, match="Label not 2 is present in all training examples"):
        expected = make_head(head, multilabel=True).fit(X, Y)
    np.testing.assert_allclose(
        fitted.decision_function(X), expected.decision_function(X), atol=1e-8 if head == "linear-svc" else 0
    )


def test_a_fit_to_wide_rows_uses_sample_weights():
    X, y = make_wide()
    weight = 1.0 + np.arange(36) % 4
    fitted = refit(make_head("linear-svc", normalize="none"), X, y, sample_weight=weight)
    expected = LinearSVC(random_state=0, max_iter=10_000).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(linear_parts(fitted)[0], expected.coef_, atol=1e-8)


@pytest.mark.parametrize("X", [np.zeros((6, 20)), make_wide(np.float64)[0]])
def test_a_cholesky_factor_has_the_inner_products_of_its_rows(X):
    factor = make_cholesky_factor(X)
    assert factor.rows.shape == (len(X), len(X) + 1)
    assert not np.triu(factor.rows, 1).any()
    U = np.random.default_rng(0).normal(size=(2, len(X) + 1))
    if X.any():
        np.testing.assert_allclose(factor.rows @ factor.rows.T, X @ X.T, atol=1e-7)
        rows = np.delete(np.arange(len(X)), [4, 8])
        np.testing.assert_allclose((factor.restore(U) @ X.T)[:, rows], (U @ factor.rows.T)[:, rows], atol=1e-3)
    else:
        assert not factor.restore(U).any()


@pytest.mark.parametrize("head", HEADS)
def test_small_matrices_are_fitted_on_one_thread(head, monkeypatch):
    X, y, _ = make_rows()
    threads, fit = [], type(make_head(head)).fit

    def counted(*given, **options):
        threads.append({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
        return fit(*given, **options)

    monkeypatch.setattr(type(make_head(head)), "fit", counted)
    with threadpool_limits(2, user_api="blas"):
        refit(make_head(head), X, y)
        refit(make_head(head), X[:10], y[:10])  # more columns than rows
        monkeypatch.setattr("featx.heads.parallel.ONE_THREAD_VALUES", X.size - 1)
        refit(make_head(head), X, y)
    several = {1} if head == "ovr-logistic" else {2}
    assert threads == [{1}, {1}, several]
