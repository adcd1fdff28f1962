"""Extract the features of images into a store, resuming a run that was stopped."""

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
from featx.extraction.assembly import AssemblyOptions, finish, missing_images, resumable
from featx.extraction.local_executor import ExtractJob, LocalExecutor, check_none
from featx.extraction.part_groups import Shard
from featx.extraction.precision import ResolvedPrecision, draw_sample, resolve_precision
from featx.extraction.ray_actor import EngineConfig
from featx.extraction.ray_cluster import Cluster
from featx.extraction.ray_executor import RayExecutor
from featx.extraction.report import ExtractReport, make_report, make_shard_report
from featx.extraction.shard_jobs import calibrated_first, make_job
from featx.extraction.update import ExistingStore, ExtractionPlan, read_parts
from featx.images import MAX_PIXELS, Listing, list_images
from featx.runtime import Compute, progress_bar
from featx.spec import AUTO, ExtractSpec, warn_of_copies
from featx.store import PartFolder, Store, check_assembly


def extract(
    source: str | Path | Sequence[Any] | Any,
    output: str | Path,
    spec: ExtractSpec | None = None,
    compute: Compute | None = None,
    *,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    assembly: AssemblyOptions | None = None,
    overwrite: bool = False,
    strict: bool = False,
    wait: bool = False,
) -> ExtractReport:
    """Extract the features of images into a store.

    An existing store of the same spec is updated: images that are new, changed or failed before are extracted, all
    others are kept. A run that was stopped resumes from its finished parts, and tries failed images again.

    Parameters
    ----------
    source : path, URL or object
        A folder, manifest, shards, a data set, or image files: what `featx.images.list_images` takes.
    output : path
        File of the store.
    spec : ExtractSpec, optional
        What to extract. Its ``backbone_digest`` and ``preprocessing`` are filled in from the weights. Precision
        ``auto`` becomes that of the existing store or unfinished run, else the fastest class on this machine whose
        features agree with fp32 to its tolerance. ``int8`` without a calibration takes theirs, else it is calibrated
        on images of the source.
    compute : Compute, optional
        How to run: engine, device, batch size, workers, executor, shard. With ``shard="3/16"`` only the parts of the
        third of sixteen shards are written, and no store. Other shards may run at the same time, on any machines that
        share the folder; `assemble_shards` makes the store, and so does an extraction without a shard.
    root : path or URL, optional
        Where a manifest's relative paths start; by default the manifest's own folder.
    weights : path, optional
        A weights file to use instead of the known sources of ``spec.backbone``.
    assembly : AssemblyOptions, optional
        How the parts become a store, and what to do with rows whose images are missing from ``source``.
    overwrite : bool
        Ignore what ``output`` holds, and start again.
    strict : bool
        Raise on the first bad image instead of recording it.
    wait : bool
        Wait for another process that writes the store, instead of raising ``StoreLocked``.

    Returns
    -------
    ExtractReport
        Counts, failures, and the bottleneck of the run.

    Raises
    ------
    ListingError, WeightsError, StoreError
        If the images, the weights or the store cannot be read.
    EngineError
        If the engine or device is not available, or int8 is too far from fp32.
    SpecMismatch
        If the store, or the unfinished run beside it, has another spec.
    ImageError
        If no image at all can be read, or one cannot with ``strict``.
    """
    began, output = time.monotonic(), Path(output)
    spec, compute, assembly = spec or ExtractSpec(), compute or Compute(), assembly or AssemblyOptions()
    shard = Shard.parse(compute.shard) if compute.shard else None
    shard_job = make_job(source, root, dataclasses.asdict(assembly), shard, overwrite=overwrite) if shard else None
    listing = _list(source, root, strict=strict)
    warn_of_copies(spec.augment, spec.n_views)
    backbone = load_backbone(spec.backbone, weights)
    spec = spec.with_backbone(backbone.name, backbone.digest, backbone.preprocessing)
    threads = cpu_count() if compute.executor == "ray" else compute.workers or cpu_count()
    job = ExtractJob(listing, output, threads, compute.max_pixels or MAX_PIXELS, strict)
    config = EngineConfig(backbone, spec, compute.device, compute.batch_size, compute.engine)
    timings = Timings(threads, spec.precision)

    with PartFolder(output, wait=wait, shard=compute.shard or "") as folder:
        resolved = _resolve(folder, config, job, compute, overwrite=overwrite)
        spec = resolved.spec
        old = ExistingStore() if overwrite or not output.exists() else ExistingStore.read(output, spec)
        check_assembly(assembly.layout or old.layout, assembly.dtype, output)
        dropped = spec.n_views * missing_images(output, old, listing, assembly.missing_images, spec.n_views)
        golden = folder.load_run(spec, overwrite=overwrite)
        plan = ExtractionPlan(listing, spec, old, read_parts(folder), threads, shard)
        if shard_job:
            folder.save_job(shard_job)
        if plan.groups:
            with _make_executor(compute, dataclasses.replace(config, spec=spec), job, resolved.engine) as executor:
                golden = _begin(folder, executor.engine, golden, old)
                _carry_out(executor, plan, golden, timings, progress=compute.progress)
        if shard:
            return make_shard_report(output, str(shard), plan, spec, time.monotonic() - began, timings)
        changed = finish(folder, plan, old, spec, golden or {}, assembly, _name(source))
    seconds = time.monotonic() - began
    return make_report(output, spec.n_views * plan.extracted, dropped, seconds, resolved.agreement, timings, changed)


