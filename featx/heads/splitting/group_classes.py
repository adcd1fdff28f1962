"""The classes that each group of rows has."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from featx.heads.splitting.stratification import labels_of_groups


@dataclass(frozen=True, eq=False)
class GroupClasses:
    """The classes that each group of rows has.

    Parameters
    ----------
    group : int array (rows,)
        Number of each row's group, from 0.
    first : int array (groups,)
        A row of each group.
    sizes : int array (groups,)
        Rows of each group.
    needed : sparse array (groups, needed)
        Whether each group has rows of each kind that a head must be trained on. The kinds are the classes. For
        multi-label rows, they are first the presence of each label, and then the absence of each label.
    n_classes : int
    """

    group: NDArray[np.intp]
    first: NDArray[np.intp]
    sizes: NDArray[np.intp]
    needed: Any
    n_classes: int

    @classmethod
    def read(cls, codes: ArrayLike, groups: ArrayLike) -> "GroupClasses":
        """Read the class codes (rows,), or a multi-label indicator (rows, classes), and the groups (rows,) of rows."""
        values = np.asarray(codes)
        _, first, group, sizes = np.unique(
            np.asarray(groups), return_index=True, return_inverse=True, return_counts=True
        )
        if values.ndim == 1:
            count = int(values.max(initial=-1)) + 1
            needed = csr_array((np.ones(len(values), np.int32), (group, values)), (len(first), count))
        else:
            count = values.shape[1]
            has, lacks = labels_of_groups(values > 0, group), labels_of_groups(~(values > 0), group)
            needed = csr_array(np.hstack([has, lacks]).astype(np.int32))
        return cls(group, first, sizes, needed, count)

    @property
    def mixed(self) -> bool:
        """Whether a group has several classes."""
        return bool(self.needed.nnz > len(self.first))

    @property
    def groups_per_class(self) -> NDArray[np.intp]:
        """Number of groups that have each class (classes,)."""
        counts: NDArray[np.intp] = np.bincount(self.needed.indices, minlength=self.n_classes)[: self.n_classes]
        return counts

    @property
    def members(self) -> NDArray[np.bool_]:
        """Whether each group has each class (groups, classes)."""
        dense: NDArray[np.bool_] = self.needed[:, : self.n_classes].toarray() > 0
        return dense

    def has_trained(self, tested: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return for each kind of rows whether a training group has it (needed,). ``tested`` is (groups,)."""
        return np.asarray((~tested).astype(np.int32) @ self.needed > 0)

    def keep_trained(self, tested: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which groups to test (groups,), so that rows of each kind are left to train on.

        If all groups with some kind of rows would be tested, the first of these groups becomes a training group.
        """
        lacking = np.flatnonzero(~self.has_trained(tested))
        if not len(lacking):
            return tested
        columns = self.needed.tocsc()[:, lacking]
        columns.sort_indices()
        kept = tested.copy()
        kept[columns.indices[columns.indptr[:-1][np.diff(columns.indptr) > 0]]] = False
        return kept
