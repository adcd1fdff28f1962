"""Extract the features of images into a store, and resume an extraction that was stopped."""

import dataclasses
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count

from featx.backbones import load_backbone
from featx.engines import Engine, StageTimings, check_reference_features, compute_reference_features
from featx.errors import SpecError
from featx.extraction.assembly import check_space, count_missing_images, explain_resuming, make_store
from featx.extraction.assembly_options import AssemblyOptions
from featx.extraction.existing_features import ExistingStore, read_finished_parts
from featx.extraction.extraction_plan import ExtractionPlan
from featx.extraction.local_executor import EngineConfig, ExtractJob, LocalExecutor, refuse_failures
from featx.extraction.precision import ResolvedPrecision, draw_sample, resolve_precision, share_calibration
from featx.extraction.ray_cluster import Cluster
from featx.extraction.ray_executor import RayExecutor
from featx.extraction.report import ExtractReport, make_report, make_shard_report
from featx.extraction.shards import Shard, ShardedRun
from featx.images import MAX_PIXELS, Listing, ListingOptions, list_images, resolve_range
from featx.runtime import Compute, progress_bar
from featx.spec import AUTO, ExtractSpec, warn_identical_copies
from featx.store import PartFolder, Store, check_assembly

logger = logging.getLogger(__name__)


