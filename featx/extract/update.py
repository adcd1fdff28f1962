"""Bringing a store up to date: what of it still holds, and the rows that it shall have."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.errors import StoreError
from featx.hdf5 import open_contained
from featx.images import Listing
from featx.rows import Rows
from featx.spec import ExtractSpec
from featx.store import Part, PartFolder, Store, layout
from featx.texts import BATCH, Column, Texts

Digests = NDArray[np.bytes_]
"""One sha256 a row, as hex; ``b""`` where there are no features."""
NONE = Rows(Texts.of(()), Column.of(()))


@dataclass(frozen=True)
class OldStore:
    """The store that was there: images' rows and digests, golden features, how it keeps features. Empty if none was."""

    rows: Rows = NONE
    digests: Digests = field(default_factory=lambda: np.zeros(0, "S64"))
    golden: Mapping[str, np.ndarray] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()
    assembly: str = "copy"
    dtype: str | None = None

    @classmethod
    def read(cls, path: Path, spec: ExtractSpec) -> "OldStore":
        """Read a store of the same spec; ``SpecMismatch`` if it holds another, ``StoreError`` if it is none."""
        with Store(path) as store:
            store.spec.check_same(
                spec,
                this=str(path),
                that="this extraction",
                remedy="extract with the same options, give --overwrite to start anew, or another --output",
            )
            rows, digests = store.images()
            return cls(rows, digests, store.golden, store.failures, "virtual" if store.parts else "copy", store.dtype)


@dataclass(frozen=True)
class Finished:
    """What the finished parts hold: paths and digests of images with features, and the failures."""

    paths: Texts
    digests: Digests
    failures: list[tuple[str, str]]


def read_parts(folder: PartFolder) -> Finished:
    """Read which images the finished parts hold."""
    paths, digests, failures = [NONE.paths], [np.zeros(0, "S64")], list[tuple[str, str]]()
    for path in folder.part_files():
        with open_contained(path, StoreError) as file:
            rows = file["rows"]
            plain = np.array(layout.read_views(file)) == 0
            paths.append(layout.read_texts(rows["path"]).take(np.flatnonzero(plain)))
            digests.append(rows["digest"][:].astype("S64")[plain])
            failures += layout.read_failures(file)
    return Finished(Texts.joined(paths), np.concatenate(digests), failures)


class Ledger:
    """Which images of a listing have features, which failed, and which are to be extracted: ``pending`` (rows)."""

    def __init__(self, listing: Listing, views: int, old: OldStore, done: Finished, workers: int) -> None:
        self.rows, self._views = listing.rows, views
        known: Digests = np.zeros(len(listing), "S64")
        for paths, digests in ((old.rows.paths, old.digests), (done.paths, done.digests)):
            at = listing.paths.find(paths)
            known[at[at >= 0]] = digests[at >= 0]
        self.digests = _still_valid(known, listing, workers)
        self.failures = [*listing.failures, *done.failures]
        tried = self.digests != b""
        failed = listing.paths.find(Texts.of(path for path, _ in done.failures))
        tried[failed[failed >= 0]] = True
        self.pending = np.flatnonzero(~tried)
        self.extracted, self._entered = len(done.paths), 0

    def enter(self, part: Part) -> None:
        """Note a part, the next of those that are made of the pending images in their order."""
        digests, failed = part.digests[:: self._views], {path for path, _ in part.failures}
        first, self._entered = self._entered, self._entered + len(digests) + len(failed)
        tried = self.pending[first : self._entered].tolist()
        self.digests[[row for row in tried if self.rows.paths[row] not in failed]] = digests
        self.failures += part.failures
        self.extracted += len(digests)

    def keep(self, old: OldStore) -> None:
        """Keep what the old store has and the listing has not; its rows come first, in their order."""
        listed = self.rows.paths.find(old.rows.paths)
        gone = np.flatnonzero(listed < 0)
        # An image that is listed still, but can no longer be read, is a failure and not a row.
        failed = self.rows.paths.find(Texts.of(path for path, _ in old.failures))
        self.failures += [failure for failure, row in zip(old.failures, failed.tolist(), strict=True) if row < 0]
        # Those that are gone and then those that are listed, put into the order of the old store and then of the new.
        where = listed + len(gone)
        where[gone] = np.arange(len(gone))
        new = np.setdiff1d(np.arange(len(self.rows)), listed) + len(gone)
        order = np.concatenate([where, new])
        self.rows = Rows.joined([old.rows.take(gone), self.rows]).take(order)
        self.digests = np.concatenate([old.digests[gone], self.digests])[order]


def _still_valid(digests: Digests, listing: Listing, workers: int) -> Digests:
    """The digests of those images that still have the bytes that are known of them."""

    def unchanged(row: int) -> bool:
        try:
            return listing.digest(row) == str(digests[row], "ascii")
        except (OSError, ValueError):
            return False

    valid, rows = np.zeros_like(digests), np.flatnonzero(digests)
    # A block at a time: a pool makes a future for each image at once.
    with ThreadPoolExecutor(workers) as pool:
        for block in np.array_split(rows, len(rows) // BATCH + 1):
            same = block[np.fromiter(pool.map(unchanged, block.tolist()), bool, len(block))]
            valid[same] = digests[same]
    return valid
