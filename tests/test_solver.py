"""The batched solver finds the same minima as scikit-learn."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from featx.errors import DataError, SpecError
from featx.heads.solver import pivoting
from featx.heads.solver.batch import LOSSES, fit_batch
from featx.heads.solver.loss_functions import SquaredHinge
from featx.heads.solver.pivoting import make_pivot_solver
from featx.heads.solver.principal_axes import make_principal_axes
from featx.heads.solver.row_weights import row_weights

pytestmark = pytest.mark.core

CS = (10.0, 0.1)


def make_data(n, d, classes, seed=0):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    return rng.normal(size=(classes, d))[codes] + 2 * rng.normal(size=(n, d)) + 0.5, codes


def sklearn_fit(loss, C, X, codes, class_weight=None, sample_weight=None):
    """Return the coefficients and intercepts of scikit-learn's estimator, run with a small tolerance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if loss == "linear-svc":
            model = LinearSVC(
                C=C, tol=1e-8, dual=len(X) < X.shape[1], max_iter=100_000, random_state=0, class_weight=class_weight
            )
            model.fit(X, codes, sample_weight)
            return model.coef_, model.intercept_
        model = LogisticRegression(C=C, tol=1e-8, max_iter=100_000, class_weight=class_weight)
        if loss == "softmax":
            model.fit(X, codes, sample_weight)
            return model.coef_, model.intercept_
        if isinstance(class_weight, dict) and codes.max() > 1:
            # OneVsRestClassifier takes no weights of classes: they are weights of rows.
            rows = np.array([class_weight.get(code, 1.0) for code in codes])
            model.set_params(class_weight=None)
            parts = [clone(model).fit(X, codes == code, rows) for code in range(codes.max() + 1)]
        else:
            parts = OneVsRestClassifier(model).fit(X, codes).estimators_
        return np.vstack([part.coef_ for part in parts]), np.concatenate([part.intercept_ for part in parts])


def objective(loss, C, W, b, X, codes, weights):
    """Return scikit-learn's objective; ``weights`` are (rows,) or (rows of W, rows)."""
    Z = W @ X.T + b[:, np.newaxis]
    penalty = (W**2).sum() / 2
    if loss == "softmax" and len(W) > 1:
        top = Z.max(axis=0)
        losses = np.log(np.exp(Z - top).sum(axis=0)) + top - Z[codes, np.arange(len(codes))]
        return C * (weights * losses).sum() + penalty
    signs = np.where(codes == (np.arange(len(W))[:, np.newaxis] if len(W) > 1 else 1), 1, -1)
    if loss == "linear-svc":
        return C * (weights * np.maximum(0, 1 - signs * Z) ** 2).sum() + penalty + (b**2).sum() / 2
    return C * (weights * np.logaddexp(0, -signs * Z)).sum() + penalty


def constant(X):
    X[:, 3] = 0
    X[:, 4] = 7


def zero_rows(X):
    X[5:9] = 0


def duplicates(X):
    X[1::2] = X[::2]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("n", "d", "classes", "change"),
    [
        (80, 12, 2, None),
        (40, 90, 2, None),
        (120, 15, 5, None),
        (60, 150, 5, None),
        (50, 50, 3, None),
        (150, 30, 50, None),
        (12, 30, 12, None),
        (60, 10, 3, constant),
        (20, 40, 3, constant),
        (60, 10, 3, zero_rows),
        (30, 60, 3, zero_rows),
        (30, 60, 3, duplicates),
    ],
)
def test_the_minimum_equals_that_of_sklearn(loss, n, d, classes, change):
    X, codes = make_data(n, d, classes)
    if change:
        change(X)
    fit = fit_batch(X, codes, np.ones((1, n)), CS, loss, classes, tol=1e-9)
    assert fit.converged.all()
    for index, C in enumerate(CS):
        W, b = fit.coefs[0, index], fit.intercepts[0, index]
        found = objective(loss, C, W, b, X, codes, 1)
        W_sk, b_sk = sklearn_fit(loss, C, X, codes)
        expected = objective(loss, C, W_sk, b_sk, X, codes, 1)
        assert W.shape == W_sk.shape
        assert fit.objective[0, index].sum() == pytest.approx(found, rel=1e-9)
        assert found == pytest.approx(expected, rel=1e-6)
        assert expected >= found - fit.gap[0, index].sum() - 1e-9 * found
        assert np.abs(W - W_sk).max() <= 2e-3 * np.abs(W_sk).max()


