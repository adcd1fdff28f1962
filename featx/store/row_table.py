"""Collect the rows of a store before it is written, without their features."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from featx.store.datasets import write_column, write_indicator, write_strings
from featx.store.schema import write_failures, write_listing
from featx.table import ImageTable, StringArray, encode_labels


@dataclass(frozen=True)
class RowTable:
    """The rows of a store, in the order in which they are written. Each image has ``n_views`` adjacent rows.

    Attributes
    ----------
    paths, digests : sequence of str
        The image file of each row, and the sha256 of this file as hex.
    labels : int (rows,)
        Index into ``classes`` of each row's label. A row without a label has -1. A row of a multi-label image has the
        index of the first label.
    classes : sequence of str
        The sorted class names.
    columns : mapping of str to sequence of str
        Split and weight columns by name.
    failures : sequence of (path, reason)
        The images that failed and have no row.
    label_sets : sequence of sequences of int, optional
        All labels of each row. None if no image has several labels.
    n_views : int
        Number of rows per image. The first row is the plain image; the others are augmented copies.
    listing : mapping
        How the source of the images was read: ``layout``, ``columns`` and ``notes``; empty if it is not known.
    """

    paths: Sequence[str]
    digests: Sequence[str]
    labels: np.ndarray
    classes: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    failures: Sequence[tuple[str, str]]
    label_sets: Sequence[Sequence[int]] | None = None
    n_views: int = 1
    listing: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_images(
        cls,
        images: ImageTable,
        digests: np.ndarray,
        failures: Iterable[tuple[str, str]],
        n_views: int = 1,
        listing: Mapping[str, Any] | None = None,
    ) -> "RowTable":
        """Create the table of all images that have features.

        Parameters
        ----------
        images : ImageTable
        digests : S64 (images,)
            The sha256 of each image file, as hex; ``b""`` for an image that gets no row.
        failures : iterable of (path, reason)
        n_views : int
            Number of rows per image.
        listing : mapping, optional
            How the source was read.
        """
        kept = np.repeat(np.flatnonzero(digests), n_views)
        images, labels = images.take(kept), encode_labels(images.labels.take(kept))
        return cls(
            paths=images.paths,
            digests=StringArray.from_bytes(digests[kept].tolist()),
            labels=labels.codes,
            classes=labels.classes,
            columns=dict(sorted(images.columns.items())),
            failures=sorted(failures),
            label_sets=labels.label_sets,
            n_views=n_views,
            listing=listing or {},
        )

    @property
    def view_index(self) -> np.ndarray:
        """The number of each row's augmented copy, int32 (rows,); 0 stands for the plain image."""
        return np.arange(len(self.paths), dtype="i4") % self.n_views

    def write(self, store: h5py.File) -> None:
        """Write the table to a store."""
        rows = store.create_group("rows")
        write_strings(rows, "path", self.paths)
        write_strings(rows, "digest", self.digests)
        write_column(rows, "label", self.labels.astype("i4"))
        if self.label_sets is not None:
            write_indicator(rows, "labels_multi", self.label_sets, len(self.classes))
        write_column(rows, "view", self.view_index)
        write_strings(store, "classes", self.classes)
        for column, values in self.columns.items():
            write_strings(store.require_group("splits"), column, values)
        write_failures(store, self.failures)
        write_listing(store, self.listing)
