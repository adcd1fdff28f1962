"""Bringing a store up to date: what of it still holds, and the rows that it shall have."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featx.engines import images_per_part
from featx.extraction.part_groups import Group, Shard, plan_groups
from featx.images import Listing
from featx.spec import ExtractSpec
from featx.store import Part, PartFolder, Store, read_part_images
from featx.table import BATCH, CategoricalArray, ImageTable, StringArray

Digests = NDArray[np.bytes_]
"""One sha256 a row, as hex; ``b""`` where there are no features."""
NONE = ImageTable(StringArray.from_strings(()), CategoricalArray.from_values(()))


@dataclass(frozen=True)
class ExistingStore:
    """The store that was there: images' rows and digests, golden features, how it keeps features. Empty if none was."""

    rows: ImageTable = NONE
    digests: Digests = field(default_factory=lambda: np.zeros(0, "S64"))
    golden: Mapping[str, np.ndarray] = field(default_factory=dict)
    failures: Sequence[tuple[str, str]] = ()
    layout: str = "copy"
    dtype: str | None = None

    @classmethod
    def read(cls, path: Path, spec: ExtractSpec) -> "ExistingStore":
        """Read a store of the same spec; ``SpecMismatch`` if it holds another, ``StoreError`` if it is none."""
        with Store(path) as store:
            store.spec.check_same(
                spec,
                this=str(path),
                that="this extraction",
                remedy="extract with the same options, give --overwrite to start anew, or another --output",
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

    def holds(self, rows: ImageTable, digests: Digests, failures: Sequence[tuple[str, str]]) -> bool:
        """Whether these images and failures are just those of the store, whatever their labels."""
        return (
            np.array_equal(self.digests, digests)
            and np.array_equal(self.rows.paths.find(rows.paths), np.arange(len(rows)))
            and self.rows.columns.keys() == rows.columns.keys()
            and sorted(self.failures) == sorted(failures)
        )


@dataclass(frozen=True)
class Finished:
    """What the finished parts hold: paths and digests of images with features, and the failures."""

    paths: StringArray
    digests: Digests
    failures: list[tuple[str, str]]


def read_parts(folder: PartFolder) -> Finished:
    """Read which images the finished parts hold."""
    paths, digests, failures = [NONE.paths], [np.zeros(0, "S64")], list[tuple[str, str]]()
    for path in folder.part_files():
        found = read_part_images(path)
        paths.append(found[0])
        digests.append(found[1])
        failures += found[2]
    # One that failed again in a later part did so once.
    return Finished(StringArray.concatenate(paths), np.concatenate(digests), list(dict(failures).items()))


class ExtractionPlan:
    """Which images of a listing have features, and which failed; those to be extracted are in ``groups``.

    The groups are planned over all images that the old store has no features of, whatever parts are there, so that
    every process that looks plans the same. Those of a ``shard`` are its own; what other shards have made is believed,
    and of its own, as of the old store's, it is checked that files still have the bytes that were extracted, and what
    failed is tried again; not so of any parts with ``believing``.
    """

    def __init__(
        self,
        listing: Listing,
        spec: ExtractSpec,
        old: ExistingStore,
        done: Finished,
        workers: int,
        shard: Shard | None = None,
        *,
        believing: bool = False,
    ) -> None:
        self.rows, self._views = listing.rows, spec.n_views
        self.digests = _still_valid(_known(listing, old.rows.paths, old.digests), listing, workers)
        self.plan = plan_groups(np.flatnonzero(~_has(self.digests)), images_per_part(spec))
        mine = shard.pick(self.plan) if shard else self.plan
        own, failed = (
            _marked(listing, *mine),
            listing.paths.find(StringArray.from_strings(path for path, _ in done.failures)),
        )
        # An image that a part failed on may have features from before, which then are of other bytes.
        checked = _marked(listing, failed[failed >= 0]) if believing else own
        found = _known(listing, done.paths, done.digests)
        self.digests = np.where(_has(self.digests), self.digests, found)
        self.digests[checked] = _still_valid(found, listing, workers, checked)[checked]
        self._tried = _has(self.digests)
        self.failures = [] if shard else list(listing.failures)
        if believing:
            still = (failed >= 0) & ~self._tried[failed]
            self.failures += [failure for failure, here in zip(done.failures, still, strict=True) if here]
            self._tried[failed[still]] = True
        self.groups = self.untried(mine)
        self.extracted = int((own & _has(self.digests)).sum())

    def untried(self, groups: Sequence[Group]) -> list[Group]:
        """Of each group the images that no part has yet; groups of which there are none are left out."""
        left = (group[~self._tried[group]] for group in groups)
        return [group for group in left if len(group)]

    def enter(self, group: Group, part: Part) -> None:
        """Note the part that was made of a group."""
        digests, failed = part.digests[:: self._views], {path for path, _ in part.failures}
        self.digests[[row for row in group.tolist() if self.rows.paths[row] not in failed]] = digests
        self._tried[group] = True
        self.failures += part.failures
        self.extracted += len(digests)

    def keep(self, old: ExistingStore) -> None:
        """Keep what the old store has and the listing has not; its rows come first, in their order."""
        listed = self.rows.paths.find(old.rows.paths)
        gone = np.flatnonzero(listed < 0)
        # An image that is listed still, but can no longer be read, is a failure and not a row.
        failed = self.rows.paths.find(StringArray.from_strings(path for path, _ in old.failures))
        self.failures += [failure for failure, row in zip(old.failures, failed.tolist(), strict=True) if row < 0]
        # Those that are gone and then those that are listed, put into the order of the old store and then of the new.
        where = listed + len(gone)
        where[gone] = np.arange(len(gone))
        new = np.setdiff1d(np.arange(len(self.rows)), listed) + len(gone)
        order = np.concatenate([where, new])
        self.rows = ImageTable.concatenate([old.rows.take(gone), self.rows]).take(order)
        self.digests = np.concatenate([old.digests[gone], self.digests])[order]


def _has(digests: Digests) -> NDArray[np.bool_]:
    """Bool (rows,): which rows have a digest, by its first byte: comparing all of them takes ten times as long."""
    found: NDArray[np.bool_] = digests.view(np.uint8)[:: digests.itemsize] != 0
    return found


def _marked(listing: Listing, *groups: Group) -> NDArray[np.bool_]:
    """Bool (rows,): which rows of a listing are in some of the groups."""
    marked = np.zeros(len(listing), bool)
    marked[np.concatenate([np.zeros(0, np.int64), *groups])] = True
    return marked


def _known(listing: Listing, paths: StringArray, digests: Digests) -> Digests:
    """The digests by the listing's rows; of images that changed while parts of them were made, the present ones'."""
    known: Digests = np.zeros(len(listing), "S64")
    at = listing.paths.find(paths)
    at, digests = at[at >= 0], digests[at >= 0]
    known[at] = digests
    for row in np.unique(at[known[at] != digests]).tolist():
        now = _digest(listing, row)
        known[row] = now if now in digests[at == row] else b""
    return known


def _digest(listing: Listing, row: int) -> bytes:
    """The digest of an image's bytes, ``b""`` if they cannot be read."""
    try:
        return listing.digest(row).encode()
    except (OSError, ValueError):
        return b""


def _still_valid(digests: Digests, listing: Listing, workers: int, among: NDArray[np.bool_] | None = None) -> Digests:
    """The digests of those images that still have the bytes that are known of them; of others than ``among`` none."""

    def unchanged(row: int) -> bool:
        return _digest(listing, row) == bytes(digests[row])

    valid, known = np.zeros_like(digests), _has(digests)
    rows = np.flatnonzero(known if among is None else known & among)
    # A block at a time: a pool makes a future for each image at once.
    with ThreadPoolExecutor(workers) as pool:
        for block in np.array_split(rows, len(rows) // BATCH + 1):
            same = block[np.fromiter(pool.map(unchanged, block.tolist()), bool, len(block))]
            valid[same] = digests[same]
    return valid