@pytest.mark.parametrize("loss", LOSSES)
def test_classes_may_be_very_unequal(loss):
    X, codes = make_data(2002, 8, 2)
    codes[:] = 0
    codes[:2] = 1
    fit = fit_batch(X, codes, np.ones((1, 2002)), [1.0], loss, 2, tol=1e-9)
    expected = objective(loss, 1.0, *sklearn_fit(loss, 1.0, X, codes), X, codes, 1)
    assert fit.converged.all()
    assert fit.objective.sum() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_constant_columns_are_fitted(loss):
    X, codes = np.full((12, 3), 2.0), np.repeat([0, 1, 2], 4)
    fit = fit_batch(X, codes, np.ones((1, 12)), [1.0], loss, 3, tol=1e-9)
    assert fit.converged.all()
    expected = objective(loss, 1.0, *sklearn_fit(loss, 1.0, X, codes), X, codes, 1)
    assert fit.objective.sum() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 3.0, 1: 0.5}])
def test_weights_and_folds_equal_those_of_sklearn(loss, classes, class_weight):
    X, codes = make_data(90, 20, classes)
    rng = np.random.default_rng(1)
    # OneVsRestClassifier passes sample weights on only if metadata routing is enabled.
    sample = np.ones(90) if loss == "ovr-logistic" else rng.uniform(0.2, 2, 90)
    trained = sample * (rng.integers(0, 3, 90) != np.arange(3)[:, np.newaxis])
    weights = row_weights(codes, trained, loss, classes, class_weight)
    fit = fit_batch(X, codes, weights, CS, loss, classes, tol=1e-9)
    for fold, index in np.ndindex(3, 2):
        rows = trained[fold] > 0
        W_sk, b_sk = sklearn_fit(loss, CS[index], X[rows], codes[rows], class_weight, sample[rows])
        expected = objective(loss, CS[index], W_sk, b_sk, X, codes, weights[fold])
        assert fit.objective[fold, index].sum() == pytest.approx(expected, rel=1e-6)
        assert np.abs(fit.coefs[fold, index] - W_sk).max() <= 2e-3 * np.abs(W_sk).max()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("shape", [(300, 40), (60, 200)])
def test_float32_is_certified_in_float64(loss, shape):
    X, codes = make_data(*shape, 6)
    X = X.astype(np.float32)
    fit = fit_batch(X, codes, np.ones((2, len(X))), (0.01, 100.0), loss, 6)
    assert fit.converged.all()
    for index, C in enumerate((0.01, 100.0)):
        expected = objective(loss, C, *sklearn_fit(loss, C, X.astype(float), codes), X, codes, 1)
        assert fit.objective[0, index].sum() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_norm_equals_finite_differences(loss, monkeypatch):
    # Pivoting would end at the exact minimum, where the gradient is zero.
    monkeypatch.setattr("featx.heads.solver.pivoting.MAX_ROWS", 10)
    X, codes = make_data(60, 10, 2)
    fit = fit_batch(X, codes, np.ones((1, 60)), [1.0], loss, 2, tol=0.1)
    at = np.append(fit.coefs[0, 0, 0], fit.intercepts[0, 0])

    def value(w):
        return objective(loss, 1.0, w[np.newaxis, :-1], w[-1:], X - X.mean(axis=0) * (loss != "linear-svc"), codes, 1)

    # The gradient of an unpenalized intercept is that on centered columns.
    at[-1] += at[:-1] @ X.mean(axis=0) * (loss != "linear-svc")
    slopes = [(value(at + step) - value(at - step)) / 2e-5 for step in np.eye(11) * 1e-5]
    assert fit.gradient_norm.item() == pytest.approx(np.linalg.norm(slopes), rel=1e-4)
    assert fit.gap.item() <= 0.1 * fit.objective.item()


def test_an_unfinished_fit_is_not_reported_as_converged():
    X, codes = make_data(60, 10, 3)
    fit = fit_batch(X, codes, np.ones((1, 60)), [100.0], "softmax", 3, tol=1e-12, max_iter=1)
    assert not fit.converged.any()
    assert fit.gap.item() > 1e-12 * fit.objective.item()


