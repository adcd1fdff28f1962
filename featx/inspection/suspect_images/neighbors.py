"""Near-duplicates and outliers, from how far each image's nearest neighbors are.

What most photographs of a data set have in common says nothing about which two are one. So features are whitened on
their principal axes, as Jégou & Chum (2012), "Negative evidences and co-occurences in image retrieval: the benefit of
PCA and whitening", do to find other photographs of one object: there a re-encoded, resized or mirrored copy is far
closer than the most similar other photograph.
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
"""As many axes as rows, and whitening would put all rows equally far apart."""
NEIGHBORS = 10
MIN_ROWS = 32
ROUNDING = 1e-8
"""The variance of an axis on which rows of unit norm a block do not differ, but for rounding."""
SAME = 1e-3
"""A distance that two files of the same pixels may have, and two photographs do not: 1 - cosine, whitened."""
EXTREME = 3.5
"""The robust z of Iglewicz & Hoaglin (1993), "How to detect and handle outliers", from which on a value is no longer
taken for one of the bulk."""


@dataclass(frozen=True, eq=False)
class Neighborhood:
    """Rows on their principal axes: ``pairs`` (pairs, 2) are rows of near-duplicates with their ``cosines``, closest
    first; ``threshold`` is the least such cosine; ``remoteness`` (rows,) is the robust z of how far neighbors are."""

    pairs: NDArray[np.intp]
    cosines: NDArray[np.float64]
    threshold: float
    remoteness: NDArray[np.float64]

    @property
    def groups(self) -> NDArray[np.intp]:
        """int (rows,): equal for rows that near-duplicates join."""
        count = len(self.remoteness)
        graph = coo_array((np.ones(len(self.pairs)), tuple(self.pairs.T)), (count, count))
        joined: NDArray[np.intp] = connected_components(graph, directed=False)[1]
        return joined

    @property
    def outliers(self) -> NDArray[np.intp]:
        """The rows whose neighbors are too far, farthest first."""
        order = np.argsort(-self.remoteness, kind="stable")
        return order[self.remoteness[order] > EXTREME]


def find_neighbors(X: NDArray[np.floating]) -> Neighborhood:
    """Compare normalized features (rows, columns), at least ``MIN_ROWS`` of them, each row with its neighbors.

    The distance to the nearest neighbor, ``SAME`` ones left out, is nearly lognormal among different photographs; a
    pair is near-duplicate if its logarithm lies ``EXTREME`` robust deviations below the median. Rows are compared in
    blocks: memory grows with the rows, not with their square.
    """
    axes = min(AXES, len(X) // ROWS_PER_AXIS, X.shape[1])
    turned = PCA(axes, random_state=0)
    scores = turned.fit_transform(X)
    whitened = scores / np.sqrt(np.maximum(turned.explained_variance_, ROUNDING))
    whitened /= np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), 1)
    chord, nearest = _nearest(whitened)
    distance = chord**2 / 2
    different = np.ma.masked_less(distance, SAME).min(axis=1).compressed()
    limit = max(SAME, _lowest(np.log(different)))
    pairs, cosines = _pairs(nearest, distance, limit)
    remote = np.log(np.maximum(_nearest(scores)[0].mean(axis=1), ROUNDING))
    return Neighborhood(pairs, cosines, 1 - limit, _robust_z(remote))


def _nearest(points: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Distances and rows of each row's nearest others, (rows, neighbors) each."""
    index = NearestNeighbors(n_neighbors=NEIGHBORS, algorithm="brute").fit(points)
    distance, nearest = index.kneighbors()
    return distance.astype(np.float64), nearest


def _robust_z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the median in deviations that a few extremes do not stretch; 0 where there is no spread."""
    spread = median_abs_deviation(values, scale="normal")
    return (values - np.median(values)) / spread if spread else np.zeros_like(values)


def _lowest(logs: NDArray[np.float64]) -> float:
    """The distance below which a logarithm is no longer one of the bulk; 0 without a bulk."""
    if not len(logs):
        return 0.0
    return float(np.exp(np.median(logs) - EXTREME * median_abs_deviation(logs, scale="normal")))


def _pairs(
    nearest: NDArray[np.intp], distance: NDArray[np.float64], limit: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows nearer to each other than ``limit``, each pair once, closest first, and their cosines."""
    row, place = np.nonzero(distance < limit)
    found = np.sort(np.column_stack([row, nearest[row, place]]), axis=1)
    pairs, first = np.unique(found, axis=0, return_index=True)
    cosines = 1 - distance[row, place][first]
    order = np.argsort(-cosines, kind="stable")
    return pairs[order], cosines[order]
