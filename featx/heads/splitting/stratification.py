"""Split multi-label rows so that each part has its share of each label."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def stratify_multilabel(members: NDArray[np.bool_], shares: ArrayLike, seed: int) -> NDArray[np.intp]:
    """Assign groups of rows to parts so that each part has its share of each label.

    This is the iterative stratification of Sechidis, Tsoumakas & Vlahavas (2011), "On the stratification of multi-label
    data": the groups of the rarest label are assigned first. Each of them goes to the part that still needs most groups
    with this label.

    Parameters
    ----------
    members : bool array (groups, classes)
        The labels of each group.
    shares : array (parts,)
        Share of the groups that each part gets; the shares add up to 1.
    seed : int

    Returns
    -------
    int array (groups,)
        The part of each group.
    """
    generator = np.random.default_rng(seed)
    shares = np.asarray(shares, dtype=np.float64)
    counts = members.sum(axis=0)
    wanted, room = np.outer(shares, counts), shares * len(members)
    part = np.full(len(members), -1)
    while counts.any():
        label = np.where(counts > 0, counts, len(members) + 1).argmin()
        for group in generator.permutation(np.flatnonzero(members[:, label] & (part < 0))):
            part[group] = _neediest(wanted[:, label], room, generator)
            wanted[part[group]] -= members[group]
            room[part[group]] -= 1
            counts = counts - members[group]
    for group in generator.permutation(np.flatnonzero(part < 0)):
        part[group] = _neediest(room, room, generator)
        room[part[group]] -= 1
    return part


def labels_of_groups(labels: NDArray[np.bool_], group: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Return the labels (groups, classes) that any row of each group has. ``group`` (rows,) numbers the groups."""
    members = np.zeros((group.max(initial=-1) + 1, labels.shape[1]), bool)
    np.logical_or.at(members, group, labels)
    return members


def _neediest(wanted: NDArray[np.float64], room: NDArray[np.float64], generator: np.random.Generator) -> int:
    """Return the part that still needs most. Ties are decided by the most room, then at random."""
    best = np.flatnonzero(wanted == wanted.max())
    best = best[room[best] == room[best].max()]
    return int(best[0] if len(best) == 1 else generator.choice(best))
