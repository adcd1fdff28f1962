"""Fit all folds, values of C and classes of one head as a batch, with a certificate for each fit."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from featx.errors import DataError, SpecError
from featx.heads.solver.certified_solver import make_solver
from featx.heads.solver.loss_functions import Array, Logistic, LossFunction, Softmax, SquaredHinge, dot
from featx.heads.solver.principal_axes import PrincipalAxes, make_principal_axes

LOSSES = ("linear-svc", "softmax", "ovr-logistic")
TOLERANCE = 1e-6
MAX_ITER = 100
MAX_BATCH_VALUES = 1 << 24
"""Largest number of decisions (problems × classes × rows) in one batch: an array of 64 MB in float32. About ten such
arrays are held at once."""


@dataclass(frozen=True)
class PathFit:
    """Fits of all folds and classes at one value of C.

    A fold has q problems: one for softmax, else one per row of weights.

    Parameters
    ----------
    C : float
    weights : array (folds, rows of weights, r)
        Weights on the axes of `PrincipalAxes`.
    decisions : array (folds, rows of weights, n)
        Decisions on all rows, held-out rows included.
    objective, gradient_norm, gap : float64 arrays (folds, q)
        ``gap`` bounds the distance of the objective from its minimum.
    iterations : int array (folds, q)
    """

    C: float
    weights: Array
    decisions: Array
    objective: Array
    gradient_norm: Array
    gap: Array
    iterations: Array


@dataclass(frozen=True)
class BatchFit:
    """Fits of all folds, values of C and classes, on the original columns.

    Parameters
    ----------
    coefs : array (folds, Cs, rows of weights, d)
    intercepts : array (folds, Cs, rows of weights)
    objective, gradient_norm, gap, iterations, converged : arrays (folds, Cs, problems)
        ``gap`` bounds the distance of the objective from its minimum.
    """

    coefs: Array
    intercepts: Array
    objective: Array
    gradient_norm: Array
    gap: Array
    iterations: Array
    converged: Array


def fit_batch(
    X: Array,
    codes: Array,
    weights: Array,
    Cs: Sequence[float],
    loss: str,
    n_classes: int,
    *,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> BatchFit:
    """Minimize the objective of a scikit-learn estimator for every fold, C and class as one batch.

    ``softmax`` is LogisticRegression, which solves one binary problem for two classes. ``ovr-logistic`` is one
    LogisticRegression per class. The intercepts of these two are not penalized. ``linear-svc`` is LinearSVC: squared
    hinge with a penalized intercept. Two classes have one row of weights.

    Parameters
    ----------
    X : float array (n, d)
        All rows, shared by all problems.
    codes : int array (n,), or bool array (n, n_classes)
        Class of each row, 0 to n_classes - 1, or a multi-label indicator. ``softmax`` takes no indicator.
        Multi-label rows have one row of weights per class, even if there are only two classes.
    weights : float array (folds, n) or (folds, rows of weights, n)
        Weight of each row in each fold, from `row_weights`. Held-out rows have weight 0.
    Cs : sequence of float
    loss : {"linear-svc", "softmax", "ovr-logistic"}
    n_classes : int
    tol : float
        Largest duality gap (half the squared norm of the gradient), relative to the objective.
    max_iter : int
        Largest number of Newton steps per problem and precision.

    Raises
    ------
    SpecError
        If the loss or a C is out of range, or softmax gets multi-label rows.
    DataError
        If shapes do not match, X is not finite, or a weight is negative.
    """
    check_rows(X, codes, n_classes)
    order = np.argsort(Cs)
    axes = make_principal_axes(X, penalizes_intercept(loss))
    fits = list(fit_path(axes, codes, weights, [Cs[i] for i in order], loss, n_classes, tol=tol, max_iter=max_iter))
    back = np.argsort(order)
    coefs, intercepts = axes.restore(np.stack([fit.weights for fit in fits], axis=1)[:, back])
    objective, gradient_norm, gap, iterations = (
        np.stack([getattr(fit, name) for fit in fits], axis=1)[:, back]
        for name in ("objective", "gradient_norm", "gap", "iterations")
    )
    return BatchFit(coefs, intercepts, objective, gradient_norm, gap, iterations, gap <= tol * objective)


def penalizes_intercept(loss: str) -> bool:
    """Return whether scikit-learn's estimator penalizes its intercept. `make_principal_axes` needs to know this."""
    if loss not in LOSSES:
        raise SpecError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    return loss == "linear-svc"