def extract(
    source: str | Path | Sequence[Any] | Any,
    output: str | Path,
    spec: ExtractSpec | None = None,
    compute: Compute | None = None,
    *,
    root: str | Path | None = None,
    weights: str | Path | None = None,
    assembly: AssemblyOptions | None = None,
    listing: ListingOptions | None = None,
    overwrite: bool = False,
    strict: bool = False,
) -> ExtractReport:
    """Extract the features of images into a store.

    If ``output`` is a store with the same spec, it is updated. Images that are new, that have changed or that failed
    before are extracted, and all other images are kept. A run that was stopped continues after its finished parts, and
    tries failed images again.

    Parameters
    ----------
    source : path, URL or object
        The images: a folder, a manifest, shards, a data set, or image files. `featx.images.list_images` describes all
        sources.
    output : path
        File of the store.
    spec : ExtractSpec, optional
        What to extract. Its ``backbone_digest`` and ``preprocessing`` are filled in from the weights.

        If there is an existing store or an unfinished run, the precision ``auto`` becomes the precision of that store
        or run. Otherwise it becomes the fastest precision class on this machine whose features agree with fp32
        within the tolerance of the class. ``int8`` without a calibration takes the calibration of the store or run. If
        there is none, it is calibrated on images of the source. In the same way, the range ``auto`` is that of the
        store or run. If there is none, it is chosen on a sample of the source.
    compute : Compute, optional
        How to run: the engine, device, batch size, workers, executor, shard, and whether to wait for another process.
        With ``shard="3/16"``, only the parts of the third of sixteen shards are written, and no store is made. Other
        shards may run at the same time, on any machines that share the folder. Afterwards, `assemble_shards` or an
        extraction without a shard makes the store.
    root : path or URL, optional
        The folder that the relative paths of a manifest start from. The default is the folder of the manifest.
    weights : path, optional
        A weights file to use instead of the known sources of ``spec.backbone``.
    assembly : AssemblyOptions, optional
        How the parts become a store, and what to do with rows whose images are no longer in ``source``.
    listing : ListingOptions, optional
        How to read ``source``, if it can be read in several ways: what its folders are, and which columns have the
        labels and the groups.
    overwrite : bool
        Ignore the existing store, and start again.
    strict : bool
        Raise an error for the first image that cannot be read, instead of recording it as a failure.

    Returns
    -------
    ExtractReport
        The number of rows, how ``source`` was read, the failures, and the slowest stage of the run.

    Raises
    ------
    ListingError, WeightsError, StoreError
        If the images, the weights or the store cannot be read. Without ``wait`` in ``compute``, ``StoreLocked`` if
        another process is writing the store.
    EngineError
        If the engine or device is not available, or if int8 features differ too much from fp32 features.
    SpecMismatch
        If the store, or the unfinished run beside it, has another spec.
    ImageError
        If no image can be read. With ``strict``, also if any image cannot be read.

    Notes
    -----
    Before the first image is extracted, it is checked that the parts and the store can be written: the folder, the free
    space, and whether another program has locked the store. A file that cannot be read now is never taken for a damaged
    one: the run ends with an error, and nothing is removed. If the file of an image that has features cannot be read
    now, its features are kept, and ``unchecked`` of the report names it.
    """
    began, output = time.monotonic(), Path(output)
    spec, compute, assembly = spec or ExtractSpec(), compute or Compute(), assembly or AssemblyOptions()
    shard = Shard.parse(compute.shard) if compute.shard else None
    options = listing or ListingOptions()
    sharded = ShardedRun.start(source, root, shard.count, assembly, options, overwrite=overwrite) if shard else None
    images = _list(source, root, options, strict=strict)
    warn_identical_copies(spec.augment, spec.n_views)
    config = _configure(spec, compute, weights)
    threads = cpu_count() if compute.executor == "ray" else compute.workers or cpu_count()
    job = ExtractJob(images, output, threads, compute.max_pixels or MAX_PIXELS, strict)
    timings = StageTimings(threads, spec.precision)

    with PartFolder(output, wait=compute.wait, shard=compute.shard or "") as folder:
        resolved = _resolve(folder, config, job, compute, overwrite=overwrite)
        spec = resolved.spec
        existing = ExistingStore() if overwrite or not output.exists() else ExistingStore.read(output, spec)
        check_assembly(assembly.assemble or existing.layout, assembly.dtype, output)
        dropped = spec.n_views * count_missing_images(output, existing, images, assembly, spec.n_views)
        references = folder.load_run(spec, overwrite=overwrite)
        plan = ExtractionPlan(images, spec, existing, read_finished_parts(folder), threads, shard)
        if strict:
            refuse_failures(plan.unchecked)
        if sharded:
            sharded.save(folder)
        check_space(output, plan, existing, spec, assembly, shard=bool(shard))
        logger.info(
            "%d of %d images to extract, in %d parts", sum(map(len, plan.pending)), len(images), len(plan.pending)
        )
        if plan.pending:
            with _make_executor(compute, dataclasses.replace(config, spec=spec), job, resolved.engine) as executor:
                references = _agree_on_references(folder, executor.engine, references, existing)
                _run(executor, plan, references, timings, progress=compute.progress)
        if shard:
            seconds = time.monotonic() - began
            report = make_shard_report(output, images.summary, str(shard), plan, spec, seconds, timings)
            return dataclasses.replace(report, unchecked=plan.unchecked)
        changed = make_store(
            folder, plan, existing, spec, references or {}, assembly, images.summary, _describe(source)
        )
    seconds, extracted = time.monotonic() - began, spec.n_views * plan.extracted
    report = make_report(output, images.summary, extracted, dropped, seconds, resolved.agreement, timings, changed)
    return dataclasses.replace(report, unchecked=plan.unchecked)


def _list(source: Any, root: str | Path | None, options: ListingOptions, *, strict: bool) -> Listing:
    """List the images of a source. Each image is listed once."""
    listing = list_images(source, root, options=options)
    if strict:
        refuse_failures(listing.failures)
    return listing if isinstance(source, str | Path) else listing.drop_duplicates()


def _describe(source: object) -> str:
    return str(source) if isinstance(source, str | Path) else type(source).__name__


def _configure(spec: ExtractSpec, compute: Compute, weights: str | Path | None) -> EngineConfig:
    """Load the backbone, and record its digest and preprocessing in the spec."""
    backbone = load_backbone(spec.backbone, weights)
    spec = spec.with_backbone(backbone.name, backbone.digest, backbone.preprocessing)
    return EngineConfig(backbone, spec, compute.device, compute.batch_size, compute.engine)


