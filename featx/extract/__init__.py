"""Extract: images to a store of pooled features, going on from what is there."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from featx.engines import Engine, make_engine
from featx.engines.golden import check_golden, compute_golden
from featx.engines.streaming import feature_parts
from featx.engines.timings import Timings
from featx.errors import ImageError, SpecError, StoreError, StoreExists
from featx.extract.precision import draw_sample, settle_precision
from featx.extract.report import ExtractReport, count_changed, make_report
from featx.extract.update import Ledger, OldStore, read_parts
from featx.images import MAX_PIXELS, Listing, list_images
from featx.progress import progress_bar
from featx.spec import ExtractSpec
from featx.store import Part, PartFolder, RowTable, Store, assemble, check_storage
from featx.weights import load_trunk

MISSING = ("error", "drop", "keep")


def extract(
    source: str | Path | Sequence[Any] | Any,
    output: str | Path,
    spec: ExtractSpec | None = None,
    *,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    engine: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    missing: str = "error",
    overwrite: bool = False,
    strict: bool = False,
    wait: bool = False,
    precision: str | None = None,
    assembly: str | None = None,
    store_dtype: str | None = None,
    progress: bool = False,
) -> ExtractReport:
    """Run the trunk over images and keep the pooled features of its blocks in a store.

    An existing store of the same spec is brought up to date: images that are new, changed or failed before are
    extracted, the others are kept. A run that was stopped goes on from its finished parts.

    Parameters
    ----------
    source : path, URL or object
        A folder, manifest, shards, a data set, or image files: what `featx.images.list_images` takes.
    output : path
        The store's file.
    spec : ExtractSpec, optional
        What to extract; its ``trunk_digest`` and ``preprocessing`` are filled in from the weights.
    root : path or URL, optional
        What a manifest's paths are relative to; by default the manifest's own folder.
    weights : path, optional
        A weights file to use instead of the known sources of ``spec.trunk``.
    engine, device, batch_size, workers
        What runs the trunk (``torch`` or ``openvino``), where, images a pass, decoding threads; by default what suits
        the machine.
    max_pixels : int
        Images of more pixels are recorded as failures, before they are decoded.
    missing : str
        What to do with rows whose images are no longer in ``source``: ``error``, ``drop`` or ``keep`` them.
    overwrite : bool
        Start anew whatever ``output`` holds.
    strict : bool
        Raise on the first bad image instead of recording it.
    wait : bool
        Wait for another process that writes the store, instead of raising ``StoreLocked``.
    precision : str, optional
        Instead of ``spec.precision``. ``auto`` takes that of the store or unfinished run, else the fastest class of
        this machine whose features agree with fp32 to its tolerance, by a measurement. ``int8`` without a calibration
        takes theirs, else it calibrates on images of the source.
    assembly : str, optional
        ``copy`` the features into the store, or let it refer to the part files: ``virtual``. By default as the store
        is, else ``copy``.
    store_dtype : str, optional
        ``float32``, or ``float16``, which rounds to 11 binary digits. By default that of the store, else ``float32``.
    progress : bool
        Show a progress bar when at a terminal.

    Raises
    ------
    ListingError, WeightsError, EngineError, StoreError
        As their names say; ``EngineError`` also if int8 is too far from fp32.
    SpecMismatch
        If the store, or the unfinished run beside it, holds another spec.
    ImageError
        If no image at all can be read, or one cannot with ``strict``.
    """
    began = time.monotonic()
    if missing not in MISSING:
        raise SpecError(f"missing of extract must be one of {', '.join(MISSING)}, got {missing!r}")
    output = Path(output)
    listing = list_images(source, root)
    if not isinstance(source, str | Path):
        listing = listing.unique()
    spec = spec or ExtractSpec()
    trunk = load_trunk(spec.trunk, weights)
    spec = spec.with_trunk(trunk.name, trunk.digest, trunk.preprocessing)
    workers = workers or os.cpu_count() or 1
    timings = Timings(workers, precision or spec.precision)

    def make(spec: ExtractSpec) -> Engine:
        return make_engine(trunk, spec, device, batch_size, engine)

    with PartFolder(output, wait=wait) as folder:
        settled = settle_precision(
            precision or spec.precision, spec, _found(folder, output, overwrite=overwrite), make,
            partial(draw_sample, listing, workers=workers, max_pixels=max_pixels), trunk,
        )  # fmt: skip
        spec = settled.spec
        old = OldStore() if overwrite or not output.exists() else OldStore.read(output, spec)
        check_storage(assembly or old.assembly, store_dtype)
        dropped = spec.views * _missing_images(output, old, listing, missing, spec.views)
        golden = folder.begin(spec, overwrite=overwrite)
        ledger = Ledger(listing, spec.views, old, read_parts(folder), workers)
        if len(ledger.pending):
            runner = settled.engine or make(spec)
            golden = _begin(folder, runner, golden, old)
            with progress_bar(len(ledger.pending), "image", "extract", shown=progress) as bar:
                parts = feature_parts(runner, listing, ledger.pending, workers, max_pixels, bar.update, timings)
                _write_parts(folder, parts, ledger, timings, strict=strict)
        if missing == "keep":
            ledger.keep(old)
        if not ledger.digests.any():
            raise ImageError(f"none of the {len(listing)} images of {_name(source)} could be read; "
                             f"{': '.join(ledger.failures[0])}")  # fmt: skip
        table = RowTable.of(ledger.rows, ledger.digests, ledger.failures, spec.views)
        sources = [*([output] if len(old.rows) else []), *folder.part_files()]
        with _resumable():
            assemble(
                output, table, spec, golden or dict(old.golden), sources, scratch=folder.path,
                how=assembly or old.assembly, dtype=store_dtype or (None if assembly == "virtual" else old.dtype),
            )  # fmt: skip
        folder.discard()
    seconds = time.monotonic() - began
    changed = count_changed(old.rows, ledger.rows.take(np.flatnonzero(ledger.digests)))
    return make_report(output, spec.views * ledger.extracted, dropped, seconds, settled.agreement, timings, changed)


@contextmanager
def _resumable() -> Iterator[None]:
    """Say of a disk that does not take what is written how to go on once it does."""
    try:
        yield
    except StoreError as error:
        raise StoreError(f"{error}; what is finished is kept: mend that and run the same command again") from error


def _name(source: object) -> str:
    return str(source) if isinstance(source, str | Path) else type(source).__name__


def _found(folder: PartFolder, output: Path, *, overwrite: bool) -> ExtractSpec | None:
    """The spec of the unfinished run, else of the store, that this extraction goes on from."""
    if folder.spec or overwrite or not output.exists():
        return folder.spec
    with Store(output) as store:
        return store.spec


def _missing_images(output: Path, old: OldStore, listing: Listing, missing: str, views: int) -> int:
    """How many images of the old store go, since they are no longer listed."""
    gone = np.flatnonzero(listing.paths.find(old.rows.paths) < 0)
    if len(gone) and missing == "error":
        raise StoreExists(
            f"{output} has {views * len(gone)} rows whose images are no longer among the source's, "
            f"{min(old.rows.paths.take(gone))!r} first; "
            "give --missing drop to remove them, --missing keep to keep them, or another --output"
        )
    return len(gone) if missing == "drop" else 0


def _begin(
    folder: PartFolder, engine: Engine, golden: dict[str, np.ndarray] | None, old: OldStore
) -> dict[str, np.ndarray]:
    """The golden features of this run; those of a run or store that it goes on from must agree with this machine."""
    if golden:
        check_golden(engine, golden, str(folder.path))
        return golden
    if old.golden:
        check_golden(engine, old.golden, str(folder.store))
    golden = dict(old.golden) or compute_golden(engine)
    with _resumable():
        folder.start(engine.spec, golden)
    return golden


def _write_parts(folder: PartFolder, parts: Iterable[Part], ledger: Ledger, timings: Timings, *, strict: bool) -> None:
    """Write parts beside the computing of the next, and enter them into the ledger."""
    written: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="featx-write") as writer:
        for part in parts:
            if strict and part.failures:
                raise ImageError(f"{': '.join(part.failures[0])}; without --strict it is recorded and passed over")
            if written:
                written.result()
            written = writer.submit(_write, folder, part, timings)
            ledger.enter(part)
        if written:
            written.result()


def _write(folder: PartFolder, part: Part, timings: Timings) -> None:
    began = time.perf_counter()
    with _resumable():
        folder.write(part)
    timings.seconds["writing"] += time.perf_counter() - began
