"""The end of an extraction: from what the ledger has to the store and a report of it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import cpu_count

from featx.engines import Timings
from featx.errors import ImageError, SpecError, StoreError, StoreExists
from featx.extraction.report import ExtractReport, count_changed, make_report
from featx.extraction.shard_jobs import check_complete, read_job
from featx.extraction.update import ExistingStore, ExtractionPlan, read_parts
from featx.images import Listing, list_images
from featx.spec import ExtractSpec
from featx.store import PartFolder, RowTable, assemble, check_assembly, parts_folder

MISSING_IMAGES = ("error", "drop", "keep")


@dataclass(frozen=True)
class AssemblyOptions:
    """How the extracted parts become a store.

    Parameters
    ----------
    missing_images : {"error", "drop", "keep"}
        What to do with rows of the existing store whose images are no longer in the source.
    layout : {"copy", "virtual"}, optional
        Copy the features into the store, or let the store refer to the part files. By default as the existing store,
        else ``copy``.
    dtype : {"float32", "float16"}, optional
        How features are stored; float16 rounds to 11 binary digits. By default as the existing store, else float32.

    Raises
    ------
    SpecError
        If a value is not one of those.
    """

    missing_images: str = "error"
    layout: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.missing_images not in MISSING_IMAGES:
            choices = ", ".join(MISSING_IMAGES)
            raise SpecError(f"missing_images of AssemblyOptions must be one of {choices}, got {self.missing_images!r}")
        check_assembly(self.layout, self.dtype)


def finish(
    folder: PartFolder,
    ledger: ExtractionPlan,
    old: ExistingStore,
    spec: ExtractSpec,
    golden: Mapping[str, np.ndarray],
    how: AssemblyOptions,
    whose: str,
) -> tuple[int, int]:
    """Assemble the store, if it is not so already, and remove the folder; of how many images labels and split columns
    changed.

    Raises
    ------
    ImageError
        If there is no row.
    StoreError
        If the store cannot be written.
    """
    if how.missing_images == "keep":
        ledger.keep(old)
    if not ledger.digests.any():
        # Nothing is lost with it, and what was wrong may be mended before the next run.
        folder.discard()
        raise ImageError(f"none of the {len(ledger.rows)} images of {whose} could be read; "
                         f"{': '.join(ledger.failures[0])}")  # fmt: skip
    kept = np.flatnonzero(ledger.digests)
    rows, digests = ledger.rows.take(kept), ledger.digests[kept]
    changed = count_changed(old.rows, rows)
    as_it_is = how.layout in (None, old.layout) and how.dtype in (None, old.dtype)
    if as_it_is and not any(changed) and old.holds(rows, digests, ledger.failures):
        # Gigabytes that would be written as they are, at each look into a cache.
        folder.discard()
        return changed
    table = RowTable.from_images(rows, digests, ledger.failures, spec.n_views)
    sources = [*([folder.store] if len(old.rows) else []), *folder.part_files()]
    with resumable():
        assemble(
            folder.store, table, spec, golden or dict(old.golden), sources, scratch=folder.path,
            layout=how.layout or old.layout, dtype=how.dtype or (None if how.layout == "virtual" else old.dtype),
        )  # fmt: skip
    folder.discard()
    return changed


@contextmanager
def resumable() -> Iterator[None]:
    """Say of a disk that does not take what is written how to go on once it does."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{error}; what is finished is kept: mend that and run the same command again") from error


def missing_images(output: Path, old: ExistingStore, listing: Listing, missing: str, views: int) -> int:
    """How many images of the old store go, since they are no longer listed."""
    gone = np.flatnonzero(listing.paths.find(old.rows.paths) < 0)
    if len(gone) and missing == "error":
        raise StoreExists(
            f"{output} has {views * len(gone)} rows whose images are no longer among the source's, "
            f"{min(old.rows.paths.take(gone))!r} first; "
            "give --missing-images drop to remove them, --missing-images keep to keep them, or another --output"
        )
    return len(gone) if missing == "drop" else 0


def assemble_shards(output: str | Path, *, partial: bool = False, wait: bool = False) -> ExtractReport:
    """Make the store of a run whose parts were written by shards.

    Parameters
    ----------
    output : path
        The store's file, as the shards were given it.
    partial : bool
        Leave out the images of shards that are not done; ``extract`` adds them to the store at any time.
    wait : bool
        Wait for shards at work, instead of raising ``StoreLocked``.

    Raises
    ------
    StoreError
        If there are no shards' parts, or some are missing: it says of which shards. With ``partial``, if all are.
    StoreLocked
        If a shard is at work.
    """
    began, output = time.monotonic(), Path(output)
    if not parts_folder(output).is_dir():
        raise StoreError(f"{output} has no shards to assemble: featx extract --shard N/COUNT writes their parts")
    with PartFolder(output, wait=wait) as folder:
        job, identity = read_job(folder)
        spec, golden = identity
        listing = list_images(job["source"], job["root"])
        old = ExistingStore.read(output, spec) if output.exists() else ExistingStore()
        dropped = spec.n_views * missing_images(output, old, listing, job["missing_images"], spec.n_views)
        ledger = ExtractionPlan(listing, spec, old, read_parts(folder), cpu_count(), believing=True)
        check_complete(output, ledger, job["shards"], partial=partial)
        changed = finish(folder, ledger, old, spec, golden, AssemblyOptions(job["missing_images"], job["layout"], job["dtype"]),
                         job["source"])  # fmt: skip
    seconds = time.monotonic() - began
    return make_report(output, spec.n_views * ledger.extracted, dropped, seconds, {}, Timings(), changed)
