"""Rows: what is known of images without any feature, in columns, so that ten million cost megabytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featx.table.arrays import CategoricalArray, Indices, StringArray

NO_LABEL = -1
SEPARATOR = "|"
"""Between the labels of an image that has several, where they are one text."""
Names = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """Paths, the names of each row's classes (none, one or several, sorted), and one value a row by split column."""

    paths: StringArray
    labels: CategoricalArray[Names]
    splits: Mapping[str, CategoricalArray[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Indices) -> "Rows":
        """Those rows, in their order."""
        splits = {name: column.take(rows) for name, column in self.splits.items()}
        return Rows(self.paths.take(rows), self.labels.take(rows), splits)

    @classmethod
    def joined(cls, parts: Sequence["Rows"]) -> "Rows":
        """One after the other; a split column that a part lacks is empty there."""
        names = sorted({name for part in parts for name in part.splits})
        blank = [CategoricalArray.filled("", len(part)) for part in parts]
        splits = {
            name: CategoricalArray.joined(
                [part.splits.get(name, none) for part, none in zip(parts, blank, strict=True)]
            )
            for name in names
        }
        return cls(
            StringArray.joined([part.paths for part in parts]),
            CategoricalArray.joined([part.labels for part in parts]),
            splits,
        )


@dataclass(frozen=True, eq=False)
class EncodedLabels:
    """Labels as numbers: ``codes`` int64 (rows,) into the sorted ``classes``, -1 for none, the first of several;
    ``sets`` all of each row, sorted, or None where no row has several."""

    classes: Names
    codes: NDArray[np.int64]
    sets: CategoricalArray[tuple[int, ...]] | None


def encode_labels(labels: CategoricalArray[Names]) -> EncodedLabels:
    """Number the classes that some row has, in the order of their names."""
    used = labels.used()
    classes = sorted({name for names in used for name in names})
    number = {name: code for code, name in enumerate(classes)}
    sets = [tuple(sorted(number.get(name, NO_LABEL) for name in names)) for names in labels.values]
    first = np.array([codes[0] if codes else NO_LABEL for codes in sets], np.int64)
    several = any(len(names) > 1 for names in used)
    codes = first[labels.codes] if len(labels) else np.zeros(0, np.int64)
    return EncodedLabels(tuple(classes), codes, CategoricalArray(sets, labels.codes) if several else None)


def names_of(
    classes: Sequence[str], codes: NDArray[np.integer], sets: NDArray[np.bool_] | None
) -> CategoricalArray[Names]:
    """The names behind a store's codes, -1 for none, or behind its indicator (rows, classes) if there is one."""
    if sets is None:
        return CategoricalArray(
            [*((name,) for name in classes), ()], np.where(codes < 0, len(classes), codes).astype(np.int32)
        )
    different, inverse = np.unique(sets, axis=0, return_inverse=True)
    values = [tuple(classes[code] for code in np.flatnonzero(row).tolist()) for row in different]
    return CategoricalArray(values, inverse.ravel().astype(np.int32))
