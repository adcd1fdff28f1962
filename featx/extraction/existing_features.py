"""Read which images already have features: in the store that exists, and in the finished parts of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.spec import ExtractSpec
from featx.store import PartFolder, Store, read_part_images
from featx.table import CategoricalArray, ImageTable, StringArray

Digests = NDArray[np.bytes_]
"""The sha256 of each row's image as hex; ``b""`` for rows without features."""
NO_IMAGES = ImageTable(StringArray.from_strings(()), CategoricalArray.from_values(()))


@dataclass(frozen=True)
class ExistingStore:
    """The store that an extraction updates, without its features; empty if there is no store yet.

    ``rows`` and ``digests`` are the images of the store, ``references`` the features of the reference images, and
    ``layout`` and ``dtype`` say how the store keeps features.
    """

    rows: ImageTable = NO_IMAGES
    digests: Digests = field(default_factory=lambda: np.zeros(0, "S64"))
    references: Mapping[str, np.ndarray] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()
    layout: str = "copy"
    dtype: str | None = None

    @classmethod
    def read(cls, path: Path, spec: ExtractSpec) -> "ExistingStore":
        """Read a store.

        Raises
        ------
        SpecMismatch
            If the store has another spec.
        StoreError
            If the file is not a store.
        """
        with Store(path) as store:
            store.spec.check_same(
                spec,
                this=str(path),
                that="this extraction",
                remedy="use the same options, give --overwrite to start again, or choose another --output",
            )
            rows, digests = store.image_table()
            return cls(
                rows,
                digests,
                store.reference_features,
                store.failures,
                "virtual" if store.parts else "copy",
                store.dtype,
            )

    def has_same_content(self, rows: ImageTable, digests: Digests, failures: Sequence[tuple[str, str]]) -> bool:
        """Tell whether the store has just these images and failures, whatever their labels."""
        return (
            np.array_equal(self.digests, digests)
            and np.array_equal(self.rows.paths.find(rows.paths), np.arange(len(rows)))
            and self.rows.columns.keys() == rows.columns.keys()
            and sorted(self.failures) == sorted(failures)
        )


@dataclass(frozen=True)
class FinishedParts:
    """Paths and digests of the images with features in finished parts, and (path, reason) of the failures."""

    paths: StringArray
    digests: Digests
    failures: list[tuple[str, str]]


def read_finished_parts(folder: PartFolder) -> FinishedParts:
    """Read which images the finished parts of a run hold."""
    paths, digests, failures = [NO_IMAGES.paths], [np.zeros(0, "S64")], list[tuple[str, str]]()
    for path in folder.part_files():
        part_paths, part_digests, part_failures = read_part_images(path)
        paths.append(part_paths)
        digests.append(part_digests)
        failures += part_failures
    # An image that failed in several parts is one failure; the last reason counts.
    return FinishedParts(StringArray.concatenate(paths), np.concatenate(digests), list(dict(failures).items()))