def fit_path(
    axes: PrincipalAxes,
    codes: Array,
    weights: Array,
    Cs: Sequence[float],
    loss: str,
    n_classes: int,
    *,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> Iterator[PathFit]:
    """Yield the fits of `fit_batch` at each C in turn. The rows must be on their principal axes.

    The fits at one value of C start from the fits at the previous values.
    """
    weights = _check_weights(weights, len(codes), Cs)
    solver = make_solver(axes, loss, tol, max_iter)
    if codes.ndim == 2 and loss == "softmax":
        raise SpecError("softmax cannot be fitted to multi-label targets; use linear-svc or ovr-logistic")
    folds, rows = len(weights), _count_weight_rows(codes, n_classes)
    joint = loss == "softmax" and n_classes > 2
    U = np.zeros((folds, rows, len(axes.penalty)) if joint else (folds * rows, 1, len(axes.penalty)))
    size = max(1, MAX_BATCH_VALUES // (U.shape[1] * len(codes)))
    for C, extrapolated in zip(Cs, _extrapolate(U, Cs), strict=True):
        parts = []
        for start in range(0, len(U), size):
            chunk = np.arange(start, min(start + size, len(U)))
            state, iterations = solver.solve(
                _make_loss(codes, C * weights, loss, n_classes, chunk), U[chunk], extrapolated[chunk]
            )
            U[chunk] = state.U
            norms = np.sqrt(dot(state.gradient, state.gradient))
            parts.append((state.Z, state.objective, norms, state.gaps(), iterations))
        decisions, *rest = (np.concatenate(values) for values in zip(*parts, strict=True))
        shaped = (values.reshape(folds, -1) for values in rest)
        yield PathFit(C, U.reshape(folds, rows, -1).copy(), decisions.reshape(folds, rows, -1), *shaped)


def _extrapolate(U: Array, Cs: Sequence[float]) -> Iterator[Array]:
    """Yield a starting point for each C: the weights at the last two values of C, extrapolated linearly in log C.

    ``U`` is the array in which the caller stores the weights at each C.
    """
    before, step, last = U.copy(), 0.0, math.log(Cs[0])
    for C in Cs:
        further = math.log(C) - last
        extrapolated = U + (further / step if step else 1.0) * (U - before)
        if further:
            before, step, last = U.copy(), further, math.log(C)
        yield extrapolated


def _make_loss(codes: Array, weights: Array, loss: str, n_classes: int, problems: Array) -> LossFunction:
    """Return the loss of some problems, given by their numbers.

    Softmax with three or more classes has one problem per fold. Otherwise there is one per fold and row of weights.
    """
    if loss == "softmax" and n_classes > 2:
        return Softmax(codes, weights[problems])
    rows = _count_weight_rows(codes, n_classes)
    fold, row = np.divmod(problems, rows)
    positive = codes.T[row] if codes.ndim == 2 else codes == (1 if rows == 1 else row[:, np.newaxis])
    signs = np.where(positive, 1.0, -1.0)
    signs = np.broadcast_to(signs, (len(problems), len(codes)))[:, np.newaxis]
    kind = SquaredHinge if loss == "linear-svc" else Logistic
    return kind(signs, weights[fold, row % weights.shape[1]][:, np.newaxis])


def _count_weight_rows(codes: Array, n_classes: int) -> int:
    """Return the number of rows of weights: one for two classes that exclude each other, else one per class."""
    return 1 if n_classes == 2 and codes.ndim == 1 else n_classes


def check_rows(X: Array, codes: Array, n_classes: int) -> None:
    """Check that X (n, d) is finite, and that ``codes`` match X and ``n_classes``.

    ``codes`` are (n,), or for multi-label rows (n, n_classes).

    Raises
    ------
    DataError
        If X is not finite, or ``codes`` do not match.
    """
    if X.ndim != 2 or not X.size or codes.shape not in ((len(X),), (len(X), n_classes)):
        raise DataError(f"features must be (rows, columns) and classes (rows,), got shapes {X.shape} and {codes.shape}")
    if n_classes < 2 or codes.min() < 0 or codes.max() >= n_classes:
        raise DataError(f"classes must be two or more, 0 to {n_classes - 1}, got {np.unique(codes).tolist()}")
    if not np.isfinite(X).all():
        raise DataError("features to fit must be finite, got NaN or infinity; extract these rows again")


def _check_weights(weights: Array, n: int, Cs: Sequence[float]) -> Array:
    if not len(Cs) or not all(0 < C < np.inf for C in Cs):
        raise SpecError(f"Cs must be one or more finite numbers above 0, got {list(Cs)}")
    if weights.ndim not in (2, 3) or weights.shape[-1] != n:
        raise DataError(f"weights must be (folds, {n}) or (folds, rows of weights, {n}), got shape {weights.shape}")
    if not (weights >= 0).all():
        raise DataError(f"weights of rows must be 0 or more, got {weights.min()}")
    return weights.astype(np.float64, copy=False).reshape(len(weights), -1, n)