def test_the_size_of_batches_does_not_change_the_fit(monkeypatch):
    X, codes = make_data(60, 10, 3)
    whole = [fit_batch(X, codes, np.ones((3, 60)), CS, loss, 3, tol=1e-9) for loss in LOSSES]
    monkeypatch.setattr("featx.heads.solver.batch.MAX_BATCH_VALUES", 2 * 60)
    for loss, expected in zip(LOSSES, whole, strict=True):
        fit = fit_batch(X, codes, np.ones((3, 60)), CS, loss, 3, tol=1e-9)
        # Objectives within 1e-9 of the minimum mean weights within about its square root.
        np.testing.assert_allclose(fit.coefs, expected.coefs, atol=1e-4)


def test_many_rows_are_solved_without_pivoting(monkeypatch):
    X, codes = make_data(80, 10, 3)
    expected = fit_batch(X, codes, np.ones((1, 80)), CS, "linear-svc", 3, tol=1e-9)
    monkeypatch.setattr("featx.heads.solver.pivoting.MAX_ROWS", 10)
    fit = fit_batch(X, codes, np.ones((1, 80)), CS, "linear-svc", 3, tol=1e-9)
    np.testing.assert_allclose(fit.coefs, expected.coefs, atol=1e-5)


def test_many_rows_inside_the_margin_are_solved_by_newton_first(monkeypatch):
    X, codes = make_data(80, 10, 3)
    expected = fit_batch(X, codes, np.ones((1, 80)), CS, "linear-svc", 3, tol=1e-9)
    monkeypatch.setattr("featx.heads.solver.pivoting.MIN_LIMIT", 20)
    monkeypatch.setattr("featx.heads.solver.pivoting.COST", 0)
    fit = fit_batch(X, codes, np.ones((1, 80)), CS, "linear-svc", 3, tol=1e-9)
    np.testing.assert_allclose(fit.coefs, expected.coefs, atol=1e-5)


def good(**changes):
    X, codes = make_data(20, 4, 2)
    values = {"X": X, "codes": codes, "weights": np.ones((1, 20)), "Cs": [1.0], "loss": "softmax", "n_classes": 2}
    return values | changes


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"loss": "hinge"}, SpecError, "loss must be one of linear-svc, softmax, ovr-logistic, got 'hinge'"),
        ({"Cs": []}, SpecError, r"Cs must be one or more finite numbers above 0, got \[\]"),
        ({"Cs": [0.0, 1.0]}, SpecError, r"above 0, got \[0.0, 1.0\]"),
        ({"Cs": [np.inf]}, SpecError, r"above 0, got \[inf\]"),
        ({"X": np.ones(20)}, DataError, r"got shapes \(20,\) and \(20,\)"),
        ({"codes": np.zeros(3, int)}, DataError, r"got shapes \(20, 4\) and \(3,\)"),
        ({"n_classes": 1}, DataError, "classes must be two or more, 0 to 0"),
        ({"codes": np.arange(20)}, DataError, "classes must be two or more, 0 to 1, got"),
        ({"X": np.full((20, 4), np.nan)}, DataError, "must be finite, got NaN or infinity; extract these rows again"),
        ({"weights": np.ones((1, 3))}, DataError, r"weights must be \(folds, 20\) or .* got shape \(1, 3\)"),
        ({"weights": np.full((1, 20), -1.0)}, DataError, "weights of rows must be 0 or more, got -1.0"),
    ],
)
def test_bad_options_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        fit_batch(**good(**changes))


@pytest.mark.parametrize(
    ("loss", "class_weight", "message"),
    [
        ("softmax", "equal", "class_weight of softmax must be 'balanced', a dict or None, got 'equal'"),
    ],
)
def test_bad_class_weights_are_refused(loss, class_weight, message):
    with pytest.raises(SpecError, match=message):
        row_weights(np.array([0, 1]), np.ones((1, 2)), loss, 2, class_weight)


@pytest.mark.parametrize("loss", LOSSES)
def test_features_that_are_not_normalized_do_not_overflow(loss):
    """Rows far outside the margin: finished problems must not diverge while others are still being solved."""
    rng = np.random.default_rng(2)
    codes = np.arange(120) % 6
    shares = 0.03 + 0.3 * (rng.random((6, 3000)) < 0.05)[codes]
    X = (rng.random((120, 3000)) < shares) * rng.gamma(1, 60, (120, 3000))
    weights = np.ones((2, 120))
    weights[0, ::3] = weights[1, 1::3] = 0
    fit = fit_batch(X.astype(np.float32), codes, weights, [1e-4, 0.1, 10], loss, 6)
    assert np.isfinite(fit.coefs).all()
    assert fit.gap.max() < 1e-8


