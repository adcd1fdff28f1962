"""Folds for cross-validation: stratified by class, with all rows of a group on one side of every fold."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from featx.errors import DataError, SpecError
from featx.heads.splitting.stratification import labels_of_groups, stratify_multilabel
from featx.runtime import pluralize

MAX_UNEVEN_GROUPS = 5000
"""Largest number of groups of unequal size that StratifiedGroupKFold balances. It would need a minute for 100,000
groups."""

Fold = tuple[NDArray[np.intp], NDArray[np.intp]]
"""Row numbers to train on, and row numbers to test."""


def make_folds(
    y: ArrayLike,
    groups: ArrayLike | None = None,
    n_splits: int = 5,
    n_repeats: int = 1,
    seed: int | None = 0,
    plain: ArrayLike | None = None,
) -> list[Fold]:
    """Split rows into stratified folds that keep groups together.

    The folds hold equal shares of each class as far as whole groups allow. Groups of equal size are split as
    scikit-learn's StratifiedKFold splits rows, and up to 5,000 groups of unequal size as StratifiedGroupKFold does. A
    group with several classes counts for the class of its first row. Multi-label rows are split group by group, with
    `featx.heads.splitting.stratification.stratify_multilabel`.

    Parameters
    ----------
    y : array (rows,), or bool or int array (rows, classes)
        Class of each row, or a multi-label indicator.
    groups : int array (rows,), optional
        Rows with equal numbers, such as augmented copies of one image, are never on both sides of a fold. By default,
        each row is a group.
    n_splits, n_repeats : int
        Number of folds per shuffle, at least 2, and number of shuffles, at least 1.
    seed : int, optional
        Seed of the shuffles. None does not shuffle, and makes the folds that scikit-learn makes without a seed; then
        ``n_repeats`` must be 1.
    plain : bool array (rows,), optional
        The rows that are split and tested. The others, augmented copies, are trained on in each fold that does not
        test their group.

    Returns
    -------
    list of (train, test)
        Sorted row numbers.

    Raises
    ------
    SpecError
        If ``n_splits`` or ``n_repeats`` is out of range.
    DataError
        If shapes do not match, if there is only one class, or if a class has fewer groups than there are folds. In
        multi-label rows, a label must also be absent from as many groups as there are folds.
    """
    labels = np.asarray(y)
    owners = np.arange(len(labels)) if groups is None else np.asarray(groups)
    _check(labels, owners, n_splits, n_repeats, seed)
    if plain is not None:
        rows = np.flatnonzero(plain)
        folds = make_folds(labels[rows], owners[rows], n_splits, n_repeats, seed)
        return [(np.flatnonzero(~np.isin(owners, owners[rows[tested]])), rows[tested]) for _, tested in folds]
    _, first, group, sizes = np.unique(owners, return_index=True, return_inverse=True, return_counts=True)
    if labels.ndim == 2:
        return _split_multilabel(labels > 0, group, n_splits, n_repeats, seed or 0)
    _check_classes(labels, first, n_splits)
    split = _split_rows if len(set(sizes)) > 1 and len(first) <= MAX_UNEVEN_GROUPS else _split_groups
    return [
        (np.flatnonzero(~tested), np.flatnonzero(tested))
        for repeat in range(n_repeats)
        for tested in split(labels[first][group], group, first, n_splits, None if seed is None else seed + repeat)
    ]


def folds_per_pass(folds: Sequence[Fold]) -> float:
    """Return k of a k-fold cross-validation, which may be repeated. Five folds in ten repeats give 5."""
    tested = np.concatenate([test for _, test in folds])
    return len(folds) * len(np.unique(tested)) / len(tested)


def fewest_groups(y: ArrayLike, groups: ArrayLike | None = None) -> int:
    """Return the largest number of folds that `make_folds` can make: the number of groups of the rarest class.

    In multi-label rows, a class is also limited by the number of groups that do not have it.
    """
    labels = np.asarray(y)
    owners = np.arange(len(labels)) if groups is None else np.asarray(groups)
    _, first, group = np.unique(owners, return_index=True, return_inverse=True)
    if labels.ndim == 2:
        counts = labels_of_groups(labels > 0, group).sum(axis=0)
        return int(np.minimum(counts, len(first) - counts).min())
    return int(_count_classes(labels, first)[1].min())


def check_labels(labels: ArrayLike, groups: ArrayLike, n_splits: int, names: Sequence[object]) -> None:
    """Check that each class of a multi-label indicator can be trained on and tested in each fold.

    Parameters
    ----------
    labels : bool or int array (rows, classes)
    groups : int array (rows,)
    n_splits : int
    names : sequence (classes,)
        Names of the classes, for the message.

    Raises
    ------
    DataError
        If fewer than ``n_splits`` groups have a class, or fewer than ``n_splits`` groups lack it.
    """
    _, group = np.unique(groups, return_inverse=True)
    members = labels_of_groups(np.asarray(labels) > 0, group)
    if members.shape[1] < 2:
        raise DataError(f"multi-label targets must have two classes or more, got {members.shape[1]}")
    counts, total = members.sum(axis=0), len(members)
    fewest = int(np.minimum(counts, total - counts).argmin())
    if min(counts[fewest], total - counts[fewest]) < n_splits:
        raise DataError(
            f"label {names[fewest]} belongs to {counts[fewest]} of {total} different images, but {n_splits} folds need "
            f"{n_splits} images with it and {n_splits} without it; add images, leave the label out, or use fewer folds "
            "(--folds)"
        )


def _split_multilabel(
    labels: NDArray[np.bool_], group: NDArray[np.intp], n_splits: int, n_repeats: int, seed: int
) -> list[Fold]:
    """Return the folds of multi-label rows. A group has the labels of all its rows."""
    check_labels(labels, group, n_splits, range(labels.shape[1]))
    members, folds = labels_of_groups(labels, group), []
    for repeat in range(n_repeats):
        part = stratify_multilabel(members, np.full(n_splits, 1 / n_splits), seed + repeat)[group]
        folds += [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(n_splits)]
    return folds


def _split_groups(
    labels: NDArray[np.generic], group: NDArray[np.intp], first: NDArray[np.intp], n_splits: int, seed: int | None
) -> list[NDArray[np.bool_]]:
    """Return which rows each fold tests. Each class has equally many groups in every fold."""
    splitter = StratifiedKFold(n_splits, shuffle=seed is not None, random_state=seed)
    masks = np.zeros((n_splits, len(first)), bool)
    for mask, (_, tested) in zip(masks, splitter.split(first, labels[first]), strict=True):
        mask[tested] = True
    return [mask[group] for mask in masks]


def _split_rows(
    labels: NDArray[np.generic], group: NDArray[np.intp], first: NDArray[np.intp], n_splits: int, seed: int | None
) -> list[NDArray[np.bool_]]:
    """Return which rows each fold tests. Each class has about equally many rows in every fold."""
    splitter = StratifiedGroupKFold(n_splits, shuffle=seed is not None, random_state=seed)
    tested = [np.bincount(rows, minlength=len(labels)) > 0 for _, rows in splitter.split(labels, labels, group)]
    classes = len(np.unique(labels))
    complete = all(len(np.unique(labels[~rows])) == classes for rows in tested)
    # If group sizes differ very much, StratifiedGroupKFold may leave a fold without a class to train on.
    return tested if complete else _split_groups(labels, group, first, n_splits, seed)


def _check(
    labels: NDArray[np.generic], owners: NDArray[np.generic], n_splits: int, n_repeats: int, seed: int | None
) -> None:
    if n_splits < 2:
        raise SpecError(f"folds must be 2 or more, got {n_splits}")
    if n_repeats < 1 or (n_repeats > 1 and seed is None):
        wanted = "1 or more" if n_repeats < 1 else "1 without a seed"
        raise SpecError(f"repeats of the folds must be {wanted}, got {n_repeats}")
    if labels.ndim not in (1, 2) or owners.shape != labels.shape[:1]:
        raise DataError(f"labels and groups must have one entry per row, got shapes {labels.shape} and {owners.shape}")


def _check_classes(labels: NDArray[np.generic], first: NDArray[np.intp], n_splits: int) -> None:
    classes, counts = _count_classes(labels, first)
    if len(classes) < 2:
        raise DataError(f"cross-validation needs two classes or more, got {len(classes)}; add images of another class")
    if counts.min() < n_splits:
        fewest = counts.argmin()
        raise DataError(
            f"class {classes[fewest]} has {pluralize(counts[fewest], 'different image')}, too few for {n_splits} folds;"
            " add images, leave the class out, or use fewer folds (--folds)"
        )


def _count_classes(
    labels: NDArray[np.generic], first: NDArray[np.intp]
) -> tuple[NDArray[np.generic], NDArray[np.intp]]:
    """Return the classes and the number of groups of each. ``first`` (groups,) is a row of each group."""
    classes, codes = np.unique(labels, return_inverse=True)
    return classes, np.bincount(codes[first], minlength=len(classes))
