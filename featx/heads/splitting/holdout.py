"""Hold rows out for a test, stratified by class."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import train_test_split

from featx.errors import DataError
from featx.heads.splitting.folds import MAX_UNEVEN_GROUPS
from featx.heads.splitting.group_classes import GroupClasses
from featx.heads.splitting.stratification import stratify_multilabel


def hold_out(
    labels: np.ndarray, groups: ArrayLike, test_size: float, seed: int, option: str = "--test-size"
) -> tuple[np.ndarray, np.ndarray]:
    """Split labeled rows into rows to fit on and rows to test, stratified by class.

    Rows of one group stay together, so that no copy of a training image is tested. Every class keeps a group to train
    on, so a class with one group is not tested. A class is also not tested if its share of the test rows is below one
    group.

    Parameters
    ----------
    labels : int array (rows,), or bool array (rows, classes)
        Class numbers, where -1 means no class, or a multi-label indicator.
    groups : str or int array (rows,)
        Rows with equal values are one group, such as the digests of the image files.
    test_size : float
        Share of the groups to test, between 0 and 1.
    seed : int
    option : str
        Name of ``test_size`` in messages.

    Returns
    -------
    train, test : int arrays
        Sorted row numbers.

    Raises
    ------
    DataError
        If ``test_size`` is out of range, or leaves no row to test or too few rows to train on.
    """
    if not 0 < test_size < 1:
        raise DataError(f"{option} must be a share of the images, above 0 and below 1, got {test_size}")
    labeled = np.flatnonzero(labels >= 0 if labels.ndim == 1 else labels.any(axis=1))
    members = GroupClasses.read(labels[labeled], np.asarray(groups)[labeled])
    if labels.ndim == 2 or (members.mixed and len(members.first) <= MAX_UNEVEN_GROUPS):
        held = stratify_multilabel(members.members, (1 - test_size, test_size), seed) == 1
    else:
        held = _hold_out_groups(labels[labeled][members.first], test_size, seed, option)
    held = members.keep_trained(held)
    if not held.any():
        raise DataError(
            f"{option} {test_size} leaves no image to test, because every class needs one to train on; add images, "
            "or choose a larger share"
        )
    tested = held[members.group]
    return labeled[~tested], labeled[tested]


def _hold_out_groups(labels: np.ndarray, test_size: float, seed: int, option: str) -> np.ndarray:
    """Return which groups (groups,) are held out, for groups of one class each."""
    counts = np.bincount(labels)[labels]
    several = np.flatnonzero(counts > 1)
    held = np.zeros(len(labels), bool)
    if not len(several):
        return held
    try:
        _, tested = train_test_split(several, test_size=test_size, random_state=seed, stratify=labels[several])
    except ValueError as error:
        classes = np.unique(labels[several])
        if len(several) * (1 - test_size) < len(classes) or len(several) * test_size <= 1:
            raise DataError(f"{option} {test_size} does not split these rows by class: {error}") from error
        # There are more classes than rows to test, so the test rows cannot contain every class.
        _, tested = train_test_split(several, test_size=test_size, random_state=seed)
    held[tested] = True
    return held
