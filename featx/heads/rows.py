"""Which rows a head is fitted on and which are held out."""

import hashlib
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import train_test_split

from featx.errors import DataError


def fingerprint(digests: Sequence[str]) -> str:
    """sha256 over the rows' digests, sorted: the same for the same images, whatever their order and names."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def holdout(labels: np.ndarray, digests: Sequence[str], test_size: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the labeled rows to fit on and of those held out, stratified by label.

    Rows of equal digest stay together, so that no copy of a training image is ever tested.

    Raises
    ------
    DataError
        If a class has fewer than two different images, or too few are held out to have one a class.
    """
    labeled = np.flatnonzero(labels >= 0)
    _, first, group = np.unique(np.array(digests)[labeled], return_index=True, return_inverse=True)
    try:
        _, tested = train_test_split(
            np.arange(len(first)), test_size=test_size, random_state=seed, stratify=labels[labeled][first]
        )
    except ValueError as error:
        raise DataError(f"--test-size {test_size} does not split these rows by class: {error}") from error
    held = np.isin(group, tested)
    return labeled[~held], labeled[held]
