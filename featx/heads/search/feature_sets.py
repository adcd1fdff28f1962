"""Feature sets: the groups of columns that a search compares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.errors import SpecError

Columns = slice | Sequence[slice] | Sequence[int] | Sequence[str]
"""One slice, a list with one slice per block, a list of column numbers, or a list of column names of a data frame."""
ALL_COLUMNS = "all"
"""Name of the default feature set."""


@dataclass(frozen=True)
class FeatureSet:
    """Columns of X that a head is fitted on.

    Parameters
    ----------
    name : str
    ranges : tuple of (start, stop)
        The columns of X, in the order in which the head sees them.
    widths : tuple of int, optional
        Number of columns of each block, which ``normalize="power"`` scales separately. None leaves the division into
        blocks to `BlockNormalizer`.
    """

    name: str
    ranges: tuple[tuple[int, int], ...]
    widths: tuple[int, ...] | None = None

    @property
    def columns(self) -> int:
        """Number of columns."""
        return sum(stop - start for start, stop in self.ranges)

    def select(self, X: NDArray[Any]) -> NDArray[Any]:
        """Return these columns of X (rows, all columns): a view if they are adjacent, else a copy."""
        adjacent = all(self.ranges[i][1] == self.ranges[i + 1][0] for i in range(len(self.ranges) - 1))
        if adjacent:
            return X[:, self.ranges[0][0] : self.ranges[-1][1]]
        return np.concatenate([X[:, start:stop] for start, stop in self.ranges], axis=1)


def block_feature_sets(features: Mapping[str, slice]) -> dict[str, list[slice]]:
    """Make one feature set per block, and one per range of blocks that ends at the last block.

    Five blocks give nine sets: each block alone, and the blocks 1 to 5, 2 to 5, 3 to 5 and 4 to 5.

    Parameters
    ----------
    features : mapping of feature name to slice
        As `featx.ExtractSpec.slices`. Features named like ``block3_avg`` and ``block3_max`` belong to one block; any
        other feature is a block of its own.
    """
    blocks: dict[str, list[slice]] = {}
    for name, columns in features.items():
        blocks.setdefault(name.rsplit("_", 1)[0], []).append(columns)
    runs = [[block] for block in blocks] + [list(blocks)[start:] for start in range(len(blocks) - 2, -1, -1)]
    return {"+".join(run): [columns for block in run for columns in blocks[block]] for run in runs}


def make_feature_sets(
    sets: Mapping[str, Columns] | None, n_columns: int, names: Sequence[str] | None = None
) -> list[FeatureSet]:
    """Find the columns of each feature set. By default there is one set with all columns.

    Parameters
    ----------
    sets : mapping of set name to columns, optional
        See ``Columns``.
    n_columns : int
        Number of columns of X.
    names : sequence of str, optional
        Names of the columns of X, if it has any.

    Raises
    ------
    SpecError
        If ``sets`` is empty, a set is empty, or a column is not in X.
    """
    if sets is None:
        return [FeatureSet(ALL_COLUMNS, ((0, n_columns),))]
    if not sets:
        raise SpecError("feature_sets must name at least one set, got none; leave it out to use all columns")
    return [_make_set(name, columns, n_columns, names) for name, columns in sets.items()]


def _make_set(name: str, columns: Columns, n_columns: int, names: Sequence[str] | None) -> FeatureSet:
    items: list[Any] = [columns] if isinstance(columns, slice) else list(columns)
    if not items:
        raise SpecError(f"feature set {name} must have at least one column, got none")
    if all(isinstance(item, slice) for item in items):
        ranges = tuple(_bounds(name, item, n_columns) for item in items)
        widths = tuple(stop - start for start, stop in ranges)
        return FeatureSet(name, ranges, None if isinstance(columns, slice) else widths)
    positions = {} if names is None else {column: number for number, column in enumerate(names)}
    numbers = [_column_number(name, item, n_columns, positions) for item in items]
    starts = [i for i, number in enumerate(numbers) if i == 0 or number != numbers[i - 1] + 1]
    runs = zip(starts, [*starts[1:], len(numbers)], strict=True)
    return FeatureSet(name, tuple((numbers[start], numbers[stop - 1] + 1) for start, stop in runs))


def _bounds(name: str, columns: slice, n_columns: int) -> tuple[int, int]:
    start, stop, step = columns.start or 0, columns.stop, columns.step
    stop = n_columns if stop is None else stop
    if not 0 <= start < stop <= n_columns or step not in (None, 1):
        raise SpecError(
            f"columns of feature set {name} must be slices within 0 to {n_columns} with step 1, got {columns}"
        )
    return int(start), int(stop)


def _column_number(name: str, item: Any, n_columns: int, positions: Mapping[str, int]) -> int:
    if isinstance(item, str):
        if item not in positions:
            why = "is not a column of X" if positions else "needs a data frame: the columns of X have no names"
            raise SpecError(f"feature set {name}: column {item!r} {why}")
        return positions[item]
    if isinstance(item, bool) or not isinstance(item, (int, np.integer)) or not 0 <= item < n_columns:
        raise SpecError(
            f"columns of feature set {name} must be slices, names or numbers from 0 to {n_columns - 1}, got {item!r}"
        )
    return int(item)
