"""Join the rows of a manifest that have the same path: equal rows, and rows that have one label each."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from featx.errors import ListingError
from featx.images.sources.notes import Note
from featx.runtime import pluralize
from featx.table import CategoricalArray, ImageTable, Indices, LabelNames, StringArray


def merge_duplicates(table: ImageTable, locate: Callable[[Indices], str]) -> tuple[ImageTable, list[Note]]:
    """Join the rows that have the same path. The result has one row per path, with the labels of all its rows.

    Parameters
    ----------
    table : ImageTable
        Rows sorted by their paths.
    locate : callable
        Takes the numbers of some rows, and returns where they are, such as ``"lines 2 and 4"``.

    Raises
    ------
    ListingError
        If two rows with the same path have different values in another column than the label.
    """
    repeated = _equal_to_last(table.paths)
    if not repeated.any():
        return table, []
    duplicates = _Duplicates(
        np.flatnonzero(~repeated), np.cumsum(~repeated) - 1, np.flatnonzero(repeated | np.append(repeated[1:], False))
    )
    columns = {name: _merge_column(name, table, duplicates, locate) for name in table.columns}
    labels, joined, distinct = _merge_labels(table.labels, duplicates)
    equal = int(repeated.sum()) - (distinct - joined)
    notes = (
        Note("merged", f"{pluralize(equal, 'row')} equal to another row of the same image", equal),
        Note(
            "merged", f"{pluralize(joined, 'image')} with several rows, given the labels of all its rows (a|b)", joined
        ),
    )
    paths = table.paths.take(duplicates.first)
    return ImageTable(paths, labels, columns), [note for note in notes if note.count]


@dataclass(frozen=True)
class _Duplicates:
    """Which rows of a table have the same path.

    Attributes
    ----------
    first : int64 (paths,)
        The first row of each path.
    number : int64 (rows,)
        The number of each row's path among all paths.
    rows : int64 (some rows,)
        The rows whose path occurs more than once.
    """

    first: Indices
    number: Indices
    rows: Indices

    def distinct(self, codes: NDArray[np.int32]) -> tuple[Indices, Indices]:
        """Find the different codes of each path that occurs more than once.

        Returns
        -------
        numbers, codes : int64 (pairs,)
            The number of a path and one of its codes. Each such pair occurs once; the pairs are sorted.
        """
        width = int(codes.max()) + 1
        pairs = np.unique(self.number[self.rows] * width + codes[self.rows])
        return pairs // width, pairs % width


def _equal_to_last(paths: StringArray) -> NDArray[np.bool_]:
    """Return whether each path equals the one before; bool (rows,)."""
    equal = np.zeros(len(paths), bool)
    last = b""  # no path is empty
    for row, path in enumerate(paths.iter_bytes()):
        equal[row] = path == last
        last = path
    return equal


def _merge_column(
    name: str, table: ImageTable, duplicates: _Duplicates, locate: Callable[[Indices], str]
) -> CategoricalArray[str]:
    """Take the value of each path; rows without a value do not count."""
    column = CategoricalArray.concatenate([table.columns[name]])  # equal values now have equal codes
    numbers, codes = duplicates.distinct(column.codes)
    if "" in column.categories:
        has_value = codes != column.categories.index("")
        numbers, codes = numbers[has_value], codes[has_value]
    if len(again := np.flatnonzero(numbers[1:] == numbers[:-1])):
        number = int(numbers[again[0]])
        rows = np.array([row for row in np.flatnonzero(duplicates.number == number) if column[int(row)]], np.int64)
        values = sorted({column[int(row)] for row in rows})
        raise ListingError(
            f"must give each image one value of {name}, got {values[0]!r} and {values[1]!r} for "
            f"{table.paths[int(rows[0])]!r} in {locate(rows)}; remove one"
        )
    merged = column.codes[duplicates.first]
    merged[numbers] = codes
    return CategoricalArray(column.categories, merged)


def _merge_labels(
    labels: CategoricalArray[LabelNames], duplicates: _Duplicates
) -> tuple[CategoricalArray[LabelNames], int, int]:
    """Give each path the labels of all its rows.

    Returns
    -------
    labels : CategoricalArray of tuples of str
    joined : int
        Number of paths whose rows have different labels.
    distinct : int
        Number of different labels of these paths, summed over the paths.
    """
    labels = CategoricalArray.concatenate([labels])
    code_of = {names: code for code, names in enumerate(labels.categories)}
    merged, joined, distinct = labels.codes[duplicates.first], 0, 0
    pairs = zip(*(each.tolist() for each in duplicates.distinct(labels.codes)), strict=True)
    for number, group in groupby(pairs, key=lambda pair: pair[0]):
        codes = [code for _, code in group]
        if len(codes) > 1:
            names = tuple(sorted({name for code in codes for name in labels.categories[code]}))
            merged[number] = code_of.setdefault(names, len(code_of))
            joined, distinct = joined + 1, distinct + len(codes)
    return CategoricalArray(tuple(code_of), merged), joined, distinct
