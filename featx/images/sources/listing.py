"""The common form of all sources of images: paths, labels and columns, and a function that reads an image."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from featx.images.sources.files import full_path
from featx.images.sources.local_files import UNREADABLE
from featx.images.sources.notes import Note, count_list
from featx.images.sources.similar_names import note_missing_names, note_similar_names
from featx.images.sources.summary import ListingSummary
from featx.table import CategoricalArray, EncodedLabels, ImageTable, StringArray, encode_labels

T = TypeVar("T")
Failures = tuple[tuple[str, str], ...]
"""The path of each image that failed, and the reason."""


def unknown_size(_row: int) -> int:
    """Return 0, which stands for a size that is not known without reading the file."""
    return 0


@dataclass(frozen=True, eq=False)
class Listing:
    """Images in a fixed order. Every source is turned into a listing.

    Attributes
    ----------
    root : Path or str
        The folder or URL that paths are relative to.
    rows : ImageTable
        Paths, labels and columns. Paths have ``/`` separators. Bytes of a path that are not UTF-8 are kept as surrogate
        escapes.
    read : callable
        Takes the number of a row, and returns the bytes of its image file. It can be called in any thread. If the file
        cannot be read, it raises ``OSError``, ``ValueError`` or ``ImageError``.
    failures : tuple of (str, str)
        The sorted paths of images that exist but could not be listed, each with the reason.
    size : callable
        Takes the number of a row, and returns the number of bytes of its image file; 0 if this is not known without
        reading the file. It raises the same errors as ``read``.
    layout : str
        How the source was read, as a phrase such as ``"class folders"``.
    source_names : mapping of str to str
        For each column that has another name in the source: that name. The key ``label`` stands for the labels.
    notes : tuple of Note
        What was skipped, guessed, merged or converted.
    """

    root: Path | str
    rows: ImageTable
    read: Callable[[int], bytes]
    failures: Failures = ()
    size: Callable[[int], int] = unknown_size
    layout: str = ""
    source_names: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()

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

    @cached_property
    def summary(self) -> ListingSummary:
        """How the source was read, and the number of images in each class and split."""
        classes, unlabeled = Counter[str](), 0
        for labels, count in _count(self.rows.labels):
            classes.update(dict.fromkeys(labels, count))
            unlabeled += 0 if labels else count
        splits = Counter[str]()
        for split, count in _count(self.columns["split"]) if "split" in self.columns else []:
            splits[split] += count  # Two categories may have the same name.
        del splits[""]
        return ListingSummary(
            images=len(self),
            unlabeled=unlabeled,
            classes=dict(sorted(classes.items())),
            splits=dict(sorted(splits.items())),
            columns={**{name: name for name in sorted(self.columns)}, **self.source_names},
            layout=self.layout,
            failures=len(self.failures),
            notes=(*self.notes, *self._check_names(classes, splits)),
        )

    def _check_names(self, classes: Mapping[str, int], splits: Mapping[str, int]) -> tuple[Note, ...]:
        """Say which classes or splits may be the same ones, and which classes are only in other splits than train."""
        notes = (
            *note_similar_names(classes, "classes"),
            *note_similar_names(splits, "splits"),
            *note_missing_names(classes),
        )
        if "train" not in splits:
            return notes
        split, labels = self.columns["split"], self.rows.labels
        train = [code for code, name in enumerate(split.categories) if name == "train"]
        in_train = labels.take(np.flatnonzero(np.isin(split.codes, train)))
        known = {name for names in in_train.used_categories() for name in names}
        missing = {name: count for name, count in classes.items() if name not in known}
        if not missing or not known:
            return notes
        text = f"classes without an image in the split train: {count_list(missing)}"
        return (*notes, Note("hint", text, len(missing)))

    def add_notes(self, *notes: Note) -> "Listing":
        """Return a listing with more notes."""
        return dataclasses.replace(self, notes=(*self.notes, *notes)) if notes else self

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all classes, sorted."""
        return self._encoded.classes

    @property
    def labels(self) -> NDArray[np.int64]:
        """Index into ``classes`` of each image's label, int64 (rows,).

        An image without a label has -1. An image with several labels has the index of the first one.
        """
        return self._encoded.codes

    @property
    def label_sets(self) -> CategoricalArray[tuple[int, ...]] | None:
        """Sorted indices into ``classes`` of all labels of each image; None if no image has several labels."""
        return self._encoded.label_sets

    @cached_property
    def _encoded(self) -> EncodedLabels:
        return encode_labels(self.rows.labels)

    def drop_duplicates(self) -> "Listing":
        """Return a listing with only the first image of each path. Only a sequence of paths can have duplicates."""
        if len(set(self.paths)) == len(self):
            return self
        first, read, size = self.paths.find(self.paths), self.read, self.size
        rows = np.flatnonzero(first == np.arange(len(self)))
        return dataclasses.replace(
            self,
            rows=self.rows.take(rows),
            read=lambda row: read(int(rows[row])),
            size=lambda row: size(int(rows[row])),
        )

    @property
    def unreadable(self) -> list[str]:
        """The paths of folders, shards and files among the failures that cannot be read now, but may be whole."""
        return [path for path, reason in self.failures if reason.startswith(UNREADABLE)]

    def full_path(self, path: str) -> str:
        """Join the root and a path, to show them in a message."""
        return full_path(self.root, path)

    def digest(self, row: int) -> str:
        """Compute the sha256 of an image file, as hex; raise the same errors as ``read``."""
        return hashlib.sha256(self.read(row)).hexdigest()


def _count(column: CategoricalArray[T]) -> list[tuple[T, int]]:
    """Count the rows of each category that occurs."""
    counts = np.bincount(column.codes, minlength=len(column.categories)).tolist()
    return [(value, count) for value, count in zip(column.categories, counts, strict=True) if count]


def first_failure(failures: Failures) -> str:
    """Describe the first failure in words that end an error message; return ``""`` if there is no failure."""
    return f"; {failures[0][0]!r} {failures[0][1]}" if failures else ""
