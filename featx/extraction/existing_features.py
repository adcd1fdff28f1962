"""Find the images that already have features in the existing store or in the finished parts of a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.spec import ExtractSpec
from featx.store import PartFolder, Store, read_part_images
from featx.table import CategoricalArray, ImageTable, StringArray

Digests = NDArray[np.bytes_]
"""The sha256 digest of the image of each row, in hexadecimal. It is ``b""`` for a row without features."""
NO_IMAGES = ImageTable(StringArray.from_strings(()), CategoricalArray.from_values(()))


@dataclass(frozen=True)
class ExistingStore:
    """The contents of the store that an extraction updates, except its features. They are empty if there is no store.

    ``rows`` and ``digests`` describe the images of the store. ``references`` holds the features of the reference
    images. ``layout`` and ``dtype`` say how the store keeps features. ``listing`` says how its source was read.
    """

    rows: ImageTable = NO_IMAGES
    digests: Digests = field(default_factory=lambda: np.zeros(0, "S64"))
    references: Mapping[str, np.ndarray] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()
    layout: str = "copy"
    dtype: str | None = None
    listing: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, spec: ExtractSpec) -> "ExistingStore":
        """Read the contents of a store, except its features.

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
                store.listing,
            )

    def has_same_content(
        self,
        rows: ImageTable,
        digests: Digests,
        failures: Sequence[tuple[str, str]],
        listing: Mapping[str, Any],
    ) -> bool:
        """Return whether the store has exactly these images and failures, read in this way. Labels are not compared.

        A store of an older version does not say how its source was read. For such a store, only the rest is compared.
        """
        return (
            np.array_equal(self.digests, digests)
            and np.array_equal(self.rows.paths.find(rows.paths), np.arange(len(rows)))
            and self.rows.columns.keys() == rows.columns.keys()
            and sorted(self.failures) == sorted(failures)
            and self.listing in ({}, listing)
        )


@dataclass(frozen=True)
class FinishedParts:
    """The images that have features in finished parts, with their digests, and the (path, reason) of each failure."""

    paths: StringArray
    digests: Digests
    failures: list[tuple[str, str]]


def read_finished_parts(folder: PartFolder) -> FinishedParts:
    """Read which images are in the finished parts of a run."""
    paths, digests, failures = [NO_IMAGES.paths], [np.zeros(0, "S64")], list[tuple[str, str]]()
    for path in folder.part_files():
        part_paths, part_digests, part_failures = read_part_images(path)
        paths.append(part_paths)
        digests.append(part_digests)
        failures += part_failures
    # An image that failed in several parts counts as one failure, with the reason that was recorded last.
    return FinishedParts(StringArray.concatenate(paths), np.concatenate(digests), list(dict(failures).items()))
