"""A listing of images: their paths, labels and columns in a fixed order, and how to read them."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.images.sources.files import full_path
from featx.table import CategoricalArray, EncodedLabels, ImageTable, StringArray, encode_labels

Failures = tuple[tuple[str, str], ...]
"""Path and reason of each image that failed."""


def unknown_size(_row: int) -> int:
    """Return 0, the size of a file that only reading would tell."""
    return 0


@dataclass(frozen=True, eq=False)
class Listing:
    """Images in a fixed order: what every source is turned into.

    Attributes
    ----------
    root : Path or str
        The folder or URL that paths are relative to.
    rows : ImageTable
        Paths, labels and columns. Paths have ``/`` separators; bytes that are not UTF-8 are kept as surrogate escapes.
    read : callable
        From the number of a row to the bytes of the image file, in any thread. It raises ``OSError``, ``ValueError`` or
        ``ImageError`` if that fails.
    failures : tuple of (str, str)
        Path and reason of each image that exists but could not be listed, sorted.
    size : callable
        From the number of a row to the number of bytes, 0 if only reading would tell. Errors as ``read``.
    """

    root: Path | str
    rows: ImageTable
    read: Callable[[int], bytes]
    failures: Failures = ()
    size: Callable[[int], int] = unknown_size

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return (
            f"Listing({len(self):,} images in {len(self.classes):,} classes below {self.root}, "
            f"{len(self.failures):,} failures)"
        )

    @property
    def paths(self) -> StringArray:
        """Path of each image."""
        return self.rows.paths

    @property
    def columns(self) -> Mapping[str, CategoricalArray[str]]:
        """Split and weight columns by name, one value per image."""
        return self.rows.columns

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, sorted."""
        return self._encoded.classes

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index into ``classes`` of each image, int64 (rows,): -1 without a label, the first of several labels."""
        return self._encoded.codes

    @property
    def label_sets(self) -> CategoricalArray[tuple[int, ...]] | None:
        """Sorted indices into ``classes`` of all labels of each image; None if no image has several."""
        return self._encoded.label_sets

    @cached_property
    def _encoded(self) -> EncodedLabels:
        return encode_labels(self.rows.labels)

    def drop_duplicates(self) -> "Listing":
        """Keep only the first image of each path. Only a sequence of paths can have duplicates."""
        if len(set(self.paths)) == len(self):
            return self
        first, read, size = self.paths.find(self.paths), self.read, self.size
        rows = np.flatnonzero(first == np.arange(len(self)))
        return Listing(
            self.root,
            self.rows.take(rows),
            lambda row: read(int(rows[row])),
            self.failures,
            lambda row: size(int(rows[row])),
        )

    def full_path(self, path: str) -> str:
        """Join the root and a path, for a message."""
        return full_path(self.root, path)

    def digest(self, row: int) -> str:
        """Compute the sha256 of the bytes of an image file, as hex; errors as ``read``."""
        return hashlib.sha256(self.read(row)).hexdigest()


def first_failure(failures: Failures) -> str:
    """Format the first failure as the end of a message."""
    return f"; {failures[0][0]!r} {failures[0][1]}" if failures else ""
