"""Find near-duplicates: images of one photograph, one scene or one object, such as the frames of a burst.

Most images of a data set have something in common, which says nothing about whether two of them are near-duplicates.
So the features are whitened: directions in which all images vary much count less. The whitening is regularized, like a
ridge regression, because otherwise the weakest directions, which hold noise, would count as much as the others. Then
the cosine of two different photographs is near 0, also within a class, and that of near-duplicates is near 1.
Brightness is one of the directions in which images vary much, so other exposures of an image are found too.
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

MIN_COSINE = 0.4
"""Smallest cosine of near-duplicates, measured on photographs of flowers and on tiles under several exposures (see
docs/benchmarks)."""
CLOSENESS = 2 / 3
"""Largest distance (1 - cosine) of near-duplicates, as a share of the distance to the neighbor ``RANK``. It matters
where many different images look alike."""
SAME = 1e-3
"""Distance (1 - cosine) of images that are always near-duplicates."""
RANK = 20
"""Number of the neighbor whose distance is taken as typical. More images than this may show one scene."""
CHANCE = 1e-3
"""Number of pairs, among all, whose cosine may exceed the threshold by chance if directions are random."""
AXES = 128
ROWS_PER_AXIS = 8
"""The variance along the axis number ``AXES`` (fewer for few rows) is the ridge of the whitening."""
MIN_ROWS = 24
"""Fewest images among which near-duplicates can be told from others."""
MAX_ROWS = 50_000
"""With more rows, only a sample of them is compared with all others, so that the time grows with the rows and not with
their square."""
NEIGHBORS = 10
"""Most near-duplicates that are listed for each row."""
_SAMPLE = 10_000
"""Rows from which the whitening is computed."""
_MAX_COLUMNS = 4096
"""Columns that are used. The cost of the whitening grows with their cube."""
_BLOCK_VALUES = 1 << 24
"""Cosines that are in memory at once."""
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, eq=False)
class NearDuplicates:
    """Near-duplicates among rows of features.

    Parameters
    ----------
    groups : int array (rows,)
        Rows that near-duplicates connect, directly or through others, have equal numbers.
    pairs : int array (pairs, 2)
        Near-duplicates, closest first: at most ``NEIGHBORS`` for each row.
    cosines : float array (pairs,)
        Cosines of their whitened features.
    min_cosine : float
        Smallest cosine of near-duplicates.
    checked : int array (checked,)
        The rows that were compared with all others: all rows, or a sample.
    """

    groups: NDArray[np.intp]
    pairs: NDArray[np.intp]
    cosines: NDArray[np.float64]
    min_cosine: float
    checked: NDArray[np.intp]

    def divided_by(self, parts: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the checked rows with near-duplicates in another part. ``parts`` (rows,) are numbers from -1."""
        pairs = np.unique(np.column_stack([self.groups, parts]), axis=0)
        several = np.bincount(pairs[:, 0]) > 1
        return self.checked[several[self.groups[self.checked]]]


def find_near_duplicates(
    X: NDArray[np.floating], widths: Sequence[int] | None = None, *, sample: bool = False, seed: int = 0
) -> NearDuplicates:
    """Find near-duplicates among the rows of X.

    Two rows are near-duplicates if the cosine of their whitened features is at least ``MIN_COSINE``, higher than chance
    explains, and if they are clearly closer to each other than to their neighbor number ``RANK``. Rows are compared in
    blocks: memory grows with the rows, and time with their square.

    Parameters
    ----------
    X : float array (rows, columns)
        Features.
    widths : sequence of int, optional
        Number of columns of each feature layer, which `BlockNormalizer` normalizes. By default, X is normalized
        already.
    sample : bool
        Compare only a sample of rows with all others if there are more than ``MAX_ROWS`` rows. Then ``groups`` connects
        only near-duplicates of the sample.
    seed : int
        Seed of the sample.

    Returns
    -------
    NearDuplicates
        Without any pair if there are fewer than ``MIN_ROWS`` rows.
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
    limits = np.maximum(max(MIN_COSINE, _chance(spread, count)), 1 - CLOSENESS * (1 - nearest))
    return _link(whitened, checked, np.minimum(limits, 1 - SAME))


class _Whitened:
    """Rows with whitened features, of which cosines are computed block by block.

    With ridge r, centered rows F and covariance C, the inner products of the whitened rows are F (C + r)⁻¹ Fᵀ.

    Parameters
    ----------
    X : float array (rows, columns)
    widths : sequence of int or None
        As in `find_near_duplicates`.
    seed : int
        Seed of the rows and columns from which the whitening is computed, if there are very many.
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
        """Yield blocks of the checked rows, and their cosines with all rows (block, rows). A row is not near itself."""
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
    """Return the variance along axis number ``AXES``, from a covariance or from inner products divided by the rows."""
    size = len(products)
    axis = max(1, min(AXES, rows // ROWS_PER_AXIS, size))
    (variance,) = eigh(products, eigvals_only=True, subset_by_index=[size - axis, size - axis])
    # The variances of equal rows are rounding.
    return max(float(variance), 1e-6 * float(np.trace(products)), _TINY)


def _measure(whitened: _Whitened, checked: NDArray[np.intp]) -> tuple[NDArray[np.float32], float]:
    """Return the cosine of each checked row with its neighbor ``RANK``, and the mean square of negative cosines.

    Near-duplicates make some cosines positive, and change the negative ones little.
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
    """Return the cosine that ``CHANCE`` of all pairs of ``count`` random directions exceed.

    ``spread`` is the mean square of their cosines: one over the number of dimensions.
    """
    dimensions = 1 / max(spread, 1e-9)
    share = 2 * CHANCE / (count * (count - 1) / 2)
    return float(np.sqrt(beta.ppf(1 - share, 0.5, max((dimensions - 1) / 2, 0.5))))


def _link(whitened: _Whitened, checked: NDArray[np.intp], limits: NDArray[np.floating]) -> NearDuplicates:
    """Connect the rows whose cosine exceeds the limits of both. A row that is not checked has no limit."""
    count = len(whitened)
    limit = np.full(count, -1, np.float32)
    limit[checked] = limits
    groups = np.arange(count)
    pairs, cosines = [], []
    for block, found in whitened.cosines(checked):
        row, other = np.nonzero(found >= np.maximum(limit[block][:, np.newaxis], limit))
        groups = _connect(groups, block[row], other)
        # The nearest ones of each row: sorted by row, then by cosine.
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
    """Return the groups (rows,) after joining those of the rows ``first`` with those of the rows ``second``."""
    count = len(groups)
    graph = coo_array((np.ones(len(first), bool), (groups[first], groups[second])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1][groups], np.intp)
