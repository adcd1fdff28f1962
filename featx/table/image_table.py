"""Tables of images: paths, labels and further columns. They need some megabytes of memory per million images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from featx.table.arrays import CategoricalArray, Indices, StringArray

NO_LABEL = -1
"""Class index of an image without a label."""
LABEL_SEPARATOR = "|"
"""Separator between the labels of a multi-label image, if they are written as one text."""
LabelNames = tuple[str, ...]
"""The sorted labels of one image. The tuple is empty for an image without a label."""


@dataclass(frozen=True, eq=False)
class ImageTable:
    """A table with one row per image.

    Attributes
    ----------
    paths : StringArray
    labels : CategoricalArray of tuples of str
        The sorted class names of each image. An image may have none, one or several.
    columns : mapping of str to CategoricalArray of str
        Split and weight columns by name. An image without a value has ``""``.
    """

    paths: StringArray
    labels: CategoricalArray[LabelNames]
    columns: Mapping[str, CategoricalArray[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Indices) -> "ImageTable":
        """Return the given rows, in that order."""
        columns = {name: column.take(rows) for name, column in self.columns.items()}
        return ImageTable(self.paths.take(rows), self.labels.take(rows), columns)

    @classmethod
    def concatenate(cls, parts: Sequence["ImageTable"]) -> "ImageTable":
        """Join tables into one. If a table does not have a column, its rows get ``""`` in this column."""
        names = sorted({name for part in parts for name in part.columns})
        blanks = [CategoricalArray.full("", len(part)) for part in parts]
        columns = {
            name: CategoricalArray.concatenate(
                [part.columns.get(name, blank) for part, blank in zip(parts, blanks, strict=True)]
            )
            for name in names
        }
        return cls(
            StringArray.concatenate([part.paths for part in parts]),
            CategoricalArray.concatenate([part.labels for part in parts]),
            columns,
        )


@dataclass(frozen=True, eq=False)
class EncodedLabels:
    """Labels as class indices.

    Attributes
    ----------
    classes : tuple of str
        The sorted class names.
    codes : int64 (rows,)
        Index into ``classes`` of each row's label. A row without a label has -1. A row with several labels has the
        index of the first one.
    label_sets : CategoricalArray of tuples of int, or None
        All class indices of each row, sorted; None if no row has several labels.
    """

    classes: LabelNames
    codes: NDArray[np.int64]
    label_sets: CategoricalArray[tuple[int, ...]] | None


def encode_labels(labels: CategoricalArray[LabelNames]) -> EncodedLabels:
    """Convert class names to class indices. Classes that occur in no row are dropped."""
    used = labels.used_categories()
    classes = sorted({name for names in used for name in names})
    index_of = {name: index for index, name in enumerate(classes)}
    label_sets = [tuple(sorted(index_of.get(name, NO_LABEL) for name in names)) for names in labels.categories]
    first = np.array([indices[0] if indices else NO_LABEL for indices in label_sets], np.int64)
    multilabel = any(len(names) > 1 for names in used)
    codes = first[labels.codes] if len(labels) else np.zeros(0, np.int64)
    return EncodedLabels(tuple(classes), codes, CategoricalArray(label_sets, labels.codes) if multilabel else None)


def decode_labels(
    classes: Sequence[str], codes: NDArray[np.integer], indicator: NDArray[np.bool_] | None
) -> CategoricalArray[LabelNames]:
    """Convert class indices back to class names.

    Parameters
    ----------
    classes : sequence of str
    codes : int (rows,)
        Index into ``classes`` of each row's label; -1 stands for no label. ``codes`` is ignored if ``indicator`` is
        given.
    indicator : bool (rows, classes), optional
        All labels of each row. It is given if images have several labels.
    """
    if indicator is None:
        names = [*((name,) for name in classes), ()]
        return CategoricalArray(names, np.where(codes < 0, len(classes), codes).astype(np.int32))
    different, inverse = np.unique(indicator, axis=0, return_inverse=True)
    values = [tuple(classes[index] for index in np.flatnonzero(row).tolist()) for row in different]
    return CategoricalArray(values, inverse.ravel().astype(np.int32))
