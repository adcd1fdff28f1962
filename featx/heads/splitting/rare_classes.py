"""Name the classes that have too few images for every fold to test them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featx.heads.splitting.folds import Fold
from featx.heads.splitting.group_classes import GroupClasses
from featx.runtime import pluralize, shorten_list


@dataclass(frozen=True)
class RareClasses:
    """The classes that some folds do not test, because they have fewer images or groups than there are folds.

    Parameters
    ----------
    folds : int
        Number of folds that were asked for.
    untested : tuple of str
        Classes that no fold tests, although every fold trains on them.
    partly_tested : dict of str to int
        For each other class with fewer images or groups than ``folds``, the number of its images or groups.
    untested_rows : int
        Number of rows that no fold tests.
    """

    folds: int
    untested: tuple[str, ...] = ()
    partly_tested: dict[str, int] = field(default_factory=dict)
    untested_rows: int = 0

    def __bool__(self) -> bool:
        """Return whether any class or row is not tested in full."""
        return bool(self.untested or self.partly_tested or self.untested_rows)

    def messages(self, unit: str = "image") -> list[str]:
        """Say what is not tested, in one phrase per kind. Folds keep a ``unit`` together: ``image`` or ``group``."""
        found = []
        if self.untested:
            one, count = len(self.untested) == 1, pluralize(len(self.untested), "class", "classes")
            names = shorten_list(self.untested)
            found.append(
                f"class {names} has one {unit}: every fold trains on it and none tests it, so no score covers it"
                if one
                else f"{count} have one {unit} each: every fold trains on them and none tests them, so no score "
                f"covers them: {names}"
            )
        if self.partly_tested:
            names = shorten_list([f"{name} ({count})" for name, count in self.partly_tested.items()])
            few = pluralize(len(self.partly_tested), "class has", "classes have")
            them = "it" if len(self.partly_tested) == 1 else "them"
            found.append(f"{few} fewer {unit}s than the {self.folds} folds, so not every fold tests {them}: {names}")
        if self.untested_rows and not self.untested:
            found.append(
                f"{pluralize(self.untested_rows, 'image is', 'images are')} not tested in any fold: a class has no "
                f"other {unit} to train on"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the classes as JSON values."""
        return {
            "folds": self.folds,
            "never_tested": list(self.untested),
            "fewer_than_folds": dict(self.partly_tested),
            "images_never_tested": self.untested_rows,
        }


def find_rare_classes(
    y: ArrayLike,
    groups: ArrayLike | None,
    folds: Sequence[Fold],
    n_splits: int,
    *,
    names: Sequence[object] | None = None,
    plain: ArrayLike | None = None,
) -> RareClasses:
    """Find the classes that not every fold tests, and count the rows that no fold tests.

    Parameters
    ----------
    y, groups, n_splits, plain
        As in `featx.heads.make_folds`.
    folds : sequence of (train, test)
        The folds that `featx.heads.make_folds` made.
    names : sequence (classes,), optional
        Names of the columns of a multi-label indicator, by default their numbers.
    """
    labels = np.asarray(y)
    rows = np.arange(len(labels)) if plain is None else np.flatnonzero(plain)
    owners = np.arange(len(labels)) if groups is None else np.asarray(groups)
    tested = np.zeros(len(labels), bool)
    for _, test in folds:
        tested[test] = True
    classes: list[object]
    if labels.ndim == 2:
        classes = list(range(labels.shape[1]) if names is None else names)
        codes: NDArray[Any] = labels[rows] > 0
        covered = codes[tested[rows]].any(axis=0)
    else:
        unique, codes = np.unique(labels[rows], return_inverse=True)
        classes = unique.tolist()
        covered = np.bincount(codes[tested[rows]], minlength=len(classes)) > 0
    counts = GroupClasses.read(codes, owners[rows]).groups_per_class
    few = np.flatnonzero(covered & (counts < n_splits)).tolist()
    return RareClasses(
        n_splits,
        tuple(str(classes[code]) for code in np.flatnonzero(~covered).tolist()),
        {str(classes[code]): int(counts[code]) for code in few},
        int((~tested[rows]).sum()),
    )
