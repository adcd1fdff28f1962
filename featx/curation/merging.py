"""Merge: several stores of one spec as one."""

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
class Merged:
    """The new store, how many images it has, and how many stood in several stores."""

    store: str
    images: int
    duplicates: int


@dataclass(frozen=True, eq=False)
class _Contents:
    path: Path
    spec: ExtractSpec
    rows: ImageTable
    digests: np.ndarray
    golden: dict[str, np.ndarray]
    failures: list[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> "_Contents":
        with Store(path) as store:
            return cls(path, store.spec, *store.image_table(), store.reference_features, store.failures)


def merge(
    stores: Sequence[str | Path], output: str | Path, *, duplicates: str = "error", overwrite: bool = False
) -> Merged:
    """Write the images of several stores as one store: those of the first in their order, then what each next adds.

    Parameters
    ----------
    stores : sequence of paths
        Two or more, of the same spec.
    output : path
        The store to write; it may be one of them.
    duplicates : str
        What to do with a path that several stores have: if bytes, labels and splits agree it is one image, else it is
        an ``error``, or the ``first`` or the ``last`` store's image is taken.
    overwrite : bool
        Replace what ``output`` holds.

    Raises
    ------
    SpecError
        If there are fewer than two stores, or ``duplicates`` is another word.
    SpecMismatch
        If specs differ, or the golden features of the machines that made the stores.
    DataError
        If an image is in several stores and differs.
    StoreError
        If a store cannot be read, or the new one written; ``StoreExists`` if it is there without ``overwrite``.
    """
    if duplicates not in DUPLICATES:
        raise SpecError(f"--duplicates of merge must be one of {', '.join(DUPLICATES)}, got {duplicates!r}")
    if len(stores) < 2:
        raise SpecError(f"merge takes at least two stores, got {len(stores)}")
    check_absent(Path(output), overwrite=overwrite)
    contents = [_Contents.read(Path(store)) for store in stores]
    one = contents[0]
    for other in contents[1:]:
        _check_same(one, other)
    rows = ImageTable.concatenate([each.rows for each in contents])
    digests = np.concatenate([each.digests for each in contents])
    numbers, first = np.arange(len(rows)), rows.paths.find(rows.paths)
    again = np.flatnonzero(first != numbers)
    if duplicates == "error":
        _check_equal(contents, rows, digests, first, again)
    # Of the rows of a path one stays, at the place of the first; of values for one place numpy keeps the last.
    taken = numbers.copy()
    if duplicates == "last":
        taken[first] = numbers
    taken = taken[first == numbers]
    rows = rows.take(taken)
    table = RowTable.from_images(rows, digests[taken], _failures(contents, rows), one.spec.n_views)
    sources = [each.path for each in contents]
    ranked = sources if duplicates == "last" else sources[::-1]
    write_store(Path(output), table, one.spec, one.golden, ranked, overwrite=overwrite)
    return Merged(str(output), len(rows), len(np.unique(first[again])))


def _check_same(first: _Contents, other: _Contents) -> None:
    """Raise ``SpecMismatch`` if two stores' features are not to be mixed."""
    remedy = "extract one of them with the options of the other"
    first.spec.check_same(other.spec, this=str(first.path), that=str(other.path), remedy=remedy)
    for name, values in first.golden.items():
        error = relative_error(other.golden[name], values)
        if not error <= first.spec.tolerance:
            raise SpecMismatch(
                f"{name} of the golden images in {other.path} is {error:.2g} away from that in {first.path}, where "
                f"{first.spec.precision} allows {first.spec.tolerance:.2g}: machines or versions that compute other "
                "features made them; extract one of them anew where the other was made"
            )


def _check_equal(
    contents: Sequence[_Contents], rows: ImageTable, digests: np.ndarray, first: Indices, again: Indices
) -> None:
    """Raise ``DataError`` for an image that is in a store again, and otherwise than where it is first."""
    splits = {name: column.codes for name, column in rows.columns.items()}
    for name, values in {"bytes": digests, "labels": rows.labels.codes, **splits}.items():
        differing = again[values[again] != values[first[again]]]
        if len(differing):
            row = int(differing[0])
            edges = np.cumsum([len(each.rows) for each in contents])
            earlier, later = (contents[at].path for at in np.searchsorted(edges, [first[row], row], "right").tolist())
            raise DataError(
                f"{rows.paths[row]!r} of {later} has other {name} than in {earlier}; "
                "give --duplicates first or last to take one of them"
            )


def _failures(contents: Sequence[_Contents], rows: ImageTable) -> set[tuple[str, str]]:
    """The failures of all stores, less those of images that have a row."""
    failures = dict(failure for each in reversed(contents) for failure in each.failures)
    have = set(rows.paths) & failures.keys()
    return {(path, reason) for path, reason in failures.items() if path not in have}
