"""Find near-duplicates and outliers by the distances of images to their nearest neighbors.

Most images of a data set have something in common. It does not tell whether two of them show the same photograph. So
features are whitened on their principal axes, as in Jégou & Chum (2012), "Negative evidences and co-occurences in image
retrieval: the benefit of PCA and whitening". Then a re-encoded, resized or mirrored copy is much closer than any other
photograph.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import median_abs_deviation
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

AXES = 128
ROWS_PER_AXIS = 8
"""Rows per principal axis: with as many axes as rows, all whitened rows would be equally distant."""
NEIGHBORS = 10
MIN_ROWS = 32
ROUNDING = 1e-8
"""Smallest variance of an axis; below it the rows, of unit norm per block, differ only by rounding."""
SAME = 1e-3
"""Whitened distance, 1 - cosine, below which two files have the same pixels up to rounding."""
EXTREME = 3.5
"""Robust z-score from which a value is an outlier (Iglewicz & Hoaglin 1993, "How to detect and handle outliers")."""


@dataclass(frozen=True, eq=False)
class NeighborFindings:
    """Near-duplicates and outliers, as row numbers.

    Parameters
    ----------
    pairs : int array (pairs, 2)
        Rows of near-duplicates, closest first.
    cosines : float array (pairs,)
        Cosines of their whitened features.
    min_cosine : float
        Smallest cosine of near-duplicates.
    z_scores : float array (rows,)
        Robust z-score of each row's distance to its neighbors.
    """

    pairs: NDArray[np.intp]
    cosines: NDArray[np.float64]
    min_cosine: float
    z_scores: NDArray[np.float64]

    @property
    def groups(self) -> NDArray[np.intp]:
        """Group numbers, int (rows,). Rows that near-duplicates connect have equal numbers."""
        count = len(self.z_scores)
        graph = coo_array((np.ones(len(self.pairs)), tuple(self.pairs.T)), (count, count))
        groups: NDArray[np.intp] = connected_components(graph, directed=False)[1]
        return groups

    @property
    def outliers(self) -> NDArray[np.intp]:
        """The rows that are outliers because they are far from their neighbors, most distant first."""
        order = np.argsort(-self.z_scores, kind="stable")
        return order[self.z_scores[order] > EXTREME]


def find_neighbors(X: NDArray[np.floating]) -> NeighborFindings:
    """Find near-duplicates and outliers among the rows of normalized features.

    Among different photographs, the distance to the nearest neighbor is nearly lognormal. Distances below ``SAME`` are
    left out. Two rows are near-duplicates if the logarithm of their distance is ``EXTREME`` robust deviations below the
    median. Rows are compared in blocks, so memory grows with the rows and not with their square.

    Parameters
    ----------
    X : float array (rows, columns)
        At least ``MIN_ROWS`` rows.
    """
    axes = min(AXES, len(X) // ROWS_PER_AXIS, X.shape[1])
    pca = PCA(axes, random_state=0)
    scores = pca.fit_transform(X)
    whitened = scores / np.sqrt(np.maximum(pca.explained_variance_, ROUNDING))
    whitened /= np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1)
    chord, nearest = _nearest(whitened)
    distance = chord**2 / 2
    different = np.ma.masked_less(distance, SAME).min(axis=1).compressed()
    limit = max(SAME, _lower_limit(np.log(different)))
    pairs, cosines = _pairs_below(nearest, distance, limit)
    remoteness = np.log(np.maximum(_nearest(scores)[0].mean(axis=1), ROUNDING))
    return NeighborFindings(pairs, cosines, 1 - limit, _robust_z(remoteness))


def _nearest(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Find the nearest other rows of each row: distances and row numbers, (rows, neighbors) each."""
    index = NearestNeighbors(n_neighbors=NEIGHBORS, algorithm="brute").fit(points)
    distance, nearest = index.kneighbors()
    return distance.astype(np.float64), nearest


def _robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute z-scores from the median and the median absolute deviation. They are 0 if all values are equal."""
    deviation = median_abs_deviation(values, scale="normal")
    return (values - np.median(values)) / deviation if deviation else np.zeros_like(values)


def _lower_limit(logs: NDArray[np.float64]) -> float:
    """Return the distance below which a distance is an outlier, from log distances; 0 if there are no distances."""
    if not len(logs):
        return 0.0
    return float(np.exp(np.median(logs) - EXTREME * median_abs_deviation(logs, scale="normal")))


def _pairs_below(
    nearest: NDArray[np.intp], distance: NDArray[np.float64], limit: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """List each pair of rows that are closer than ``limit`` once, closest first. Also return their cosines."""
    row, position = np.nonzero(distance < limit)
    found = np.sort(np.column_stack([row, nearest[row, position]]), axis=1)
    pairs, first = np.unique(found, axis=0, return_index=True)
    cosines = 1 - distance[row, position][first]
    order = np.argsort(-cosines, kind="stable")
    return pairs[order], cosines[order]
