"""Extract: images to a store of pooled features, going on from what is there."""

import dataclasses
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count

from featx.backbones import load_backbone
from featx.engines import Engine, Timings, check_golden, compute_golden, make_engine
from featx.errors import SpecError
from featx.extraction.assembly import AssemblyOptions, assemble_shards, finish, missing_images, resumable
from featx.extraction.local_executor import ExtractJob, LocalExecutor, check_none
from featx.extraction.part_groups import Shard
from featx.extraction.precision import draw_sample, resolve_precision
from featx.extraction.ray_actor import EngineConfig
from featx.extraction.ray_cluster import Cluster, engine_of, is_ray
from featx.extraction.ray_executor import RayExecutor
from featx.extraction.report import ExtractReport, make_report, make_shard_report
from featx.extraction.shard_jobs import calibrated_first, make_job
from featx.extraction.update import ExistingStore, ExtractionPlan, read_parts
from featx.images import MAX_PIXELS, Listing, list_images
from featx.runtime import progress_bar
from featx.spec import ExtractSpec, warn_of_copies
from featx.store import PartFolder, Store, check_storage

__all__ = ["MISSING", "ExtractReport", "assemble_shards", "extract"]

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
    shard: str | None = None,
    ray_address: str | None = None,
    cpus_per_worker: int | None = None,
    gpus_per_worker: float | None = None,
    progress: bool = False,
) -> ExtractReport:
    """Run the backbone over images and keep the pooled features of its blocks in a store.

    An existing store of the same spec is brought up to date: images that are new, changed or failed before are
    extracted, the others are kept. A run that was stopped goes on from its finished parts, and tries what failed again.

    Parameters
    ----------
    source : path, URL or object
        A folder, manifest, shards, a data set, or image files: what `featx.images.list_images` takes.
    output : path
        The store's file.
    spec : ExtractSpec, optional
        What to extract; its ``backbone_digest`` and ``preprocessing`` are filled in from the weights.
    root : path or URL, optional
        What a manifest's paths are relative to; by default the manifest's own folder.
    weights : path, optional
        A weights file to use instead of the known sources of ``spec.backbone``.
    engine, device, batch_size, workers
        What runs the backbone (``torch``, ``openvino``, ``ncnn`` or, with any in its workers, ``ray``), where, images a
        pass, decoding threads or Ray workers; by default what suits the machine.
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
    shard : str, optional
        ``3/16``: make only the parts of the third of sixteen shards, and no store. Others may run side by side, on
        any machines that share the folder; `assemble_shards` makes the store, and so does an extraction without it.
    ray_address, cpus_per_worker, gpus_per_worker
        With ``engine="ray"`` (extra ``ray``; ``ray+torch``, ``ray+openvino`` and ``ray+ncnn`` say what runs in the
        workers): which cluster, by default that of ``RAY_ADDRESS``, else this machine; and what each of ``workers``
        Ray workers has, by default one worker a GPU, or a node where there is none, with an equal share of the cores.
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
    output, ending = Path(output), AssemblyOptions(missing, assembly, store_dtype)
    share = Shard.parse(shard) if shard else None
    job = make_job(source, root, dataclasses.asdict(ending), share, overwrite=overwrite) if share else None
    on_ray, engine = is_ray(engine), engine_of(engine)
    listing = _list(source, root, strict=strict)
    spec = spec or ExtractSpec()
    warn_of_copies(spec.augment, spec.n_views)
    backbone = load_backbone(spec.backbone, weights)
    spec = spec.with_backbone(backbone.name, backbone.digest, backbone.preprocessing)
    threads = cpu_count() if on_ray else workers or cpu_count()
    timings = Timings(threads, precision or spec.precision)
    work = ExtractJob(listing, output, threads, max_pixels, strict)

    def make(spec: ExtractSpec) -> Engine:
        return make_engine(backbone, spec, device, batch_size, engine)

    with PartFolder(output, wait=wait, shard=shard or "") as folder:
        found = _found(folder, output, spec, overwrite=overwrite)
        if precision == "auto" and not found and (share or on_ray):
            raise SpecError("--precision auto measures one machine, and others are to agree: name the precision")
        settled = resolve_precision(
            precision or spec.precision, spec, found, make,
            partial(draw_sample, listing, workers=threads, max_pixels=max_pixels), backbone,
        )  # fmt: skip
        if share and settled.engine:
            settled = calibrated_first(folder, settled, settled.engine)
        spec = settled.spec
        old = ExistingStore() if overwrite or not output.exists() else ExistingStore.read(output, spec)
        check_storage(assembly or old.assembly, store_dtype, output)
        dropped = spec.n_views * missing_images(output, old, listing, missing, spec.n_views)
        golden = folder.load_run(spec, overwrite=overwrite)
        ledger = ExtractionPlan(listing, spec, old, read_parts(folder), threads, share)
        if job:
            folder.save_job(job)
        if ledger.groups:
            cluster = Cluster(ray_address, workers, cpus_per_worker, gpus_per_worker)
            runner = EngineConfig(backbone, spec, device, batch_size, engine)
            crew = RayExecutor(cluster, runner, work) if on_ray else LocalExecutor(settled.engine or make(spec), work)
            with crew:
                golden = _begin(folder, crew.engine, golden, old)
                _carry_out(crew, ledger, golden, timings, progress=progress)
        if share:
            seconds = time.monotonic() - began
            return make_shard_report(output, str(share), ledger, spec, seconds, timings)
        changed = finish(folder, ledger, old, spec, golden or {}, ending, _name(source))
    seconds = time.monotonic() - began
    return make_report(output, spec.n_views * ledger.extracted, dropped, seconds, settled.agreement, timings, changed)


def _list(source: Any, root: str | Path | None, *, strict: bool) -> Listing:
    """List the images of a source, each once; errors as those of `extract`."""
    listing = list_images(source, root)
    if strict:
        check_none(listing.failures)
    return listing if isinstance(source, str | Path) else listing.unique()


def _carry_out(
    crew: LocalExecutor | RayExecutor,
    ledger: ExtractionPlan,
    golden: dict[str, np.ndarray],
    timings: Timings,
    *,
    progress: bool,
) -> None:
    images = sum(map(len, ledger.groups))
    with progress_bar(images, "image", "extract", shown=progress) as bar, resumable():
        crew.carry_out(ledger.groups, golden, ledger.enter, timings, bar.update)


def _name(source: object) -> str:
    return str(source) if isinstance(source, str | Path) else type(source).__name__


def _found(folder: PartFolder, output: Path, spec: ExtractSpec, *, overwrite: bool) -> ExtractSpec | None:
    """The spec of the unfinished run, else of the store, that this extraction goes on from.

    With ``overwrite`` it goes on from nothing but a run of ``spec``, whatever its precision and calibration: that of
    another backbone or size would be wrong here.
    """
    found = folder.spec
    if found and overwrite:
        alike = dataclasses.replace(found, precision=spec.precision, calibration=spec.calibration)
        return found if alike == spec else None
    if found or overwrite or not output.exists():
        return found
    with Store(output) as store:
        return store.spec


def _begin(
    folder: PartFolder, engine: Engine, golden: dict[str, np.ndarray] | None, old: ExistingStore
) -> dict[str, np.ndarray]:
    """The golden features of this run; those of a run or store that it goes on from must agree with this machine."""
    if golden:
        check_golden(engine, golden, str(folder.path), f"remove {folder.path} to extract anew")
        return golden
    if old.golden:
        check_golden(engine, old.golden, str(folder.store))
    golden = dict(old.golden) or compute_golden(engine)
    with resumable(), folder.exclusive():
        begun = folder.load_run(engine.spec)
        if begun is None:
            folder.create_run(engine.spec, golden)
            return golden
    # Another shard has begun meanwhile.
    check_golden(engine, begun, str(folder.path), f"remove {folder.path} to extract anew")
    return begun
