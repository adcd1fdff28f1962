"""Rows on their principal axes, the coordinates in which a batch is solved.

An L2 penalty does not change under rotation, so the rows can be expressed on their own principal axes without changing
the problem. There are at most as many axes as rows: if there are 1,088 rows, 25,088 columns become 1,088. X'X
is diagonal on these axes, which gives the solver a preconditioner.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.heads.solver.loss_functions import Array

RANK_TOLERANCE = 1e-14
"""Smallest eigenvalue that is kept, relative to the largest. Smaller ones are rounding errors in float64."""
CHUNK = 4096
"""Number of columns that are converted to float64 at a time."""


@dataclass(frozen=True)
class PrincipalAxes:
    """Rows on their principal axes.

    Parameters
    ----------
    data : array (n, r)
        The rows, with one column per axis. If the intercept is not penalized, the last column is ones.
    penalty : array (r,)
        Penalty of each weight: 1, or 0 for an intercept that is not penalized.
    spectrum : array (r,)
        Squared norm of each column.
    inverse : tuple of arrays
        Matrices that convert weights on the axes to weights on the columns, to apply in this order.
    center : array (d,)
        What was subtracted from each row.
    """

    data: Array
    penalty: Array
    spectrum: Array
    inverse: tuple[Array, ...]
    center: Array

    def astype(self, dtype: type[Any]) -> "PrincipalAxes":
        """Return the rows in another precision; ``inverse`` and ``center`` keep theirs."""
        data, penalty, spectrum = (
            values.astype(dtype, copy=False) for values in (self.data, self.penalty, self.spectrum)
        )
        return PrincipalAxes(data, penalty, spectrum, self.inverse, self.center)

    def restore(self, U: Array) -> tuple[Array, Array]:
        """Return coefficients (…, d) and intercepts (…,) of the original columns from weights (…, r) on the axes."""
        free = self.penalty[-1] == 0
        W = U[..., :-1] if free else U
        for matrix in self.inverse:
            W = W @ matrix
        return (W, U[..., -1] - W @ self.center) if free else (W[..., :-1], W[..., -1])


def make_principal_axes(X: Array, penalize_intercept: bool) -> PrincipalAxes:
    """Express X (n, d) on its principal axes, in its own dtype; the axes are computed in float64.

    A penalized intercept is a column of ones that is part of X. An intercept that is not penalized stays a separate
    column, and the mean of X is subtracted.
    """
    n = len(X)
    if penalize_intercept:
        center = np.zeros(X.shape[1] + 1)
        X = np.hstack([X, np.ones((n, 1), X.dtype)])
    else:
        center = X.mean(axis=0, dtype=np.float64)
        X = X - center.astype(X.dtype)
    data, spectrum, inverse = _project(X)
    if penalize_intercept:
        return PrincipalAxes(data, np.ones(len(spectrum)), spectrum, inverse, center)
    data = np.hstack([data, np.ones((n, 1), X.dtype)])
    penalty = np.append(np.ones(len(spectrum)), 0.0)
    # Store the center as it was subtracted, rounded to the dtype of X.
    return PrincipalAxes(data, penalty, np.append(spectrum, n), inverse, center.astype(X.dtype).astype(np.float64))


def _project(X: Array) -> tuple[Array, Array, tuple[Array, ...]]:
    """Return X (n, d) on its principal axes (n, r), the squared norm of each column, and the inverse matrices."""
    spectrum, vectors, of_rows = find_axes(X)
    if of_rows:
        scale = np.sqrt(spectrum)
        return (vectors * scale).astype(X.dtype), spectrum, ((vectors / scale).T, X)
    return X @ vectors.astype(X.dtype), spectrum, (vectors.T,)


def find_axes(X: Array) -> tuple[Array, Array, bool]:
    """Return the eigenvalues and eigenvectors of X'X, or of X X' if that is smaller.

    Parameters
    ----------
    X : float array (n, d)

    Returns
    -------
    spectrum : float64 array (r,)
        Eigenvalues above 0, largest first.
    vectors : float64 array (d, r) or (n, r)
        Eigenvectors of length 1.
    of_rows : bool
        True if the vectors are those of X X' (n, r). This is the case if X has no more rows than columns.
    """
    of_rows = X.shape[0] <= X.shape[1]
    # Use numpy, because scipy holds the interpreter lock, and feature sets are prepared on several threads.
    spectrum, vectors = np.linalg.eigh(inner_products(X if of_rows else X.T))
    kept = np.flatnonzero(spectrum > RANK_TOLERANCE * max(spectrum[-1], np.finfo(float).tiny))[::-1]
    return spectrum[kept], vectors[:, kept], of_rows


def inner_products(X: Array) -> Array:
    """Return X X' (n, n) in float64, added up over chunks of the columns of X (n, d)."""
    products = np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], CHUNK):
        part = X[:, start : start + CHUNK].astype(np.float64)
        products += part @ part.T
    return products
