"""Replace wide rows by a square Cholesky factor with the same inner products.

A fit with an L2 penalty depends only on the inner products of its rows. The Cholesky factor of the matrix of
inner products has rows with the same inner products and only as many columns as there are rows.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from featx.heads.solver.loss_functions import Array
from featx.heads.solver.principal_axes import CHUNK, inner_products

RIDGE = 1e-11
"""This fraction of the largest squared norm is added to the squared norm of each row. Otherwise repeated rows would
have no factor."""


@dataclass(frozen=True)
class CholeskyFactor:
    """Cholesky factor of the inner products of rows.

    Parameters
    ----------
    rows : float64 array (n, n + 1)
        A lower triangle, and a last column of zeros. Because of this column, there are more columns than rows,
        so LinearSVC solves the dual, as it does for X.
    X : float array (n, d)
        The original rows, with more columns than rows.
    """

    rows: Array
    X: Array

    def restore(self, U: Array) -> Array:
        """Convert coefficients (k, n + 1) of the factor to coefficients (k, d) of the original columns, in float64."""
        triangle, targets = self.rows[:, :-1], U[:, :-1].T.astype(np.float64)
        shares = linalg.solve_triangular(triangle, targets, trans="T", lower=True, check_finite=False).T
        parts = (self.X[:, start : start + CHUNK] for start in range(0, self.X.shape[1], CHUNK))
        return np.hstack([shares @ part.astype(np.float64) for part in parts])


def make_cholesky_factor(X: Array) -> CholeskyFactor:
    """Return the Cholesky factor of the inner products of X (n, d)."""
    rows = np.zeros((len(X), len(X) + 1))
    rows[:, :-1] = _factorize(inner_products(X))
    return CholeskyFactor(rows, X)


def _factorize(products: Array) -> Array:
    """Return the lower triangle whose rows have these inner products (n, n); ``products`` is overwritten."""
    products.flat[:: len(products) + 1] += RIDGE * products.diagonal().max() or 1.0
    return np.asarray(linalg.cholesky(products, lower=True, overwrite_a=True, check_finite=False))
