"""Hold rows out for a test, stratified by class."""

from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from featx.errors import DataError
from featx.heads.splitting.stratification import labels_of_groups, stratify_multilabel


def hold_out(
    labels: np.ndarray, digests: Sequence[str], test_size: float, seed: int, option: str = "--test-size"
) -> tuple[np.ndarray, np.ndarray]:
    """Split labeled rows into rows to fit on and rows to test, stratified by class.

    Rows with equal digests stay together, so that no copy of a training image is tested.

    Parameters
    ----------
    labels : int array (rows,), or bool array (rows, classes)
        Class numbers, where -1 means no class, or a multi-label indicator.
    digests : sequence of str (rows,)
        Digests of the image files.
    test_size : float
        Share of the images to test, between 0 and 1.
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
        If a class has fewer than two different images, or the test rows are too few to have one of each class.
    """
    if labels.ndim == 2:
        return _hold_out_multilabel(labels, digests, test_size, seed, option)
    labeled = np.flatnonzero(labels >= 0)
    _, first, group = np.unique(np.array(digests)[labeled], return_index=True, return_inverse=True)
    try:
        _, tested = train_test_split(
            np.arange(len(first)), test_size=test_size, random_state=seed, stratify=labels[labeled][first]
        )
    except ValueError as error:
        raise DataError(f"{option} {test_size} does not split these rows by class: {error}") from error
    held = np.isin(group, tested)
    return labeled[~held], labeled[held]


def _hold_out_multilabel(
    labels: np.ndarray, digests: Sequence[str], test_size: float, seed: int, option: str
) -> tuple[np.ndarray, np.ndarray]:
    labeled = np.flatnonzero(labels.any(axis=1))
    _, group = np.unique(np.array(digests)[labeled], return_inverse=True)
    members = labels_of_groups(labels[labeled], group)
    held = stratify_multilabel(members, (1 - test_size, test_size), seed) == 1
    used = members.any(axis=0)
    lacking = used & ~(members[held].any(axis=0) & members[~held].any(axis=0))
    if lacking.any():
        raise DataError(
            f"{option} {test_size} does not split these rows by class: {lacking.sum()} of {used.sum()} labels would "
            "have rows on one side only; choose another share, or add images"
        )
    return labeled[~held[group]], labeled[held[group]]