def _list(source: Any, root: str | Path | None, *, strict: bool) -> Listing:
    """List the images of a source, each once."""
    listing = list_images(source, root)
    if strict:
        check_none(listing.failures)
    return listing if isinstance(source, str | Path) else listing.drop_duplicates()


def _name(source: object) -> str:
    return str(source) if isinstance(source, str | Path) else type(source).__name__


def _resolve(
    folder: PartFolder, config: EngineConfig, job: ExtractJob, compute: Compute, *, overwrite: bool
) -> ResolvedPrecision:
    """Resolve the precision of this run, and its calibration."""
    spec = config.spec
    found = _found(folder, job.store, spec, overwrite=overwrite)
    if spec.precision == AUTO and not found and (compute.shard or compute.executor == "ray"):
        raise SpecError("precision auto is measured on one machine, but shards and Ray workers on several must agree: "
                        "choose a --precision")  # fmt: skip

    def make(spec: ExtractSpec) -> Engine:
        return make_engine(config.backbone, spec, config.device, config.batch_size, config.engine)

    sample = partial(draw_sample, job.listing, workers=job.workers, max_pixels=job.max_pixels)
    resolved = resolve_precision(spec, found, make, sample, config.backbone)
    if compute.shard and resolved.engine:
        return calibrated_first(folder, resolved, resolved.engine)
    return resolved


def _found(folder: PartFolder, output: Path, spec: ExtractSpec, *, overwrite: bool) -> ExtractSpec | None:
    """The spec of the unfinished run, else of the store, that this extraction continues.

    With ``overwrite`` it continues only a run of the same spec, whatever its precision and calibration.
    """
    found = folder.spec
    if found and overwrite:
        same = dataclasses.replace(found, precision=spec.precision, calibration=spec.calibration) == spec
        return found if same else None
    if found or overwrite or not output.exists():
        return found
    with Store(output) as store:
        return store.spec


def _make_executor(
    compute: Compute, config: EngineConfig, job: ExtractJob, engine: Engine | None
) -> LocalExecutor | RayExecutor:
    """The executor that ``compute`` asks for; ``engine`` is one that was made to calibrate, if any."""
    if compute.executor == "ray":
        cluster = Cluster(compute.ray_address, compute.workers, compute.cpus_per_worker, compute.gpus_per_worker)
        return RayExecutor(cluster, config, job)
    return LocalExecutor(
        engine or make_engine(config.backbone, config.spec, config.device, config.batch_size, config.engine), job
    )


def _begin(
    folder: PartFolder, engine: Engine, golden: dict[str, np.ndarray] | None, old: ExistingStore
) -> dict[str, np.ndarray]:
    """The reference features of this run; those of an existing run or store must agree with this machine."""
    if golden:
        check_golden(engine, golden, str(folder.path), f"remove {folder.path} to start again")
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
    check_golden(engine, begun, str(folder.path), f"remove {folder.path} to start again")
    return begun


def _carry_out(
    executor: LocalExecutor | RayExecutor,
    plan: ExtractionPlan,
    golden: dict[str, np.ndarray],
    timings: Timings,
    *,
    progress: bool,
) -> None:
    images = sum(map(len, plan.groups))
    with progress_bar(images, "image", "extract", shown=progress) as bar, resumable():
        executor.carry_out(plan.groups, golden, plan.enter, timings, bar.update)
