"""Make a store from finished parts, at the end of an extraction or after all of its shards."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from joblib import cpu_count

from featx.engines import StageTimings
from featx.errors import ImageError, StoreError, StoreExists, StoreUnreadable
from featx.extraction.assembly_options import AssemblyOptions
from featx.extraction.existing_features import ExistingStore, read_finished_parts
from featx.extraction.extraction_plan import ExtractionPlan
from featx.extraction.report import ExtractReport, count_changes, make_report
from featx.extraction.shards import Shard, ShardedRun, no_shards
from featx.images import Listing, ListingSummary, list_images
from featx.runtime import pluralize
from featx.spec import ExtractSpec
from featx.store import PartFolder, RowTable, assemble, check_disk_space, parts_folder, store_bytes
from featx.table import StringArray


def assemble_shards(output: str | Path, *, partial: bool = False, wait: bool = False) -> ExtractReport:
    """Make the store from the parts that shards have written.

    Parameters
    ----------
    output : path
        The store's file, the same path as was given to the shards.
    partial : bool
        Leave out the images of shards that are not done. `extract` can add these images to the store later.
    wait : bool
        Wait for running shards, instead of raising ``StoreLocked``.

    Returns
    -------
    ExtractReport

    Raises
    ------
    StoreError
        If there are no parts of shards. Without ``partial``, also if parts are missing. The message then names their
        shards.
    StoreLocked
        If a shard is running.
    """
    began, output = time.monotonic(), Path(output)
    if not parts_folder(output).is_dir():
        raise no_shards(output)
    with PartFolder(output, wait=wait) as folder:
        run, spec = ShardedRun.load(folder), folder.spec
        references = folder.load_run(spec) if spec else None
        if spec is None or references is None:
            raise no_shards(output, f": no parts are finished in {folder.path}")
        listing = list_images(run.source, run.root, options=run.listing)
        existing = ExistingStore.read(output, spec) if output.exists() else ExistingStore()
        dropped = spec.n_views * count_missing_images(output, existing, listing, run.assembly, spec.n_views)
        finished = read_finished_parts(folder)
        plan = ExtractionPlan(listing, spec, existing, finished, cpu_count(), trust_parts=True)
        _check_complete(output, plan, run.shards, partial=partial)
        changed = make_store(folder, plan, existing, spec, references, run.assembly, listing.summary, run.source)
    seconds = time.monotonic() - began
    extracted = spec.n_views * plan.extracted
    report = make_report(output, listing.summary, extracted, dropped, seconds, {}, StageTimings(), changed)
    return replace(report, unchecked=plan.unchecked)


def make_store(
    folder: PartFolder,
    plan: ExtractionPlan,
    existing: ExistingStore,
    spec: ExtractSpec,
    references: Mapping[str, np.ndarray],
    options: AssemblyOptions,
    listing: ListingSummary,
    source: str,
) -> tuple[int, int]:
    """Make the store from the finished parts and from the existing store, and then remove the parts.

    If the existing store already has the same content, it is not written again.

    Returns
    -------
    labels_changed, columns_changed : int
        The numbers of images that `count_changes` returns.

    Raises
    ------
    ImageError
        If no image of ``source`` could be read.
    StoreError
        If the store cannot be written.
    """
    if options.missing_images == "keep":
        plan.keep_missing_images(existing)
    if not plan.digests.any():
        # There are no features to keep. The next run may be able to read the images that this run could not read.
        folder.discard()
        raise ImageError(f"none of the {len(plan.rows)} images of {source} could be read; the first failure: "
                         f"{': '.join(plan.failures[0])}")  # fmt: skip
    kept = np.flatnonzero(plan.digests)
    rows, digests = plan.rows.take(kept), plan.digests[kept]
    changed = count_changes(existing.rows, rows)
    same_storage = options.assemble in (None, existing.layout) and options.dtype in (None, existing.dtype)
    origin = listing.origin
    if same_storage and not any(changed) and existing.has_same_content(rows, digests, plan.failures, origin):
        folder.discard()
        return changed
    layout = options.assemble or existing.layout
    with explain_resuming():
        assemble(
            folder.store,
            RowTable.from_images(rows, digests, plan.failures, spec.n_views, origin),
            spec,
            references or dict(existing.references),
            [*([folder.store] if len(existing.rows) else []), *folder.part_files()],
            scratch=folder.path,
            layout=layout,
            dtype=options.dtype or (None if layout == "virtual" else existing.dtype),
        )
    folder.discard()
    return changed


@contextmanager
def explain_resuming() -> Iterator[None]:
    """Say in any ``StoreError`` of a ``with`` block that finished parts are kept, and how to resume."""
    try:
        yield
    except StoreError as error:
        raise type(error)(
            f"{error}; finished parts are kept: solve this problem and run the same command again"
        ) from error


def check_space(
    output: Path, plan: ExtractionPlan, existing: ExistingStore, spec: ExtractSpec, options: AssemblyOptions, *,
    shard: bool,
) -> None:  # fmt: skip
    """Raise ``StoreError`` if the disk has too little space for the parts to extract and for the store.

    The parts are removed only when the store has been written, so there must be space for both. A shard writes only
    parts, and a virtual store has no features of its own.
    """
    pending = spec.n_views * sum(map(len, plan.pending))
    rows = spec.n_views * len(plan.rows)
    virtual = (options.assemble or existing.layout) == "virtual"
    needed = store_bytes(spec, pending)
    if pending and not shard and not virtual:
        needed += store_bytes(spec, rows, options.dtype or existing.dtype)
    remedy = "" if virtual or shard else "; --assemble virtual needs no space for a second copy"
    check_disk_space(output, needed, " for its parts and itself" if needed > store_bytes(spec, pending) else "", remedy)


def count_missing_images(
    output: Path, existing: ExistingStore, listing: Listing, options: AssemblyOptions, n_views: int
) -> int:
    """Count the images that are dropped from the store because they are no longer listed.

    Raises
    ------
    StoreUnreadable
        If the folder or shard of such an image cannot be read now, and ``options.missing_images`` is not ``keep``.
    StoreExists
        If there are such images, and ``options.missing_images`` is ``error``.
    """
    missing = np.flatnonzero(listing.paths.find(existing.rows.paths) < 0)
    if len(missing) and listing.unreadable and options.missing_images != "keep":
        _check_none_unreadable(output, existing.rows.paths.take(missing), listing)
    if len(missing) and options.missing_images == "error":
        raise StoreExists(
            f"{output} has {n_views * len(missing)} rows whose images are no longer in the source, the first is "
            f"{min(existing.rows.paths.take(missing))!r}; give --missing-images drop to remove these rows, "
            "--missing-images keep to keep them, or another --output"
        )
    return len(missing) if options.missing_images == "drop" else 0


def _check_none_unreadable(output: Path, missing: StringArray, listing: Listing) -> None:
    """Raise ``StoreUnreadable`` if images of the store are missing because their folder cannot be read now."""
    failures = dict(listing.failures)
    for place in listing.unreadable:
        if hidden := sum(path == place or path.startswith(place + "/") for path in missing):
            raise StoreUnreadable(
                f"{listing.full_path(place)} {failures[place]}; {output} has {pluralize(hidden, 'image')} of it: solve "
                "this problem and run the same command again, or keep the rows as they are by --missing-images keep"
            )


def _check_complete(store: Path, plan: ExtractionPlan, shards: int, *, partial: bool) -> None:
    """Raise ``StoreError`` if some images are in no finished part. The message names the shards that must run.

    With ``partial``, there is no error if at least one image is finished.
    """
    if partial and plan.digests.any():
        return
    undone = [shard for number in range(1, shards + 1)
              if plan.unfinished((shard := Shard(number, shards)).select(plan.parts))]  # fmt: skip
    if not undone:
        return
    missing = int(sum(map(len, plan.unfinished(plan.parts))))
    names = ", ".join(map(str, undone[:8])) + (", …" if len(undone) > 8 else "")
    remedy = f"run featx extract with --shard {names}"
    if partial:
        raise StoreError(f"{store} must have at least one row, but no shard has finished a part yet; {remedy}")
    raise StoreError(
        f"{store} needs all shards, but only {shards - len(undone)} of {shards} are done: {missing} of "
        f"{len(plan.rows)} images are missing; {remedy}, or give --partial to leave these images out"
    )
