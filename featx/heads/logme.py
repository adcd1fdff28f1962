"""Estimate by LogME how well features suit labels, without fitting a head.

You, Liu, Wang & Long (2021), "LogME: practical assessment of pre-trained models for transfer learning". LogME is the
log evidence of the labels under a Bayesian linear model of the features. Fixed-point iteration finds the precisions of
weights and noise that maximize it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.heads.solver.principal_axes import find_axes

MAX_ITER = 100
TOLERANCE = 1e-6
SMALLEST = 1e-9
"""Smallest divisor. It keeps precisions finite if the model fits the labels exactly."""


def log_maximum_evidence(X: ArrayLike, y: ArrayLike) -> float:
    """Return the maximum log evidence per row, averaged over classes. Larger means that the features suit better.

    Parameters
    ----------
    X : float array (rows, columns)
    y : array (rows,)
        Labels. Each class is a regression target of its own: 1 for its rows and 0 for the others.
    """
    values, labels = np.asarray(X, np.float64), np.asarray(y)
    targets = (labels[:, np.newaxis] == np.unique(labels)).astype(np.float64)
    spectrum, vectors, of_rows = find_axes(values)
    if of_rows:
        inside = (vectors.T @ targets) ** 2
    else:
        inside = (vectors.T @ (values.T @ targets)) ** 2 / spectrum[:, np.newaxis]
    outside = np.maximum((targets**2).sum(axis=0) - inside.sum(axis=0), 0)
    models = [_Regression(spectrum, inside[:, k], outside[k], *values.shape) for k in range(targets.shape[1])]
    return float(np.mean([model.evidence() for model in models]))


@dataclass(frozen=True)
class _Regression:
    """Bayesian linear model of one target.

    ``spectrum`` holds the eigenvalues of X X'. ``inside`` holds the squared projections of the target on the
    eigenvectors. ``outside`` is the squared norm of the rest of the target.
    """

    spectrum: NDArray[np.float64]
    inside: NDArray[np.float64]
    outside: float
    rows: int
    columns: int

    def evidence(self) -> float:
        """Return the maximum log evidence per row."""
        alpha = beta = 1.0
        for _ in range(MAX_ITER):
            weights, residual, effective = self._terms(alpha, beta)
            before = alpha / beta
            # If there are as many parameters as rows, no noise is left, and its precision would be infinite.
            freedom = max(self.rows - effective, SMALLEST)
            alpha, beta = max(effective, SMALLEST) / max(weights, SMALLEST), freedom / max(residual, SMALLEST)
            if abs(alpha / beta - before) <= TOLERANCE * before:
                break
        weights, residual, _ = self._terms(alpha, beta)
        unseen = self.columns - len(self.spectrum)
        log_determinant = np.log(alpha + beta * self.spectrum).sum() + unseen * np.log(alpha)
        constant = self.columns * np.log(alpha) + self.rows * np.log(beta / (2 * np.pi))
        return float((constant - beta * residual - alpha * weights - log_determinant) / (2 * self.rows))

    def _terms(self, alpha: float, beta: float) -> tuple[float, float, float]:
        """Return the squared norms of weights and residual, and the effective number of parameters."""
        share = beta * self.spectrum / (alpha + beta * self.spectrum)
        weights = (share**2 * self.inside / self.spectrum).sum()
        residual = ((1 - share) ** 2 * self.inside).sum() + self.outside
        return float(weights), float(residual), float(share.sum())
