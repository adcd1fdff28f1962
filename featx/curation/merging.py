"""Merge several stores that have the same spec into one store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featx.engines import relative_error
from featx.errors import DataError, SpecError, SpecMismatch
from featx.spec import ExtractSpec
from featx.store import RowTable, Store, check_absent, write_store
from featx.table import ImageTable, Indices

DUPLICATES = ("error", "first", "last")


@dataclass(frozen=True)
class MergedStore:
    """The result of `merge`.

    Attributes
    ----------
    store : str
        The new store.
    images, duplicates : int
        Number of images in the new store, and how many of them were in several of the merged stores.
    """

    store: str
    images: int
    duplicates: int


@dataclass(frozen=True, eq=False)
class _Contents:
    """The contents of a store, except its features."""

    path: Path
    spec: ExtractSpec
    images: ImageTable
    digests: np.ndarray
    reference: dict[str, np.ndarray]
    failures: list[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> "_Contents":
        with Store(path) as store:
            return cls(path, store.spec, *store.image_table(), store.reference_features, store.failures)


def merge(
    stores: Sequence[str | Path], output: str | Path, *, duplicates: str = "error", overwrite: bool = False
) -> MergedStore:
    """Write the images of several stores to one store.

    The images of the first store come first. Then come the images that each of the other stores adds.

    Parameters
    ----------
    stores : sequence of paths
        Two or more stores of the same spec.
    output : path
        The store to write. It may be one of ``stores``.
    duplicates : {"error", "first", "last"}
        What to do if the same path has different bytes, labels or columns in several stores. ``error`` raises an error.
        ``first`` and ``last`` take the image of the first or last of these stores. If the bytes, labels and columns are
        equal, the path always becomes one image.
    overwrite : bool
        Replace ``output`` if it exists.

    Raises
    ------
    SpecError
        If there are fewer than two stores, or ``duplicates`` is unknown.
    SpecMismatch
        If the specs differ, or if the machines that made the stores computed different reference features.
    DataError
        If an image differs between stores and ``duplicates`` is ``error``.
    StoreExists
        If ``output`` exists and ``overwrite`` is false.
    StoreError
        If a store cannot be read or written.
    """
    if duplicates not in DUPLICATES:
        raise SpecError(f"--duplicates of merge must be one of {', '.join(DUPLICATES)}, got {duplicates!r}")
    if len(stores) < 2:
        raise SpecError(f"merge needs at least two stores, got {len(stores)}")
    check_absent(Path(output), overwrite=overwrite)
    contents = [_Contents.read(Path(store)) for store in stores]
    one = contents[0]
    for other in contents[1:]:
        _check_compatible(one, other)
    images = ImageTable.concatenate([each.images for each in contents])
    digests = np.concatenate([each.digests for each in contents])
    numbers, first = np.arange(len(images)), images.paths.find(images.paths)
    repeated = np.flatnonzero(first != numbers)
    if duplicates == "error":
        _check_equal(contents, images, digests, first, repeated)
    # Each path keeps one row, at the position where the path occurs first. With "last", this row holds the last image
    # with the path: if several values are assigned to one position, numpy keeps the last one.
    taken = numbers.copy()
    if duplicates == "last":
        taken[first] = numbers
    taken = taken[first == numbers]
    images = images.take(taken)
    table = RowTable.from_images(images, digests[taken], _failures(contents, images), one.spec.n_views)
    sources = [each.path for each in contents]
    # If several sources have the same row, the features of the last source are written.
    sources = sources if duplicates == "last" else sources[::-1]
    write_store(Path(output), table, one.spec, one.reference, sources, overwrite=overwrite)
    return MergedStore(str(output), len(images), len(np.unique(first[repeated])))


def _check_compatible(first: _Contents, other: _Contents) -> None:
    """Raise ``SpecMismatch`` if two stores have features that must not be mixed."""
    remedy = "extract one of them with the options of the other"
    first.spec.check_same(other.spec, this=str(first.path), that=str(other.path), remedy=remedy)
    for name, values in first.reference.items():
        error = relative_error(other.reference[name], values)
        if not error <= first.spec.tolerance:
            raise SpecMismatch(
                f"the reference images differ by {error:.2g} in {name} between {first.path} and {other.path}, but "
                f"{first.spec.precision} allows {first.spec.tolerance:.2g}: the machines or versions that made the "
                "stores compute different features; extract one of them again where the other was made"
            )


def _check_equal(
    contents: Sequence[_Contents], images: ImageTable, digests: np.ndarray, first: Indices, repeated: Indices
) -> None:
    """Raise ``DataError`` if an image differs from its first occurrence in the stores."""
    columns = {name: column.codes for name, column in images.columns.items()}
    for name, values in {"bytes": digests, "labels": images.labels.codes, **columns}.items():
        differing = repeated[values[repeated] != values[first[repeated]]]
        if len(differing):
            row = int(differing[0])
            ends = np.cumsum([len(each.images) for each in contents])
            earlier, later = (contents[at].path for at in np.searchsorted(ends, [first[row], row], "right").tolist())
            raise DataError(
                f"{images.paths[row]!r} has other {name} in {later} than in {earlier}; "
                "choose one of them with --duplicates first or last"
            )


def _failures(contents: Sequence[_Contents], images: ImageTable) -> set[tuple[str, str]]:
    """Return the failures of all stores. An image that failed in one store is left out if another store has it."""
    failures = dict(failure for each in reversed(contents) for failure in each.failures)
    present = set(images.paths) & failures.keys()
    return {(path, reason) for path, reason in failures.items() if path not in present}
