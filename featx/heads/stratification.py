"""Dealing out rows with several labels so that every part has its share of each label."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def stratify_multilabel(members: NDArray[np.bool_], shares: ArrayLike, seed: int) -> NDArray[np.intp]:
    """The part (groups,) that each group goes to, with about its share of each label in each.

    Iterative stratification: Sechidis, Tsoumakas & Vlahavas (2011), "On the stratification of multi-label data". The
    rarest label is dealt out first, each time to the part that lacks most of it.

    Parameters
    ----------
    members : bool array (groups, classes)
        The labels of each group of rows that stay together.
    shares : array (parts,)
        What of all each part shall have, adding up to 1.
    seed : int
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


def _neediest(wanted: NDArray[np.float64], room: NDArray[np.float64], generator: np.random.Generator) -> int:
    """The part that lacks most; of equals the one with most room; of equals any."""
    best = np.flatnonzero(wanted == wanted.max())
    best = best[room[best] == room[best].max()]
    return int(best[0] if len(best) == 1 else generator.choice(best))
