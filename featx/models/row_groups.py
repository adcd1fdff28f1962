"""Find out which rows of a store belong together: equal files, groups of the user, and near-duplicates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.backbones import feature_name
from featx.errors import DataError
from featx.heads import NO_GROUP, combine_groups, find_near_duplicates
from featx.runtime import pluralize
from featx.spec import ExtractSpec
from featx.store import Store

GROUP_COLUMN = "group"
"""Default name of the column that holds the groups of the user."""
NO_COLUMN = "none"
"""If this is given as the column, the groups of the user are not used."""
LARGE_SHARE = 0.25
"""If one group of near-duplicates has more than this share of the images, it is suspiciously large."""


@dataclass(frozen=True)
class GroupOptions:
    """Which rows belong together, besides equal files and augmented copies.

    Parameters
    ----------
    column : str, optional
        Column of the store, or its name in the manifest. By default it is ``group``, if the store has it; ``none`` uses
        no column.
    near_duplicates : bool
        Keep near-duplicates together.
    """

    column: str | None = None
    near_duplicates: bool = False

    @classmethod
    def of_model(cls, info: dict[str, Any]) -> "GroupOptions":
        """Return the options that a model was fitted with, from its ``info``."""
        found = info.get("groups", {})
        return cls(found.get("column", NO_COLUMN), found.get("near_duplicates", False))


@dataclass(frozen=True, eq=False)
class GroupedRows:
    """The groups of the rows of a store.

    Parameters
    ----------
    groups : int array (rows of the store,)
        Rows with equal numbers stay together.
    column, source : str, optional
        The column that was used, and the name that it had in the manifest.
    near_duplicates : bool
        Whether near-duplicates are together.
    notes : tuple of str
        What a person should know about the groups, one phrase each.
    """

    groups: NDArray[np.intp]
    column: str | None = None
    source: str | None = None
    near_duplicates: bool = False
    notes: tuple[str, ...] = ()

    def describe(self, rows: NDArray[np.intp]) -> dict[str, Any]:
        """Return what a model stores about the groups of its training rows: nothing if only equal files are groups."""
        if self.column is None and not self.near_duplicates:
            return {}
        return {
            "column": self.column or NO_COLUMN,
            "source": self.source or NO_COLUMN,
            "near_duplicates": self.near_duplicates,
            "count": len(np.unique(self.groups[rows])),
        }


def group_rows(
    store: Store, digests: Sequence[str], options: GroupOptions, rows: NDArray[np.intp] | None = None
) -> GroupedRows:
    """Number the groups of the rows of an open store.

    Parameters
    ----------
    store : Store
    digests : sequence of str (rows,)
        ``store.digests``, which takes long to read.
    options : GroupOptions
    rows : int array (n,), optional
        Sorted numbers of the rows in which near-duplicates are searched, by default all rows.

    Raises
    ------
    DataError
        If the store has no such column.
    """
    column, values = read_group_column(store, options.column)
    pairs = None
    notes: tuple[str, ...] = ()
    if options.near_duplicates:
        pairs, notes = _link_near_duplicates(store, np.arange(store.n_rows) if rows is None else rows)
    groups = combine_groups(digests, values, pairs)
    if column is None or values is None:
        return GroupedRows(groups, near_duplicates=options.near_duplicates, notes=notes)
    source = source_name(store, column)
    notes = (*_describe_values(values, combine_groups(digests, values), store.view_index == 0, source), *notes)
    return GroupedRows(groups, column, source, options.near_duplicates, notes)


def _link_near_duplicates(store: Store, rows: NDArray[np.intp]) -> tuple[NDArray[np.intp], tuple[str, ...]]:
    """Return pairs of rows (pairs, 2) that connect each group of near-duplicates, and notes on the groups."""
    plain = rows[store.view_index[rows] == 0]
    names = compared_features(store.spec)
    found = find_near_duplicates(store.read(names, plain), [store.spec.widths[name] for name in names])
    _, first, group, sizes = np.unique(found.groups, return_index=True, return_inverse=True, return_counts=True)
    notes = []
    if len(plain) and sizes.max() > LARGE_SHARE * len(plain):
        notes.append(
            f"near-duplicates connect {sizes.max():,} of {pluralize(len(plain), 'image')} to one group, because many "
            "images look alike; give groups of your own with --group-column, if you know them"
        )
    return np.column_stack([plain, plain[first[group]]]), tuple(notes)


def compared_features(spec: ExtractSpec) -> list[str]:
    """Return the features that are compared to find near-duplicates: all blocks, with one pooling."""
    pool = next(name for name in ("avg", "gem", "max", *spec.pools) if name in spec.pools)
    return [feature_name(block, pool) for block in spec.blocks]


def _describe_values(
    values: NDArray[np.str_], groups: NDArray[np.intp], plain: NDArray[np.bool_], column: str
) -> tuple[str, ...]:
    """Count the images without a value, and the groups that are joined because they contain equal files."""
    notes = []
    if unknown := int((values[plain] == NO_GROUP).sum()):
        notes.append(
            f"{pluralize(unknown, 'image has', 'images have')} no value in the column {column}: each counts as a group "
            "of its own"
        )
    known = values != NO_GROUP
    names, codes = np.unique(values[known], return_inverse=True)
    owner = np.empty(len(names), np.intp)
    owner[codes] = groups[known]
    if linked := len(owner) - len(np.unique(owner)):
        notes.append(
            f"equal files are in several groups of the column {column}: {pluralize(linked, 'group is', 'groups are')} "
            "kept together with another one"
        )
    return tuple(notes)


def read_group_column(store: Store, column: str | None) -> tuple[str | None, NDArray[np.str_] | None]:
    """Return the name of the group column of a store and its values (rows,), or ``(None, None)`` if it has none.

    ``column`` is a column of the store, or its name in the manifest.

    Raises
    ------
    DataError
        If the store has no column of this name.
    """
    columns = store.columns
    if column == NO_COLUMN or (column is None and GROUP_COLUMN not in columns):
        return None, None
    sources = {source: name for name, source in store.listing.get("columns", {}).items() if name in columns}
    name = GROUP_COLUMN if column is None else column if column in columns else sources.get(column)
    if name is None:
        known = ", ".join(columns) or "none"
        raise DataError(
            f"--group-column must be none or one of the columns of {store.path} ({known}), got {column}; extract keeps "
            "the column that its option --group-column names, under the name group"
        )
    return name, np.array(columns[name])


def source_name(store: Store, column: str) -> str:
    """Return the name that a column of a store had in the manifest, such as ``patient`` for ``group``."""
    return str(store.listing.get("columns", {}).get(column, column))
