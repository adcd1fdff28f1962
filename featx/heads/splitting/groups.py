"""Combine several kinds of groups. Rows that share a group of any kind get the same group number."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

NO_GROUP = ""
"""Value of rows that are in no group of the user. A manifest has an empty cell for such rows."""


def combine_groups(
    images: ArrayLike, given: ArrayLike | None = None, pairs: ArrayLike | None = None
) -> NDArray[np.intp]:
    """Number the groups of rows that must stay together.

    Two rows are in one group if their images are equal, if they share a given group, or if they are one of the pairs.
    If a row belongs to two groups, these become one group.

    Parameters
    ----------
    images : array (rows,)
        Identifies the image of each row, such as the digest of its file.
    given : str or int array (rows,), optional
        Groups of the user, such as patients. An empty text means that the row is in no such group.
    pairs : int array (pairs, 2), optional
        Numbers of rows that belong together, such as near-duplicates.

    Returns
    -------
    int array (rows,)
        Group numbers from 0. Without ``given`` and ``pairs``, the number of a row is the position of its value in the
        sorted unique values of ``images``.
    """
    names, group = np.unique(np.asarray(images), return_inverse=True)
    links = []
    if given is not None:
        values, codes = np.unique(np.asarray(given), return_inverse=True)
        known = (values != NO_GROUP)[codes] if values.dtype.kind in "US" else np.ones(len(codes), bool)
        # The nodes of the graph are the images, followed by the given groups.
        links.append(np.column_stack([group[known], len(names) + codes[known]]))
    if pairs is not None:
        links.append(group[np.asarray(pairs, dtype=np.intp).reshape(-1, 2)])
    if not sum(map(len, links)):
        return np.asarray(group, np.intp)
    edges = np.concatenate(links)
    nodes = max(len(names), int(edges.max()) + 1)
    graph = coo_array((np.ones(len(edges), bool), tuple(edges.T)), (nodes, nodes))
    component = connected_components(graph, directed=False)[1][: len(names)]
    _, first, position = np.unique(component, return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first))
    return np.asarray(numbers[position][group], np.intp)
