"""Folds for cross-validation: stratified by class, with all rows of a group on one side of every fold."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from featx.errors import DataError, NoFolds, SpecError
from featx.heads.splitting.group_classes import GroupClasses
from featx.heads.splitting.stratification import stratify_multilabel

MAX_UNEVEN_GROUPS = 5000
"""Largest number of groups of unequal size that StratifiedGroupKFold is used for. It would need a minute for 100,000
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

    The folds hold equal shares of each class, as nearly as whole groups allow. Groups of equal size with one class each
    are split in the same way as rows by scikit-learn's StratifiedKFold. If there are groups of unequal size or with
    several classes, StratifiedGroupKFold splits them if there are at most 5,000 groups. If there are more, a group with
    several classes counts for the class of its first row. Multi-label rows are split group by group, with
    `featx.heads.splitting.stratification.stratify_multilabel`.

    A class with fewer groups than folds is not tested in every fold. In the other folds, all its groups are training
    groups. A group is not tested if no row of its class would be left to train on. So a class with one group is in
    every training set and is never tested. `find_rare_classes` names such classes. A fold that would test no row is
    left out.

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
        Seed of the shuffles. With None, rows are not shuffled, the folds are the same as in scikit-learn without a
        seed, and ``n_repeats`` must be 1.
    plain : bool array (rows,), optional
        The rows that are split and tested. The other rows are augmented copies. They are training rows in each fold
        that does not test their group.

    Returns
    -------
    list of (train, test)
        Sorted row numbers.

    Raises
    ------
    SpecError
        If ``n_splits`` or ``n_repeats`` is out of range.
    DataError
        If shapes do not match, if there is only one class, or if a label of multi-label rows is in all rows or in none.
    NoFolds
        If no fold can be made, because every class is in one group.
    """
    labels = np.asarray(y)
    owners = np.arange(len(labels)) if groups is None else np.asarray(groups)
    _check(labels, owners, n_splits, n_repeats, seed)
    if plain is not None:
        rows = np.flatnonzero(plain)
        folds = make_folds(labels[rows], owners[rows], n_splits, n_repeats, seed)
        return [(np.flatnonzero(~np.isin(owners, owners[rows[tested]])), rows[tested]) for _, tested in folds]
    if labels.ndim == 2:
        check_labels(labels, range(labels.shape[1]))
        codes = labels
    else:
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(
                f"cross-validation needs two classes or more, got {len(classes)}; add images of another class"
            )
    members = GroupClasses.read(codes, owners)
    parts = (
        members.keep_trained(part)
        for repeat in range(n_repeats)
        for part in _split(codes, members, n_splits, None if seed is None else seed + repeat)
    )
    tested = [part[members.group] for part in parts if part.any()]
    if not tested:
        raise NoFolds(
            "cross-validation needs a class with two images, or two groups of images that belong together, but each "
            "class has one; add images"
        )
    return [(np.flatnonzero(~rows), np.flatnonzero(rows)) for rows in tested]


def folds_per_pass(folds: Sequence[Fold]) -> float:
    """Return k of a k-fold cross-validation that may be repeated. For ten repeats of five folds, it is 5."""
    tested = np.concatenate([test for _, test in folds])
    return len(folds) * len(np.unique(tested)) / len(tested)


def check_labels(labels: ArrayLike, names: Sequence[object]) -> None:
    """Check that for each class of a multi-label indicator, some rows have the class and some rows do not.

    Parameters
    ----------
    labels : bool or int array (rows, classes)
    names : sequence (classes,)
        Names of the classes, for the message.

    Raises
    ------
    DataError
        If there are fewer than two classes, or if all rows or no rows have one of the classes.
    """
    members = np.asarray(labels) > 0
    if members.shape[1] < 2:
        raise DataError(f"multi-label targets must have two classes or more, got {members.shape[1]}")
    counts, total = members.sum(axis=0), len(members)
    constant = (counts == 0) | (counts == total)
    if constant.any():
        first = int(constant.argmax())
        raise DataError(
            f"label {names[first]} belongs to {counts[first]} of {total} images, so it cannot be told from the others; "
            "add images with it and without it, or leave the label out"
        )


def _split(codes: NDArray[np.intp], members: GroupClasses, n_splits: int, seed: int | None) -> list[NDArray[np.bool_]]:
    """Return which groups (groups,) each fold tests."""
    count = min(n_splits, len(members.first))
    uneven = members.mixed or len(np.unique(members.sizes)) > 1
    split = _split_rows if uneven and len(members.first) <= MAX_UNEVEN_GROUPS else _split_groups
    if codes.ndim == 1:
        per_class = np.bincount(codes if split is _split_rows else codes[members.first], minlength=members.n_classes)
    # scikit-learn refuses to split rows if every class has fewer rows than there are folds.
    if codes.ndim == 2 or count < 2 or per_class.max() < count:
        part = stratify_multilabel(members.members, np.full(n_splits, 1 / n_splits), seed or 0)
        return [part == fold for fold in range(n_splits)]
    with _allow_rare_classes() if per_class.min() < count else nullcontext():
        return split(codes, members, count, seed)


@contextmanager
def _allow_rare_classes() -> Iterator[None]:
    """Silence the warning of scikit-learn that a class has fewer rows than there are folds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class in y", UserWarning)
        yield


def _split_groups(
    codes: NDArray[np.intp], members: GroupClasses, n_splits: int, seed: int | None
) -> list[NDArray[np.bool_]]:
    """Give each fold the same number of groups of each class."""
    splitter = StratifiedKFold(n_splits, shuffle=seed is not None, random_state=seed)
    masks = np.zeros((n_splits, len(members.first)), bool)
    for mask, (_, tested) in zip(masks, splitter.split(members.first, codes[members.first]), strict=True):
        mask[tested] = True
    return list(masks)


def _split_rows(
    codes: NDArray[np.intp], members: GroupClasses, n_splits: int, seed: int | None
) -> list[NDArray[np.bool_]]:
    """Give each fold about the same number of rows of each class."""
    splitter = StratifiedGroupKFold(n_splits, shuffle=seed is not None, random_state=seed)
    masks = [np.bincount(members.group[rows], minlength=len(members.first)) > 0
             for _, rows in splitter.split(codes, codes, members.group)]  # fmt: skip
    several = members.groups_per_class > 1
    complete = all(members.has_trained(mask)[several].all() for mask in masks)
    # If group sizes differ very much, StratifiedGroupKFold may make a fold without training rows of some class.
    return masks if complete or members.mixed else _split_groups(codes, members, n_splits, seed)


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
