"""Folds for cross-validation: stratified by class, with every group whole on one side."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from featx.errors import DataError, SpecError
from featx.heads.stratification import stratify_multilabel
from featx.runtime import pluralize

MAX_UNEVEN_GROUPS = 5000
"""Up to this many groups of unequal size StratifiedGroupKFold balances rows: it takes a minute for 100,000 groups."""
FEWER = "give fewer --folds where the command has them"

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]


def make_folds(
    y: ArrayLike,
    groups: ArrayLike | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    seed: int = 0,
    plain: ArrayLike | None = None,
) -> list[Fold]:
    """Sorted (training rows, test rows) of each fold, ``n_splits`` for each of ``n_repeats`` shuffles.

    Folds hold as equal shares of each class as whole groups allow. Groups of one size each are dealt out as
    sklearn's StratifiedKFold deals rows; up to 5,000 groups of unequal sizes by StratifiedGroupKFold. A group with
    several classes counts for that of its first row. Rows with several labels are dealt out group by group, by
    `featx.heads.stratification.stratify_multilabel`.

    Parameters
    ----------
    y : array (rows,), or bool or int array (rows, classes)
        Class of each row; or which labels each has.
    groups : int array (rows,), optional
        Rows with equal numbers never straddle a fold: views of one image, exact duplicates. By default each row is
        a group of its own.
    n_splits, n_repeats : int
        At least 2 and 1.
    seed : int
    plain : bool array (rows,), optional
        The only rows that are dealt out and tested; the others are trained on wherever their group is not tested.

    Raises
    ------
    SpecError
        If n_splits or n_repeats is out of range.
    DataError
        If shapes do not fit, there is one class only, or a class has fewer groups than there are folds, or, where
        rows have several, is a label of all but fewer groups.
    """
    labels = np.asarray(y)
    owners = np.arange(len(labels)) if groups is None else np.asarray(groups)
    _check(labels, owners, n_splits, n_repeats)
    if plain is not None:
        rows = np.flatnonzero(plain)
        dealt = make_folds(labels[rows], owners[rows], n_splits, n_repeats, seed)
        return [(np.flatnonzero(~np.isin(owners, owners[rows[tested]])), rows[tested]) for _, tested in dealt]
    _, first, group, sizes = np.unique(owners, return_index=True, return_inverse=True, return_counts=True)
    if labels.ndim == 2:
        return _deal_labels(labels > 0, group, n_splits, n_repeats, seed)
    _check_classes(labels, first, n_splits)
    deal_out = _deal_rows if len(set(sizes)) > 1 and len(first) <= MAX_UNEVEN_GROUPS else _deal_groups
    return [
        (np.flatnonzero(~tested), np.flatnonzero(tested))
        for repeat in range(n_repeats)
        for tested in deal_out(labels[first][group], group, first, n_splits, seed + repeat)
    ]


def _deal_labels(
    labels: NDArray[np.bool_], group: NDArray[np.intp], n_splits: int, n_repeats: int, seed: int
) -> list[Fold]:
    """Folds of rows with several labels; a group has the labels of all its rows."""
    check_labels(labels, group, n_splits, range(labels.shape[1]))
    members, folds = _members(labels, group), []
    for repeat in range(n_repeats):
        part = stratify_multilabel(members, np.full(n_splits, 1 / n_splits), seed + repeat)[group]
        folds += [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(n_splits)]
    return folds


def check_labels(labels: ArrayLike, groups: ArrayLike, n_splits: int, names: Sequence[object]) -> None:
    """Raise ``DataError`` unless each class of an indicator (rows, classes) can be learned and tested in each fold."""
    _, group = np.unique(groups, return_inverse=True)
    members = _members(np.asarray(labels) > 0, group)
    if members.shape[1] < 2:
        raise DataError(f"rows with several labels must have two classes or more, got {members.shape[1]}")
    counts, total = members.sum(axis=0), len(members)
    fewest = int(np.minimum(counts, total - counts).argmin())
    if min(counts[fewest], total - counts[fewest]) < n_splits:
        raise DataError(
            f"label {names[fewest]} is that of {counts[fewest]} of {total} different images, but {n_splits} folds need "
            f"{n_splits} with it and {n_splits} without; add images, leave the label out, or {FEWER}"
        )


def _members(labels: NDArray[np.bool_], group: NDArray[np.intp]) -> NDArray[np.bool_]:
    members = np.zeros((group.max(initial=-1) + 1, labels.shape[1]), bool)
    np.logical_or.at(members, group, labels)
    return members


def _deal_groups(
    labels: NDArray[np.generic], group: NDArray[np.intp], first: NDArray[np.intp], n_splits: int, seed: int
) -> list[NDArray[np.bool_]]:
    """Which rows each fold tests, with as many groups of each class in one as in another."""
    splits = StratifiedKFold(n_splits, shuffle=True, random_state=seed).split(first, labels[first])
    masks = np.zeros((n_splits, len(first)), bool)
    for mask, (_, tested) in zip(masks, splits, strict=True):
        mask[tested] = True
    return [mask[group] for mask in masks]


def _deal_rows(
    labels: NDArray[np.generic], group: NDArray[np.intp], first: NDArray[np.intp], n_splits: int, seed: int
) -> list[NDArray[np.bool_]]:
    """Which rows each fold tests, with about as many rows of each class in one as in another."""
    splits = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed).split(labels, labels, group)
    tested = [np.bincount(rows, minlength=len(labels)) > 0 for _, rows in splits]
    classes = len(np.unique(labels))
    whole = all(len(np.unique(labels[~rows])) == classes for rows in tested)
    # Very unequal groups may leave a fold without a class to train on.
    return tested if whole else _deal_groups(labels, group, first, n_splits, seed)


def _check(labels: NDArray[np.generic], owners: NDArray[np.generic], n_splits: int, n_repeats: int) -> None:
    if n_splits < 2:
        raise SpecError(f"folds must be 2 or more, got {n_splits}")
    if n_repeats < 1:
        raise SpecError(f"repeats of the folds must be 1 or more, got {n_repeats}")
    if labels.ndim not in (1, 2) or owners.shape != labels.shape[:1]:
        raise DataError(f"classes and groups must be one a row, got shapes {labels.shape} and {owners.shape}")


def _check_classes(labels: NDArray[np.generic], first: NDArray[np.intp], n_splits: int) -> None:
    classes, codes = np.unique(labels, return_inverse=True)
    counts = np.bincount(codes[first], minlength=len(classes))
    if len(classes) < 2:
        raise DataError(f"cross-validation needs two classes or more, got {len(classes)}; add images of another class")
    if counts.min() < n_splits:
        fewest = counts.argmin()
        raise DataError(
            f"class {classes[fewest]} has {pluralize(counts[fewest], 'different image')}, too few for {n_splits} folds; "
            f"add images, leave the class out, or {FEWER}"
        )
