"""The exact change of coordinates in which the batch is solved.

An L2 penalty does not change under rotation, so the data may be turned onto its own principal axes. That leaves no
more columns than rows (25,088 columns of 1,088 rows become 1,088), and gives the solver its preconditioner: on these
axes X'X is diagonal.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from featx.heads.solver.losses import Array

RANK_TOLERANCE = 1e-14
"""Smallest share of the largest eigenvalue that is kept: what float64 tells from nothing."""
CHUNK = 4096


@dataclass(frozen=True)
class PrincipalAxes:
    """Data on its principal axes.

    ``data`` is (n, r); ``penalty`` (r,) is 1, or 0 for an intercept, which then is the last column, all ones;
    ``spectrum`` (r,) is the squared norm of each column. ``back`` are matrices that turn weights back, one after
    the other; ``center`` (d,) was taken from every row.
    """

    data: Array
    penalty: Array
    spectrum: Array
    back: tuple[Array, ...]
    center: Array

    def astype(self, dtype: type[Any]) -> "PrincipalAxes":
        """The same in another precision, but for the way back."""
        data, penalty, spectrum = (
            values.astype(dtype, copy=False) for values in (self.data, self.penalty, self.spectrum)
        )
        return PrincipalAxes(data, penalty, spectrum, self.back, self.center)

    def restore(self, U: Array) -> tuple[Array, Array]:
        """Coefficients (…, d) and intercepts (…,) of the original columns, from weights (…, r) on the axes."""
        free = self.penalty[-1] == 0
        W = U[..., :-1] if free else U
        for matrix in self.back:
            W = W @ matrix
        return (W, U[..., -1] - W @ self.center) if free else (W[..., :-1], W[..., -1])


def rotate(X: Array, penalize_intercept: bool) -> PrincipalAxes:
    """Turn X (n, d) onto its principal axes, in its own dtype; the axes are found in float64.

    A penalized intercept is one more column of ones, turned with the rest. An unpenalized one stays a column of its
    own, and takes up the mean of X, which is subtracted.
    """
    n = len(X)
    if penalize_intercept:
        center = np.zeros(X.shape[1] + 1)
        X = np.hstack([X, np.ones((n, 1), X.dtype)])
    else:
        center = X.mean(axis=0, dtype=np.float64)
        X = X - center.astype(X.dtype)
    data, spectrum, back = turn(X)
    if penalize_intercept:
        return PrincipalAxes(data, np.ones(len(spectrum)), spectrum, back, center)
    data = np.hstack([data, np.ones((n, 1), X.dtype)])
    penalty = np.append(np.ones(len(spectrum)), 0.0)
    # As it was rounded when it was taken off.
    return PrincipalAxes(data, penalty, np.append(spectrum, n), back, center.astype(X.dtype).astype(np.float64))


def turn(X: Array) -> tuple[Array, Array, tuple[Array, ...]]:
    """X (n, d) on its principal axes (n, r) as it is, the squared norm of each column, and the way back."""
    spectrum, vectors, of_rows = principal_axes(X)
    if of_rows:
        scale = np.sqrt(spectrum)
        return (vectors * scale).astype(X.dtype), spectrum, ((vectors / scale).T, X)
    return X @ vectors.astype(X.dtype), spectrum, (vectors.T,)


def principal_axes(X: Array) -> tuple[Array, Array, bool]:
    """The nonzero eigenvalues (r,) of X'X, largest first, and eigenvectors of length 1, all in float64.

    The vectors are those of X X' (n, r) if X (n, d) has no more rows than columns, which is said, else of X'X (d, r).
    """
    of_rows = X.shape[0] <= X.shape[1]
    # Not by scipy, which keeps Python to itself meanwhile: feature sets are turned side by side.
    spectrum, vectors = np.linalg.eigh(inner_products(X if of_rows else X.T))
    kept = np.flatnonzero(spectrum > RANK_TOLERANCE * max(spectrum[-1], np.finfo(float).tiny))[::-1]
    return spectrum[kept], vectors[:, kept], of_rows


def inner_products(X: Array) -> Array:
    """X X' (n, n) in float64, added up over some columns of X (n, d) at a time."""
    products = np.zeros((len(X), len(X)))
    for start in range(0, X.shape[1], CHUNK):
        part = X[:, start : start + CHUNK].astype(np.float64)
        products += part @ part.T
    return products
