"""Which rows a head is fitted on and which are held out."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from featx.errors import DataError
from featx.heads.stratification import labels_of_groups, stratify_multilabel


def fingerprint(digests: Sequence[str]) -> str:
    """sha256 over the rows' digests, sorted: the same for the same images, whatever their order and names."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def compact_ids(digests: Sequence[str]) -> NDArray[np.uint64]:
    """The last 8 bytes of sha256 digests: enough to know an image again among as many as there are."""
    return np.frombuffer(bytes.fromhex("".join(digest[-16:] for digest in digests)), ">u8").astype(np.uint64)


def holdout(
    labels: np.ndarray, digests: Sequence[str], test_size: float, seed: int, option: str = "--test-size"
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of the labeled rows to fit on and of those held out, stratified by label.

    Rows of equal digest stay together, so that no copy of a training image is ever tested. ``labels`` are (rows,)
    class numbers, -1 for none, or a bool (rows, classes). ``option`` is what errors call ``test_size``.

    Raises
    ------
    DataError
        If a class has fewer than two different images, or too few are held out to have one a class.
    """
    if labels.ndim == 2:
        return _holdout_labels(labels, digests, test_size, seed, option)
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


def _holdout_labels(
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
            "be on one side only; give another share, or add images"
        )
    return labeled[~held[group]], labeled[held[group]]