@pytest.mark.parametrize("scale", [1 / 160, 1.0, 16.0])
@pytest.mark.parametrize("loss", ["softmax", "ovr-logistic"])
def test_large_c_with_few_columns_does_not_overflow(loss, scale):
    """Directions along which the curvature is smaller than rounding, down to almost no variance."""
    digits = load_digits()
    X, codes = (scale * digits.data[:600] + 3).astype(np.float32), digits.target[:600]
    weights = np.array([np.arange(600) % 3 != fold for fold in range(3)], float)
    fit = fit_batch(X, codes, weights, [1e3, 1e5, 1e6], loss, 10)
    assert np.isfinite(fit.coefs).all()
    assert fit.converged.mean() > 0.9


def test_pivoting_finishes_what_newton_does_not(monkeypatch):
    # More columns than rows and a large C: conjugate gradients zigzag for thousands of steps.
    X, codes = make_data(60, 200, 6)
    expected = fit_batch(X, codes, np.ones((1, 60)), [100.0], "linear-svc", 6, tol=1e-9)
    monkeypatch.setattr("featx.heads.solver.pivoting.MIN_LIMIT", 1)
    monkeypatch.setattr("featx.heads.solver.pivoting.COST", 0)
    fit = fit_batch(X, codes, np.ones((1, 60)), [100.0], "linear-svc", 6, tol=1e-9, max_iter=3)
    assert fit.converged.all()
    assert (fit.iterations > 3).all()
    np.testing.assert_allclose(fit.coefs, expected.coefs, atol=1e-7)


def test_pivoting_works_without_a_guess():
    X, codes = make_data(60, 10, 2)
    rotated = make_principal_axes(X, penalize_intercept=True)
    signs = np.where(codes == 1, 1.0, -1.0)[np.newaxis, np.newaxis]
    U, exchanges = make_pivot_solver(rotated)(SquaredHinge(signs, np.ones_like(signs)), np.zeros((1, 60), bool))
    W, b = rotated.restore(U[:, 0])
    expected = objective("linear-svc", 1.0, *sklearn_fit("linear-svc", 1.0, X, codes), X, codes, 1)
    assert objective("linear-svc", 1.0, W, b, X, codes, 1) == pytest.approx(expected, rel=1e-6)
    assert exchanges.item() > 1


def test_a_system_that_is_singular_by_rounding_is_solved():
    system, target = np.array([[2.0, 2, 0], [2, 2, 0], [0, 0, 1]]), np.array([4.0, 4, 3])
    np.testing.assert_allclose(system @ pivoting._solve_positive(system, target), target)
    system[1, 1] = 3
    np.testing.assert_allclose(pivoting._solve_positive(system, target), np.linalg.solve(system, target), atol=1e-9)


def test_repeated_rows_with_an_enormous_c_are_fitted():
    X, codes = make_data(30, 50, 3)
    X, codes = np.vstack([X, X]), np.concatenate([codes, codes])
    fit = fit_batch(X, codes, np.ones((1, 60)), [1e9, 1e15], "linear-svc", 3)
    decisions = fit.coefs[0] @ X.T + fit.intercepts[0][..., np.newaxis]
    assert (decisions[0].argmax(axis=0) == codes).all()
    assert np.isfinite(decisions).all()  # float64 cannot resolve more at this C
    assert not fit.converged[0, 1].any()


@pytest.mark.parametrize("Cs", [(1.0, 10.0, 100.0, 1000.0), (1.0, 1.0, 5.0, 5.0)])
@pytest.mark.parametrize("loss", ["softmax", "ovr-logistic"])
def test_extrapolation_from_earlier_c_saves_iterations(loss, Cs, monkeypatch):
    X, codes = make_data(60, 200, 4)
    ahead = fit_batch(X, codes, np.ones((3, 60)), Cs, loss, 4)
    monkeypatch.setattr("featx.heads.solver.batch._extrapolate", lambda U, Cs: (U.copy() for _ in Cs))
    plain = fit_batch(X, codes, np.ones((3, 60)), Cs, loss, 4)
    np.testing.assert_allclose(ahead.objective, plain.objective, rtol=1e-5)
    assert ahead.converged.all()
    if len(set(Cs)) == 4:
        assert ahead.iterations[:, 2:].sum() < plain.iterations[:, 2:].sum()
