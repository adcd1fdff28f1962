"""Rows as long as they are many, in place of wider ones.

A fit with an L2 penalty sees no more of its rows than their inner products. The Cholesky factor of those has rows with
the same ones, and is a lower triangle: of 1,088 rows of 25,088 columns it keeps 544 numbers a row.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from featx.heads.solver.losses import Array
from featx.heads.solver.principal_axes import CHUNK, inner_products

RIDGE = 1e-11
"""Share of the longest row's square that is added to each row's, so that rows that repeat have a triangle too."""


@dataclass(frozen=True)
class CholeskyFactor:
    """Rows X (n, d), more columns than rows, and ``rows`` (n, n + 1) in float64 that are zero above the diagonal.

    The last column, all zeros, leaves more columns than rows, by which LinearSVC chooses how it solves.
    """

    rows: Array
    X: Array

    def restore(self, U: Array) -> Array:
        """Coefficients (k, d) of the original columns, in float64, from those (k, n + 1) of the triangle's."""
        triangle, targets = self.rows[:, :-1], U[:, :-1].T.astype(np.float64)
        shares = linalg.solve_triangular(triangle, targets, trans="T", lower=True, check_finite=False).T
        parts = (self.X[:, start : start + CHUNK] for start in range(0, self.X.shape[1], CHUNK))
        return np.hstack([shares @ part.astype(np.float64) for part in parts])


def cholesky_factor(X: Array) -> CholeskyFactor:
    """The triangle of X (n, d): what each row adds to those before it is a column of its own."""
    rows = np.zeros((len(X), len(X) + 1))
    rows[:, :-1] = _factor(inner_products(X))
    return CholeskyFactor(rows, X)


def _factor(products: Array) -> Array:
    """The lower triangle whose rows have these inner products (n, n), which it overwrites."""
    products.flat[:: len(products) + 1] += RIDGE * products.diagonal().max() or 1.0
    return np.asarray(linalg.cholesky(products, lower=True, overwrite_a=True, check_finite=False))
