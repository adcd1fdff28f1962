"""Find near-duplicates: images of one photograph, one scene or one object, such as the frames of a burst.

Most images of a data set have features in common. Such features do not show whether two images are near-duplicates. So
the features are whitened: directions with a large variance over all images count less. The whitening is regularized
like a ridge regression. Without this, directions with a small variance, which hold noise, would count as much as the
others. After the whitening, the cosine of two different photographs is near 0, even within a class, and the cosine of
near-duplicates is near 1. Brightness is a direction with a large variance, so other exposures of an image are found
too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, cholesky, eigh, solve_triangular
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import beta

from featx.heads.pipeline.normalizer import BlockNormalizer

MIN_COSINE = 0.35
"""Smallest cosine of near-duplicates, measured on photographs of flowers and on tiles under several exposures (see
docs/benchmarks)."""
FEW_ROWS = 1000
RISE = 0.15
"""``MIN_COSINE`` is for ``FEW_ROWS`` rows and more. For each factor of ten fewer, it is higher by ``RISE``. From few
rows, fewer directions in which images vary are known, so different images of one class have higher cosines."""
CLOSENESS = 0.7
"""Largest distance (1 - cosine) of near-duplicates, as a share of the distance to the neighbor ``RANK``. This limit has
an effect in data sets where many different images look alike."""
SAME = 1e-3
"""Distance (1 - cosine) of images that are always near-duplicates."""
RANK = 20
"""Number of the neighbor whose distance counts as typical. If more images than this show one scene, their distances
count as typical."""
CHANCE = 1e-3
"""Expected number of pairs whose cosine exceeds the threshold by chance, if all directions are random."""
AXES = 128
ROWS_PER_AXIS = 8
"""The ridge of the whitening is the variance along axis number ``AXES``, or along an earlier axis if there are few
rows."""
MIN_ROWS = 24
"""Smallest number of images in which near-duplicates can be recognized."""
MAX_ROWS = 50_000
"""If there are more rows, only a sample of them is compared with all rows, so that the time grows in proportion to the
number of rows, and not to its square."""
NEIGHBORS = 10
"""Largest number of near-duplicates that are listed for each row."""
_SAMPLE = 10_000
"""Largest number of rows from which the whitening is computed."""
_MAX_COLUMNS = 4096
"""Largest number of columns that are used. The cost of the whitening grows with the cube of this number."""
_BLOCK_VALUES = 1 << 24
"""Largest number of cosines in memory."""
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Near-duplicates among rows of features.

    Parameters
    ----------
    groups : int array (rows,)
        Near-duplicates, and rows that are connected by a chain of near-duplicates, have equal numbers.
    pairs : int array (pairs, 2)
        Near-duplicates, closest first: at most ``NEIGHBORS`` for each row.
    cosines : float array (pairs,)
        Cosines of their whitened features.
    min_cosine : float
        Smallest cosine of near-duplicates.
    checked : int array (checked,)
        The rows that were compared with all rows: all of them, or a sample.
    """

    groups: NDArray[np.intp]
    pairs: NDArray[np.intp]
    cosines: NDArray[np.float64]
    min_cosine: float
    checked: NDArray[np.intp]

    def divided_by(self, parts: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the checked rows with near-duplicates in another part. ``parts`` (rows,) are part numbers from -1."""
        pairs = np.unique(np.column_stack([self.groups, parts]), axis=0)
        several = np.bincount(pairs[:, 0]) > 1
        return self.checked[several[self.groups[self.checked]]]


def find_near_duplicates(
    X: NDArray[np.floating], widths: Sequence[int] | None = None, *, sample: bool = False, seed: int = 0
) -> NearDuplicates:
    """Find near-duplicates among the rows of X.

    Two rows are near-duplicates under three conditions. The cosine of their whitened features is at least
    ``MIN_COSINE``. It is higher than chance explains. The rows are clearly closer to each other than to their neighbor
    number ``RANK``. Rows are compared in blocks, so the memory grows in proportion to the number of rows, and the time
    to its square.

    Parameters
    ----------
    X : float array (rows, columns)
        Features.
    widths : sequence of int, optional
        Number of columns of each feature layer. `BlockNormalizer` then normalizes X. By default, X must be normalized
        already.
    sample : bool
        If there are more than ``MAX_ROWS`` rows, compare only a sample of rows with all rows. Then ``groups`` connects
        only near-duplicates of the sample.
    seed : int
        Seed of the sample.

    Returns
    -------
    NearDuplicates
        If there are fewer than ``MIN_ROWS`` rows, it has no pairs.
    """
    count = len(X)
    checked = np.arange(count)
    if count < MIN_ROWS:
        nothing = np.zeros((0, 2), np.intp)
        return NearDuplicates(checked, nothing, np.zeros(0), 1.0, checked)
    if sample and count > MAX_ROWS:
        chosen = np.random.default_rng(seed).permutation(count)[: max(1, MAX_ROWS**2 // count)]
        checked = np.sort(chosen)
    whitened = _Whitened(X, widths, seed)
    nearest, spread = _measure(whitened, checked)
    smallest = MIN_COSINE + RISE * max(0.0, np.log10(FEW_ROWS / count))
    limits = np.maximum(max(smallest, _chance(spread, count)), 1 - CLOSENESS * (1 - nearest))
    return _link(whitened, checked, np.minimum(limits, 1 - SAME))


class _Whitened:
    """Rows with whitened features. Their cosines are computed block by block.

    With ridge r, centered rows F and covariance C, the inner products of the whitened rows are F (C + r)⁻¹ Fᵀ.

    Parameters
    ----------
    X : float array (rows, columns)
    widths : sequence of int or None
        As in `find_near_duplicates`.
    seed : int
        Seed of the sample of rows and columns for the whitening, if there are very many.
    """

    def __init__(self, X: NDArray[np.floating], widths: Sequence[int] | None, seed: int) -> None:
        generator = np.random.default_rng(seed)
        count, width = X.shape
        self._X, self._normalizer = X, BlockNormalizer(tuple(widths)) if widths else None
        self._columns = np.sort(generator.permutation(width)[:_MAX_COLUMNS])
        rows = np.sort(generator.permutation(count)[:_SAMPLE])
        values = self._normalize(rows)
        self._mean = values.mean(axis=0)
        values -= self._mean
        self._matrix: NDArray[np.float32] | None = None
        if count <= values.shape[1]:
            self._matrix = _cosines_of_few(values)
            return
        covariance = values.T @ values / np.float32(len(values))
        regular = covariance.astype(np.float64)
        regular[np.diag_indices(len(regular))] += _ridge(covariance, len(values))
        self._factor = cholesky(regular, lower=True).astype(np.float32)

    def __len__(self) -> int:
        return len(self._X)

    def _normalize(self, rows: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        values = self._X[rows]
        if self._normalizer:
            values = self._normalizer.fit_transform(values)
        return np.asarray(values if values.shape[1] == len(self._columns) else values[:, self._columns], np.float32)

    def _whiten(self, rows: NDArray[np.intp] | slice) -> NDArray[np.float32]:
        """Return some rows, whitened and with unit norm."""
        values = self._normalize(rows) - self._mean
        whitened = solve_triangular(self._factor, values.T, lower=True, check_finite=False).T
        return np.asarray(whitened / np.maximum(np.linalg.norm(whitened, axis=1, keepdims=True), _TINY), np.float32)

    def cosines(self, checked: NDArray[np.intp]) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
        """Yield blocks of the checked rows, and their cosines with all rows (block, rows); -1 for the row itself."""
        step = max(1, _BLOCK_VALUES // len(self))
        whole = self._whiten(slice(None)) if self._matrix is None and len(self) <= MAX_ROWS else None
        for start in range(0, len(checked), step):
            block = checked[start : start + step]
            if self._matrix is not None:
                found = self._matrix[block]
            elif whole is not None:
                found = whole[block] @ whole.T
            else:
                mine = self._whiten(block)
                parts = (self._whiten(slice(first, first + step)) for first in range(0, len(self), step))
                found = np.concatenate([mine @ part.T for part in parts], axis=1)
            found[np.arange(len(block)), block] = -1
            yield block, found


def _cosines_of_few(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosines of all pairs of centered rows (rows, columns), if there are more columns than rows.

    Here F (C + r)⁻¹ Fᵀ is computed from the inner products G of the rows, as n (1 - r (G / n + r)⁻¹).
    """
    gram = values @ values.T / np.float32(len(values))
    ridge = _ridge(gram, len(values))
    regular = gram.astype(np.float64)
    regular[np.diag_indices(len(regular))] += ridge
    products = np.eye(len(values)) - ridge * cho_solve(cho_factor(regular, lower=True), np.eye(len(values)))
    norms = np.sqrt(np.maximum(np.diag(products), _TINY))
    return np.asarray(products / norms[:, np.newaxis] / norms, np.float32)


def _ridge(products: NDArray[np.float32], rows: int) -> float:
    """Return the variance along axis number ``AXES``.

    ``products`` is a covariance, or the inner products of rows divided by the number of rows.
    """
    size = len(products)
    axis = max(1, min(AXES, rows // ROWS_PER_AXIS, size))
    (variance,) = eigh(products, eigvals_only=True, subset_by_index=[size - axis, size - axis])
    # If all rows are equal, the variances are only rounding errors.
    return max(float(variance), 1e-6 * float(np.trace(products)), _TINY)


def _measure(whitened: _Whitened, checked: NDArray[np.intp]) -> tuple[NDArray[np.float32], float]:
    """Return the cosine of each checked row with its neighbor ``RANK``, and the mean square of negative cosines.

    Only negative cosines are used, because near-duplicates have positive cosines and change the negative ones little.
    """
    rank = min(RANK, len(whitened) // 4)
    nearest, total, count = [], 0.0, 0
    for block, found in whitened.cosines(checked):
        found[np.arange(len(block)), block] = 0
        negative = np.minimum(found, 0)
        total += float(np.einsum("ij,ij->", negative, negative, dtype=np.float64))
        count += int(np.count_nonzero(negative))
        found[np.arange(len(block)), block] = -1
        nearest.append(np.partition(found, -rank, axis=1)[:, -rank])
    return np.concatenate(nearest), total / max(count, 1)


def _chance(spread: float, count: int) -> float:
    """Return the cosine that ``CHANCE`` pairs of ``count`` random directions are expected to exceed.

    ``spread`` is the mean square of the cosines. Its inverse is the number of dimensions.
    """
    dimensions = 1 / max(spread, 1e-9)
    share = 2 * CHANCE / (count * (count - 1) / 2)
    return float(np.sqrt(beta.ppf(1 - share, 0.5, max((dimensions - 1) / 2, 0.5))))


def _link(whitened: _Whitened, checked: NDArray[np.intp], limits: NDArray[np.floating]) -> NearDuplicates:
    """Connect two rows if their cosine exceeds the limit of each row. A row that is not checked has no limit."""
    count = len(whitened)
    limit = np.full(count, -1, np.float32)
    limit[checked] = limits
    groups = np.arange(count)
    pairs, cosines = [], []
    for block, found in whitened.cosines(checked):
        row, other = np.nonzero(found >= np.maximum(limit[block][:, np.newaxis], limit))
        groups = _connect(groups, block[row], other)
        # The nearest rows of each row, sorted by row and then by cosine.
        value = found[row, other]
        order = np.lexsort((-value, row))
        first = np.searchsorted(row[order], np.arange(len(block)))
        listed = order[np.arange(len(order)) - first[row[order]] < NEIGHBORS]
        pairs.append(np.sort(np.column_stack([block[row[listed]], other[listed]]), axis=1))
        cosines.append(value[listed])
    unique, position = np.unique(np.concatenate(pairs), axis=0, return_index=True)
    values = np.minimum(np.concatenate(cosines)[position].astype(np.float64), 1)
    order = np.argsort(-values, kind="stable")
    return NearDuplicates(groups, unique[order].astype(np.intp), values[order], float(limits.min()), checked)


def _connect(groups: NDArray[np.intp], first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.intp]:
    """Join the groups of the rows ``first`` with the groups of the rows ``second``, and return all groups (rows,)."""
    count = len(groups)
    graph = coo_array((np.ones(len(first), bool), (groups[first], groups[second])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1][groups], np.intp)