def _resolve(
    folder: PartFolder, config: EngineConfig, job: ExtractJob, compute: Compute, *, overwrite: bool
) -> ResolvedPrecision:
    """Decide the range of values, the precision and the calibration of this run."""
    spec = config.spec
    existing = _find_existing_spec(folder, job.store, spec, overwrite=overwrite)
    if existing and spec.range == AUTO and existing.value_range.automatic:
        spec = dataclasses.replace(spec, range=existing.range)
    elif not existing:
        spec = resolve_range(spec, job.listing, job.max_pixels, job.workers)
    if spec.precision == AUTO and not existing and (compute.shard or compute.executor == "ray"):
        raise SpecError("--precision auto is measured on one machine, but shards and Ray workers must all use the same "
                        "precision: name one")  # fmt: skip
    sample = partial(draw_sample, job.listing, workers=job.workers, max_pixels=job.max_pixels)
    resolved = resolve_precision(spec, existing, config.make_engine, sample, config.backbone)
    if compute.shard and resolved.engine:
        return share_calibration(folder, resolved, resolved.engine)
    return resolved


def _find_existing_spec(folder: PartFolder, output: Path, spec: ExtractSpec, *, overwrite: bool) -> ExtractSpec | None:
    """Return the spec of the unfinished run that this extraction continues, or else that of the existing store.

    With ``overwrite``, only an unfinished run with the same spec is continued. Its range, precision and calibration may
    be different.
    """
    found = folder.spec
    if found and overwrite:
        value_range = spec.range if found.value_range.automatic else found.range
        same = dataclasses.replace(found, precision=spec.precision, calibration=spec.calibration, range=value_range)
        return found if same == spec else None
    if found or overwrite or not output.exists():
        return found
    with Store(output) as store:
        return store.spec


def _make_executor(
    compute: Compute, config: EngineConfig, job: ExtractJob, engine: Engine | None
) -> LocalExecutor | RayExecutor:
    """Make the executor that ``compute`` names. ``engine`` is the engine that was made to calibrate int8, if any."""
    if compute.executor == "ray":
        cluster = Cluster(compute.ray_address, compute.workers, compute.cpus_per_worker, compute.gpus_per_worker)
        return RayExecutor(cluster, config, job)
    return LocalExecutor(engine or config.make_engine(), job)


def _agree_on_references(
    folder: PartFolder, engine: Engine, references: dict[str, np.ndarray] | None, existing: ExistingStore
) -> dict[str, np.ndarray]:
    """Return the features of the reference images for this run, and record them if the run is new.

    Raises
    ------
    SpecMismatch
        If this machine computes other features than those of the unfinished run or of the existing store.
    """
    remedy = f"remove {folder.path} to start again"
    if references:
        check_reference_features(engine, references, str(folder.path), remedy)
        return references
    if existing.references:
        check_reference_features(engine, existing.references, str(folder.store))
    references = dict(existing.references) or compute_reference_features(engine)
    with explain_resuming(), folder.exclusive():
        others = folder.load_run(engine.spec)
        if others is None:
            folder.create_run(engine.spec, references)
            return references
    # Another shard has created the run in the meantime, so this machine must agree with its features.
    check_reference_features(engine, others, str(folder.path), remedy)
    return others


def _run(
    executor: LocalExecutor | RayExecutor,
    plan: ExtractionPlan,
    references: dict[str, np.ndarray],
    timings: StageTimings,
    *,
    progress: bool,
) -> None:
    """Compute the parts that are pending, and show a progress bar."""
    images = sum(map(len, plan.pending))
    with progress_bar(images, "image", "extract", shown=progress) as bar, explain_resuming():
        executor.run(plan.pending, references, plan.add_part, timings, bar.update)
