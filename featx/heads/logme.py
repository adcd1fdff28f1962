"""LogME: how well features suit labels, without fitting a head.

You, Liu, Wang & Long (2021), "LogME: practical assessment of pre-trained models for transfer learning": the largest
log evidence of the labels under a Bayesian linear model of the features, over its precisions, found by fixed point.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.heads.solver.principal_axes import principal_axes

MAX_ITER = 100
TOLERANCE = 1e-6
FREEDOM = 1e-9


def log_maximum_evidence(X: ArrayLike, y: ArrayLike) -> float:
    """The mean over classes of the maximum log evidence a row; the larger, the better the features suit.

    Parameters
    ----------
    X : float array (rows, columns)
    y : array (rows,)
        Labels; each class is regressed on by itself, 1 against 0 for the rest.
    """
    values, labels = np.asarray(X, np.float64), np.asarray(y)
    targets = (labels[:, np.newaxis] == np.unique(labels)).astype(np.float64)
    spectrum, vectors, of_rows = principal_axes(values)
    if of_rows:
        inside = (vectors.T @ targets) ** 2
    else:
        inside = (vectors.T @ (values.T @ targets)) ** 2 / spectrum[:, np.newaxis]
    outside = np.maximum((targets**2).sum(axis=0) - inside.sum(axis=0), 0)
    models = [_Model(spectrum, inside[:, k], outside[k], *values.shape) for k in range(targets.shape[1])]
    return float(np.mean([model.evidence() for model in models]))


@dataclass(frozen=True)
class _Model:
    """One target: the spectrum of X X', the target's squared projections on its axes, and what lies outside them."""

    spectrum: NDArray[np.float64]
    inside: NDArray[np.float64]
    outside: float
    rows: int
    columns: int

    def evidence(self) -> float:
        """The maximum log evidence, divided by the rows."""
        alpha = beta = 1.0
        for _ in range(MAX_ITER):
            weights, residual, effective = self._terms(alpha, beta)
            before = alpha / beta
            # As many parameters as rows leave no noise, and its precision without a bound.
            freedom = max(self.rows - effective, FREEDOM)
            alpha, beta = max(effective, FREEDOM) / max(weights, FREEDOM), freedom / max(residual, FREEDOM)
            if abs(alpha / beta - before) <= TOLERANCE * before:
                break
        weights, residual, _ = self._terms(alpha, beta)
        unseen = self.columns - len(self.spectrum)
        log_determinant = np.log(alpha + beta * self.spectrum).sum() + unseen * np.log(alpha)
        constant = self.columns * np.log(alpha) + self.rows * np.log(beta / (2 * np.pi))
        return float((constant - beta * residual - alpha * weights - log_determinant) / (2 * self.rows))

    def _terms(self, alpha: float, beta: float) -> tuple[float, float, float]:
        """Squared norms of the weights and of the residual, and the effective number of parameters."""
        share = beta * self.spectrum / (alpha + beta * self.spectrum)
        weights = (share**2 * self.inside / self.spectrum).sum()
        residual = ((1 - share) ** 2 * self.inside).sum() + self.outside
        return float(weights), float(residual), float(share.sum())
