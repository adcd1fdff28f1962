"""All folds, all C and all classes of one head, solved and certified."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from featx.errors import DataError, SpecError
from featx.heads.solver.certified import make_solver
from featx.heads.solver.losses import Array, Logistic, Loss, Softmax, SquaredHinge, dot
from featx.heads.solver.principal_axes import PrincipalAxes, rotate

LOSSES = ("linear-svc", "softmax", "ovr-logistic")
TOLERANCE = 1e-6
MAX_ITER = 100
CELLS = 1 << 24
"""Most decisions (problems × classes × rows) in one batch: 64 MB in float32, of which some ten are held at once."""


@dataclass(frozen=True)
class Fits:
    """All folds and classes at one C. The number of problems q a fold is 1 for softmax, else one a row of weights.

    ``weights`` (folds, rows of weights, r) are on the axes of `Rotated`; ``decisions`` (folds, rows of weights, n)
    cover all n rows of data, held out ones too; ``objective``, ``gradient_norm``, ``gap`` and ``iterations`` are
    (folds, q), the first three in float64.
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
    """What `fit_batch` found, with the folds as first axis and Cs, in the order given, as second.

    ``coefs`` (folds, Cs, rows of weights, d), ``intercepts`` (folds, Cs, rows of weights); ``objective``,
    ``gradient_norm``, ``gap`` (at most how far the objective is above its minimum), ``iterations`` and ``converged``
    (folds, Cs, problems).
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
    """Minimize sklearn's own objective for every fold, every C and every class of one head, as one batch.

    ``softmax`` is LogisticRegression (one binary problem for two classes), ``ovr-logistic`` one LogisticRegression a
    class, both with a free intercept; ``linear-svc`` is LinearSVC: squared hinge, its intercept penalized like a
    weight. Two classes give one row of weights. The modules say by what methods: `rotation`, `newton`, `pivoting`,
    `certified`.

    Parameters
    ----------
    X : float array (n, d)
        Features of all rows, shared by all problems.
    codes : int array (n,), or bool array (n, n_classes)
        Class of each row, 0 to n_classes - 1; or which classes each row has, for the two losses that solve one
        problem a class, which then have a row of weights a class, for two classes too.
    weights : float array (folds, n) or (folds, rows of weights, n)
        What each row counts in each fold, 0 for rows held out; the latter where it depends on the class
        (see `row_weights`).
    Cs : sequence of float
    loss : str
        One of ``LOSSES``.
    n_classes : int
    tol : float
        Largest duality gap (half the squared norm of the gradient) as a share of the objective.
    max_iter : int
        Most Newton steps a problem and precision.

    Raises
    ------
    SpecError
        If loss or a C is out of range, or softmax meets rows of several classes.
    DataError
        If shapes do not fit, X is not finite, or a weight is below 0.
    """
    check_rows(X, codes, n_classes)
    order = np.argsort(Cs)
    rotated = rotate(X, penalizes_intercept(loss))
    fits = list(fit_path(rotated, codes, weights, [Cs[i] for i in order], loss, n_classes, tol=tol, max_iter=max_iter))
    back = np.argsort(order)
    coefs, intercepts = rotated.restore(np.stack([fit.weights for fit in fits], axis=1)[:, back])
    objective, gradient_norm, gap, iterations = (
        np.stack([getattr(fit, name) for fit in fits], axis=1)[:, back]
        for name in ("objective", "gradient_norm", "gap", "iterations")
    )
    return BatchFit(coefs, intercepts, objective, gradient_norm, gap, iterations, gap <= tol * objective)


def penalizes_intercept(loss: str) -> bool:
    """Whether sklearn's estimator shrinks its intercept with the weights; `rotate` needs to know."""
    if loss not in LOSSES:
        raise SpecError(f"loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    return loss == "linear-svc"


def fit_path(
    rotated: PrincipalAxes,
    codes: Array,
    weights: Array,
    Cs: Sequence[float],
    loss: str,
    n_classes: int,
    *,
    tol: float = TOLERANCE,
    max_iter: int = MAX_ITER,
) -> Iterator[Fits]:
    """The fits at one C after the other, each started from those before; as in `fit_batch`, on rotated data."""
    weights = _check_weights(weights, len(codes), Cs)
    solver = make_solver(rotated, loss, tol, max_iter)
    if codes.ndim == 2 and loss == "softmax":
        raise SpecError("softmax takes rows of one class each, got rows of several; take linear-svc or ovr-logistic")
    folds, rows = len(weights), _count_rows(codes, n_classes)
    joint = loss == "softmax" and n_classes > 2
    U = np.zeros((folds, rows, len(rotated.penalty)) if joint else (folds * rows, 1, len(rotated.penalty)))
    size = max(1, CELLS // (U.shape[1] * len(codes)))
    for C, ahead in zip(Cs, _look_ahead(U, Cs), strict=True):
        parts = []
        for start in range(0, len(U), size):
            chunk = np.arange(start, min(start + size, len(U)))
            state, iterations = solver.solve(
                _make_loss(codes, C * weights, loss, n_classes, chunk), U[chunk], ahead[chunk]
            )
            U[chunk] = state.U
            norms = np.sqrt(dot(state.gradient, state.gradient))
            parts.append((state.Z, state.objective, norms, state.gaps(), iterations))
        decisions, *rest = (np.concatenate(values) for values in zip(*parts, strict=True))
        shaped = (values.reshape(folds, -1) for values in rest)
        yield Fits(C, U.reshape(folds, rows, -1).copy(), decisions.reshape(folds, rows, -1), *shaped)


def _look_ahead(U: Array, Cs: Sequence[float]) -> Iterator[Array]:
    """Where U, that each C's minima are written to, may be at the next: straight on by the logarithm of C."""
    before, step, last = U.copy(), 0.0, math.log(Cs[0])
    for C in Cs:
        further = math.log(C) - last
        ahead = U + (further / step if step else 1.0) * (U - before)
        if further:
            before, step, last = U.copy(), further, math.log(C)
        yield ahead


def _make_loss(codes: Array, weights: Array, loss: str, n_classes: int, problems: Array) -> Loss:
    """The loss of some problems: folds for softmax, else folds × rows of weights in row-major order."""
    if loss == "softmax" and n_classes > 2:
        return Softmax(codes, weights[problems])
    rows = _count_rows(codes, n_classes)
    fold, row = np.divmod(problems, rows)
    positive = codes.T[row] if codes.ndim == 2 else codes == (1 if rows == 1 else row[:, np.newaxis])
    signs = np.where(positive, 1.0, -1.0)
    signs = np.broadcast_to(signs, (len(problems), len(codes)))[:, np.newaxis]
    kind = SquaredHinge if loss == "linear-svc" else Logistic
    return kind(signs, weights[fold, row % weights.shape[1]][:, np.newaxis])


def _count_rows(codes: Array, n_classes: int) -> int:
    """Rows of weights: one does for two classes that exclude each other."""
    return 1 if n_classes == 2 and codes.ndim == 1 else n_classes


def check_rows(X: Array, codes: Array, n_classes: int) -> None:
    """Raise ``DataError`` unless X (n, d) is finite and ``codes``, (n,) or (n, classes), suit ``n_classes`` classes."""
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
