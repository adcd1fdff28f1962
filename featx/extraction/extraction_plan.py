"""Plan an extraction: which images already have features, and which parts must still be computed."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from featx.engines import images_per_part
from featx.extraction.existing_features import Digests, ExistingStore, FinishedParts
from featx.extraction.shards import PartRows, Shard, split_into_parts
from featx.images import Listing
from featx.spec import ExtractSpec
from featx.store import Part
from featx.table import BATCH, ImageTable, StringArray


class ExtractionPlan:
    """Which images of a listing have features, which failed, and which parts must still be computed.

    Parameters
    ----------
    listing : Listing
        The images that the store will have.
    spec : ExtractSpec
        Its number of views and width decide how many images make a part.
    existing : ExistingStore
        The store that is updated.
    finished : FinishedParts
        What this run, or an earlier one that was stopped, has already computed.
    workers : int
        Threads that read files to see whether their bytes changed.
    shard : Shard, optional
        Compute the parts of this shard only.
    trust_parts : bool
        Trust finished parts without reading the image files again, as the assembly of shards does. Otherwise the files
        of this process's parts are read: images whose bytes changed are extracted again, and so are images that failed.
        Parts of other shards are always trusted.

    Attributes
    ----------
    rows : ImageTable
        Images of the store, with labels and columns.
    digests : Digests
        The sha256 of each image with features, ``b""`` for the others.
    failures : list of (path, reason)
    parts : list of PartRows
        All parts of the run. They depend on the listing and the existing store, not on the finished parts, so that
        every process plans the same ones.
    pending : list of PartRows
        The parts that this process must compute, without the images that are finished.
    extracted : int
        Images that this run has extracted so far.
    """

    def __init__(
        self,
        listing: Listing,
        spec: ExtractSpec,
        existing: ExistingStore,
        finished: FinishedParts,
        workers: int,
        shard: Shard | None = None,
        *,
        trust_parts: bool = False,
    ) -> None:
        self.rows, self._n_views = listing.rows, spec.n_views
        stored = _match_rows(listing, existing.rows.paths, existing.digests)
        self.digests = _keep_unchanged(stored, listing, workers)
        self.parts = split_into_parts(np.flatnonzero(~_has_digest(self.digests)), images_per_part(spec))
        own_parts = shard.select(self.parts) if shard else self.parts
        own = _mask(listing, own_parts)
        failed = listing.paths.find(StringArray.from_strings(path for path, _ in finished.failures))
        # An image may have failed in one part and have features, of bytes before or after that, in another one.
        checked = _mask(listing, [failed[failed >= 0]]) if trust_parts else own
        computed = _match_rows(listing, finished.paths, finished.digests)
        self.digests = np.where(_has_digest(self.digests), self.digests, computed)
        self.digests[checked] = _keep_unchanged(computed, listing, workers, checked)[checked]
        self._is_done = _has_digest(self.digests)
        self.failures = [] if shard else list(listing.failures)
        if trust_parts:
            self._add_failures(finished.failures, failed)
        self.pending = self.unfinished(own_parts)
        self.extracted = int((own & _has_digest(self.digests)).sum())

    def _add_failures(self, failures: Sequence[tuple[str, str]], rows: NDArray[np.int64]) -> None:
        """Record failures of finished parts, but not of images that have features or are no longer listed."""
        still_failed = (rows >= 0) & ~self._is_done[rows]
        self.failures += [failure for failure, failed in zip(failures, still_failed, strict=True) if failed]
        self._is_done[rows[still_failed]] = True

    def unfinished(self, parts: Sequence[PartRows]) -> list[PartRows]:
        """Return parts without the images that are finished; parts with no image left are dropped."""
        left = (part[~self._is_done[part]] for part in parts)
        return [part for part in left if len(part)]

    def add_part(self, rows: PartRows, part: Part) -> None:
        """Record a part that was computed from ``rows``."""
        digests, failed = part.digests[:: self._n_views], {path for path, _ in part.failures}
        self.digests[[row for row in rows.tolist() if self.rows.paths[row] not in failed]] = digests
        self._is_done[rows] = True
        self.failures += part.failures
        self.extracted += len(digests)

    def keep_missing_images(self, existing: ExistingStore) -> None:
        """Add the images of the existing store that are not listed, without changing the order of that store."""
        listed = self.rows.paths.find(existing.rows.paths)
        missing = np.flatnonzero(listed < 0)
        # An image that is listed but can no longer be read is a failure, not a missing image.
        failed = self.rows.paths.find(StringArray.from_strings(path for path, _ in existing.failures))
        self.failures += [failure for failure, row in zip(existing.failures, failed.tolist(), strict=True) if row < 0]
        # In the table of missing and then listed images: where each image of the store is, and then the new images.
        where = listed + len(missing)
        where[missing] = np.arange(len(missing))
        new = np.setdiff1d(np.arange(len(self.rows)), listed) + len(missing)
        order = np.concatenate([where, new])
        self.rows = ImageTable.concatenate([existing.rows.take(missing), self.rows]).take(order)
        self.digests = np.concatenate([existing.digests[missing], self.digests])[order]


def _has_digest(digests: Digests) -> NDArray[np.bool_]:
    """Bool (rows,): which rows have a digest. Looks at the first byte, which is ten times faster than comparing."""
    found: NDArray[np.bool_] = digests.view(np.uint8)[:: digests.itemsize] != 0
    return found


def _mask(listing: Listing, parts: Sequence[PartRows]) -> NDArray[np.bool_]:
    """Bool (rows,): which rows of a listing are in one of the parts."""
    mask = np.zeros(len(listing), bool)
    mask[np.concatenate([np.zeros(0, np.int64), *parts])] = True
    return mask


def _match_rows(listing: Listing, paths: StringArray, digests: Digests) -> Digests:
    """Assign digests of ``paths`` to the rows of a listing.

    A path has several digests if its file changed during the run; then the digest of the present file is taken.
    """
    matched: Digests = np.zeros(len(listing), "S64")
    rows = listing.paths.find(paths)
    rows, digests = rows[rows >= 0], digests[rows >= 0]
    matched[rows] = digests
    for row in np.unique(rows[matched[rows] != digests]).tolist():
        present = _digest(listing, row)
        matched[row] = present if present in digests[rows == row] else b""
    return matched


def _digest(listing: Listing, row: int) -> bytes:
    """The sha256 of an image file's bytes as hex, ``b""`` if it cannot be read."""
    try:
        return listing.digest(row).encode()
    except (OSError, ValueError):
        return b""


def _keep_unchanged(
    digests: Digests, listing: Listing, workers: int, checked: NDArray[np.bool_] | None = None
) -> Digests:
    """Keep the digests of files that still have these bytes, and clear all others.

    With ``checked`` (bool, per row) only these rows are read, and the digests of all others are cleared.
    """

    def unchanged(row: int) -> bool:
        return _digest(listing, row) == bytes(digests[row])

    kept, known = np.zeros_like(digests), _has_digest(digests)
    rows = np.flatnonzero(known if checked is None else known & checked)
    # In batches, because the pool makes all futures of one call at once.
    with ThreadPoolExecutor(workers) as pool:
        for batch in np.array_split(rows, len(rows) // BATCH + 1):
            same = batch[np.fromiter(pool.map(unchanged, batch.tolist()), bool, len(batch))]
            kept[same] = digests[same]
    return kept
