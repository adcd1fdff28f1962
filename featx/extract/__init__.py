"""Extract: images to a store of pooled features, going on from what is there."""

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from featx.engines import Engine, make_engine
from featx.engines.golden import check_golden, compute_golden
from featx.engines.streaming import feature_parts
from featx.errors import ImageError, SpecError, StoreExists
from featx.extract.update import OldStore, Row, listed_rows, read_parts, row_table, still_valid
from featx.images import MAX_PIXELS, list_images
from featx.progress import progress_bar
from featx.spec import ExtractSpec
from featx.store import Part, PartFolder, Store, assemble
from featx.weights import load_trunk

MISSING = ("error", "drop", "keep")


@dataclass(frozen=True)
class ExtractReport:
    """What an extraction did.

    ``rows`` are in the store now, of which ``extracted`` are new; ``dropped`` were there and have gone;
    ``turned`` had an EXIF orientation applied; ``failures`` are (path, reason); ``conflicts`` are pairs of files
    with the same bytes in different classes.
    """

    store: str
    rows: int
    extracted: int
    dropped: int
    turned: int
    failures: list[tuple[str, str]]
    conflicts: list[tuple[str, str]]
    seconds: float


def extract(
    source: str | Path | Sequence[str | Path],
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
    progress: bool = False,
) -> ExtractReport:
    """Run the trunk over images and keep the pooled features of its blocks in a store.

    An existing store of the same spec is brought up to date: images that are new, changed or failed before are
    extracted, the others are kept. A run that was stopped goes on from its finished parts.

    Parameters
    ----------
    source : path or sequence of paths
        A folder (one sub-folder a class, or flat), a CSV manifest (``path,label[,split]``), or image files.
    output : path
        The store's file.
    spec : ExtractSpec, optional
        What to extract; its ``trunk_digest`` and ``preprocessing`` are filled in from the weights.
    root : path, optional
        The folder that a manifest's paths are relative to; by default the manifest's own.
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
    progress : bool
        Show a progress bar when at a terminal.

    Raises
    ------
    ListingError, WeightsError, EngineError, StoreError
        As their names say.
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
    spec = spec or ExtractSpec()
    trunk = load_trunk(spec.trunk, weights)
    spec = spec.with_trunk(trunk.name, trunk.digest, trunk.preprocessing)
    workers = workers or os.cpu_count() or 1
    with PartFolder(output, wait=wait) as folder:
        old = OldStore() if overwrite or not output.exists() else OldStore.read(output, spec)
        rows = listed_rows(listing)
        dropped = _missing_rows(output, old, rows, missing)
        golden = folder.begin(spec, overwrite=overwrite)
        done, failed = read_parts(folder)
        valid = still_valid({**old.digests, **done}, listing.paths, listing.root, workers)
        tried = set(valid).union(path for path, _ in failed)
        pending = [path for path in listing.paths if path not in tried]
        new = _New()
        if pending:
            runner = make_engine(trunk, spec, device, batch_size, engine)
            golden = _begin(folder, runner, golden, old)
            with progress_bar(len(pending), "image", "extract", shown=progress) as bar:
                parts = feature_parts(runner, pending, listing.root, workers, max_pixels, bar.update)
                new = _write_parts(folder, parts, strict=strict)
        digests, failures = {**valid, **new.digests}, [*listing.failures, *failed, *new.failures]
        if missing == "keep":
            # An image that is listed still, but can no longer be read, is a failure and not a row.
            digests |= {path: digest for path, digest in old.digests.items() if path not in rows}
            rows = {**old.rows, **rows}
            failures += [failure for failure in old.failures if failure[0] not in rows]
        if not digests:
            raise ImageError(f"none of the {len(rows)} images of {source} could be read; {': '.join(failures[0])}")
        table = row_table(rows, digests, failures)
        sources = [*([output] if old.rows else []), *folder.part_files()]
        assemble(output, table, spec, golden or dict(old.golden), sources, scratch=folder.path)
        folder.discard()
    return _report(output, len(new.digests) + len(done), dropped, time.monotonic() - began)


def _missing_rows(output: Path, old: OldStore, rows: dict[str, Row], missing: str) -> int:
    """How many rows of the old store go, since their images are no longer listed."""
    gone = sorted(set(old.rows).difference(rows))
    if gone and missing == "error":
        raise StoreExists(
            f"{output} has {len(gone)} rows whose images are no longer among the source's, {gone[0]!r} first; "
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
    folder.start(engine.spec, golden)
    return golden


@dataclass
class _New:
    digests: dict[str, str] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)


def _write_parts(folder: PartFolder, parts: Iterable[Part], *, strict: bool) -> _New:
    """Write parts beside the computing of the next; give the digests of the rows that are new, and the failures."""
    new = _New()
    written: Future[None] | None = None
    with ThreadPoolExecutor(1, thread_name_prefix="featx-write") as writer:
        for part in parts:
            if strict and part.failures:
                raise ImageError(f"{': '.join(part.failures[0])}; without --strict it is recorded and passed over")
            if written:
                written.result()
            written = writer.submit(folder.write, part)
            new.digests.update(zip(part.paths, part.digests, strict=True))
            new.failures += part.failures
        if written:
            written.result()
    return new


def _report(output: Path, extracted: int, dropped: int, seconds: float) -> ExtractReport:
    with Store(output) as store:
        return ExtractReport(
            store=str(output),
            rows=store.rows,
            extracted=extracted,
            dropped=dropped,
            turned=int(store.turned.sum()),
            failures=store.failures,
            conflicts=_conflicts(store),
            seconds=seconds,
        )


def _conflicts(store: Store) -> list[tuple[str, str]]:
    """Pairs of files with equal bytes in different classes."""
    first: dict[str, tuple[str, int]] = {}
    pairs = []
    for path, digest, label in zip(store.paths, store.digests, store.labels.tolist(), strict=True):
        other, other_label = first.setdefault(digest, (path, label))
        if label != other_label:
            pairs.append((other, path))
    return pairs
