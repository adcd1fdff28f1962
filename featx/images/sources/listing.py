"""A listing: which images there are, in a fixed order, what is known of each, and how its bytes are read."""

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


def unknown(_row: int) -> int:
    """The size of a file that only reading it can tell."""
    return 0


@dataclass(frozen=True, eq=False)
class Listing:
    """Images in a fixed order, whatever they lie in: the one thing that every source gives.

    ``rows`` hold paths with ``/`` separators, which keep bytes that are not UTF-8 as surrogate escapes, labels and
    split columns, compactly. ``read(row)`` gives the bytes of one image file, in any thread; what hinders it is an
    ``OSError``, a ``ValueError`` or an ``ImageError``. ``root``, a folder or a URL, is what paths are relative to.
    ``size(row)`` is how many bytes that will be, 0 if only reading them can tell; errors as ``read``.
    ``failures`` are (path, reason) of what was there but could not be listed, sorted.
    """

    root: Path | str
    rows: ImageTable
    read: Callable[[int], bytes]
    failures: Failures = ()
    size: Callable[[int], int] = unknown

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def paths(self) -> StringArray:
        """The images' paths."""
        return self.rows.paths

    @property
    def columns(self) -> Mapping[str, CategoricalArray[str]]:
        """Split and weight columns by name, one value per image."""
        return self.rows.columns

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes, sorted."""
        return self._coded.classes

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 (rows,): index into ``classes``, -1 for none; the first where an image has several."""
        return self._coded.codes

    @property
    def label_sets(self) -> CategoricalArray[tuple[int, ...]] | None:
        """The sorted indices of all labels of each row, where some image has several."""
        return self._coded.label_sets

    @cached_property
    def _coded(self) -> EncodedLabels:
        return encode_labels(self.rows.labels)

    def drop_duplicates(self) -> "Listing":
        """The same without the images whose path stands before; only a sequence of paths may have such."""
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
        """What a person finds the image of a path by."""
        return full_path(self.root, path)

    def digest(self, row: int) -> str:
        """sha256 of an image file's bytes, as hex; errors as ``read``."""
        return hashlib.sha256(self.read(row)).hexdigest()


def first_failure(failures: Failures) -> str:
    """The first of the failures, to end a message with."""
    return f"; {failures[0][0]!r} {failures[0][1]}" if failures else ""
