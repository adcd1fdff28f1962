"""Plan an extraction: find the images that already have features, and the parts that must still be computed."""

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
    """Knows which images of a listing have features, which failed, and which parts must still be computed.

    Parameters
    ----------
    listing : Listing
        The images that the store will have.
    spec : ExtractSpec
        The spec of the store. Its number of views and its width decide how many images a part has.
    existing : ExistingStore
        The store that is updated.
    finished : FinishedParts
        The parts that this run, or an earlier run that was stopped, has already computed.
    workers : int
        Number of threads that read files to find out whether their bytes have changed.
    shard : Shard, optional
        Compute only the parts of this shard.
    trust_parts : bool
        Trust finished parts, and do not read the image files again. `assemble_shards` needs this. Otherwise the files
        of the parts that belong to this process are read. Images whose bytes have changed, and images that failed, are
        then extracted again. The parts of other shards are always trusted.

    Attributes
    ----------
    rows : ImageTable
        The images of the store, with their labels and columns.
    digests : Digests
        The sha256 digest of each image with features. It is ``b""`` for the other images.
    failures : list of (path, reason)
        The images that could not be read.
    parts : list of PartRows
        All parts of the run. They do not depend on the finished parts, but only on the listing and the existing store.
        So every process plans the same parts.
    pending : list of PartRows
        The parts that this process must compute, without the images that are finished.
    extracted : int
        Number of images that this run has extracted so far.
    unchecked : list of (path, reason)
        The images whose files cannot be read now, although they exist. Their features are kept, because the files are
        not known to have changed.
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
        self.rows, self._listed, self._n_views = listing.rows, listing.paths, spec.n_views
        self._unchecked: dict[int, str] = {}
        stored = _match_rows(listing, existing.rows.paths, existing.digests)
        self.digests = self._keep_unchanged(stored, listing, workers)
        self.parts = split_into_parts(np.flatnonzero(~_has_digest(self.digests)), images_per_part(spec))
        own_parts = shard.select(self.parts) if shard else self.parts
        own = _mask(listing, own_parts)
        failed = listing.paths.find(StringArray.from_strings(path for path, _ in finished.failures))
        # If a file changed during the run, its image may have failed in one part and have features in another part.
        checked = _mask(listing, [failed[failed >= 0]]) if trust_parts else own
        computed = _match_rows(listing, finished.paths, finished.digests)
        self.digests = np.where(_has_digest(self.digests), self.digests, computed)
        self.digests[checked] = self._keep_unchanged(computed, listing, workers, checked)[checked]
        self._is_done = _has_digest(self.digests)
        self.failures = [] if shard else list(listing.failures)
        if trust_parts:
            self._add_failures(finished.failures, failed)
        self.pending = self.unfinished(own_parts)
        self.extracted = int((own & _has_digest(self.digests)).sum())

    @property
    def unchecked(self) -> list[tuple[str, str]]:
        """The images that could not be checked for changes, and the reason."""
        return [(self._listed[row], reason) for row, reason in sorted(self._unchecked.items())]

    def _keep_unchanged(
        self, digests: Digests, listing: Listing, workers: int, checked: NDArray[np.bool_] | None = None
    ) -> Digests:
        """Keep the digests of files whose bytes still have the same digest, and clear all other digests.

        If ``checked`` (bool, per row) is given, only these files are read, and the digests of all other files are
        cleared. The digest of a file that exists but cannot be read now is kept: it is not known to have changed.
        """

        def unchanged(row: int) -> bool:
            try:
                return listing.digest(row).encode() == bytes(digests[row])
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
                return False
            except OSError as error:
                self._unchecked[row] = error.strerror or str(error)
                return True

        kept, known = np.zeros_like(digests), _has_digest(digests)
        rows = np.flatnonzero(known if checked is None else known & checked)
        # The files are read in batches, because the pool makes all futures of a call at once.
        with ThreadPoolExecutor(workers) as pool:
            for batch in np.array_split(rows, len(rows) // BATCH + 1):
                same = batch[np.fromiter(pool.map(unchanged, batch.tolist()), bool, len(batch))]
                kept[same] = digests[same]
        return kept

    def _add_failures(self, failures: Sequence[tuple[str, str]], rows: NDArray[np.int64]) -> None:
        """Record the failures of finished parts, except those of images that have features or are no longer listed."""
        still_failed = (rows >= 0) & ~self._is_done[rows]
        self.failures += [failure for failure, failed in zip(failures, still_failed, strict=True) if failed]
        self._is_done[rows[still_failed]] = True

    def unfinished(self, parts: Sequence[PartRows]) -> list[PartRows]:
        """Return the parts without the images that are finished. A part is left out if all its images are finished."""
        left = (part[~self._is_done[part]] for part in parts)
        return [part for part in left if len(part)]

    def add_part(self, rows: PartRows, part: Part) -> None:
        """Record that a part was computed from ``rows`` of the listing."""
        digests, failed = part.digests[:: self._n_views], {path for path, _ in part.failures}
        self.digests[[row for row in rows.tolist() if self.rows.paths[row] not in failed]] = digests
        self._is_done[rows] = True
        self.failures += part.failures
        self.extracted += len(digests)

    def keep_missing_images(self, existing: ExistingStore) -> None:
        """Add the images of the existing store that are not listed. The order of the existing store does not change."""
        listed = self.rows.paths.find(existing.rows.paths)
        missing = np.flatnonzero(listed < 0)
        # An image that is listed but cannot be read any more is a failure, not a missing image.
        failed = self.rows.paths.find(StringArray.from_strings(path for path, _ in existing.failures))
        self.failures += [failure for failure, row in zip(existing.failures, failed.tolist(), strict=True) if row < 0]
        # The table has the missing images first, and then the listed ones. ``where`` holds positions in this table:
        # first those of the images of the store, then those of the new images.
        where = listed + len(missing)
        where[missing] = np.arange(len(missing))
        new = np.setdiff1d(np.arange(len(self.rows)), listed) + len(missing)
        order = np.concatenate([where, new])
        self.rows = ImageTable.concatenate([existing.rows.take(missing), self.rows]).take(order)
        self.digests = np.concatenate([existing.digests[missing], self.digests])[order]


def _has_digest(digests: Digests) -> NDArray[np.bool_]:
    """Return which rows have a digest, bool (rows,).

    The function looks only at the first byte, because comparing all bytes is ten times slower.
    """
    found: NDArray[np.bool_] = digests.view(np.uint8)[:: digests.itemsize] != 0
    return found


def _mask(listing: Listing, parts: Sequence[PartRows]) -> NDArray[np.bool_]:
    """Return which rows of a listing are in one of the parts, bool (rows,)."""
    mask = np.zeros(len(listing), bool)
    mask[np.concatenate([np.zeros(0, np.int64), *parts])] = True
    return mask


def _match_rows(listing: Listing, paths: StringArray, digests: Digests) -> Digests:
    """Assign the digests of ``paths`` to the rows of a listing.

    A path has several digests if its file changed during the run. Then the digest of the current file is used.
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
    """Return the sha256 digest of an image file in hexadecimal, or ``b""`` if the file cannot be read."""
    try:
        return listing.digest(row).encode()
    except (OSError, ValueError):
        return b""
