"""Score how far each image is from its nearest neighbors, to find images that differ from all others."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import median_abs_deviation
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

AXES = 128
ROWS_PER_AXIS = 8
"""Number of rows per principal axis. With more axes, all rows would have about the same distances."""
NEIGHBORS = 10
ROUNDING = 1e-8
"""Smallest distance. Below it, rows of unit norm per block differ only by rounding."""
EXTREME = 3.5
"""A value with a larger robust z-score is an outlier (Iglewicz & Hoaglin 1993, "How to detect and handle outliers")."""


def score_outliers(X: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the robust z-score (rows,) of the logarithm of each row's mean distance to its nearest neighbors.

    Rows are compared in blocks, so the memory grows in proportion to the number of rows, and not to its square.

    Parameters
    ----------
    X : float array (rows, columns)
        Normalized features of more than ``NEIGHBORS`` rows.
    """
    axes = min(AXES, len(X) // ROWS_PER_AXIS, X.shape[1])
    scores = PCA(axes, random_state=0).fit_transform(X)
    distance, _ = NearestNeighbors(n_neighbors=NEIGHBORS, algorithm="brute").fit(scores).kneighbors()
    return _robust_z(np.log(np.maximum(distance.astype(np.float64).mean(axis=1), ROUNDING)))


def list_outliers(z_scores: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the rows whose z-score is above ``EXTREME``, most distant first."""
    order = np.argsort(-z_scores, kind="stable")
    return order[z_scores[order] > EXTREME]


def _robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute z-scores from the median and the median absolute deviation. They are 0 if all values are equal."""
    deviation = median_abs_deviation(values, scale="normal")
    return (values - np.median(values)) / deviation if deviation else np.zeros_like(values)
