"""Fit the head that a cross-validated search over heads, blocks and C selects."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.pipeline import Pipeline

from featx.backbones import WhichBlocks, WhichPools, feature_name
from featx.errors import DataError, EngineError
from featx.heads import (
    METHOD,
    MULTILABEL_HEADS,
    Calibration,
    SearchResult,
    check_labels,
    make_folds,
    make_head,
    refit,
    refit_calibrated,
    search,
)
from featx.heads import nested as estimate_nested
from featx.models.fit_options import FitOptions, Validation
from featx.models.saved_model import Model
from featx.models.training_rows import TrainingRows, describe_store, read_training_rows
from featx.runtime import Compute, installed
from featx.spec import ExtractSpec
from featx.store import Store

DECIDING_PACKAGES = ("scikit-learn", "numpy")
"""Packages whose versions a model records, because they decide its weights."""


def fit_searched(
    store: Path,
    head: str,
    blocks: WhichBlocks | None,
    pools: WhichPools | None,
    C: float | None,
    options: FitOptions,
    validation: Validation,
    compute: Compute,
) -> Model:
    """Search by cross-validation, and fit the selected candidate on all training rows; see `featx.fit`."""
    rows = read_training_rows(
        store, blocks=blocks, pools=pools, split_column=validation.split_column, test_size=validation.test_size,
        random_state=validation.random_state, sample_weight=options.sample_weight, weight_column=options.weight_column,
    )  # fmt: skip
    if rows.y.ndim == 2:
        _check_multilabel(store, rows, head, options.calibrate, validation.folds)
    runs = block_runs(rows.spec.blocks) if blocks is None else {_run_name(rows.spec.blocks): rows.spec.blocks}
    sets = {name: tuple(feature_name(b, p) for b in run for p in rows.spec.pools) for name, run in runs.items()}
    arguments: dict[str, Any] = {
        "features": rows.spec.slices, "feature_sets": sets, "groups": rows.groups, "plain": rows.plain,
        "heads": None if head == "best" else (head,), "Cs": None if C is None else (C,),
        "normalize": options.normalize, "folds": validation.folds, "repeats": validation.repeats,
        "scoring": validation.scoring, "rule": validation.select, "class_weight": options.class_weight,
        "sample_weight": rows.sample_weight, "seed": validation.random_state,
    }  # fmt: skip
    estimate = None
    with parallel_workers(compute) as workers:
        if validation.nested:
            # Before the search, which takes long: the nested folds need more images per class, and may fail.
            estimate = estimate_nested(rows.X, rows.y, outer=validation.folds, jobs=workers, **arguments)
        found = search(rows.X, rows.y, **arguments)
        spec = rows.spec.select(blocks=runs[found.best.feature_set])
        pipeline, calibration = _refit(rows, spec, found, options, workers)
    info = {
        "C": found.best.C,
        "rows": len(rows.y),
        "search": found.to_dict(),
        "selection": rows.selection,
        "store": rows.store_fingerprint,
        "versions": installed(*DECIDING_PACKAGES),
    }
    if rows.sample_weight is not None:
        info["sample_weight"] = options.weight_column or "given"
    if estimate:
        info["nested"] = estimate.to_dict()
    if calibration:
        info["calibration"] = {"method": METHOD, "folds": validation.folds}
    with Store(store) as opened:
        facts, reference = describe_store(opened, spec)
    return Model(spec, rows.classes, found.best.head, pipeline, reference, info | facts, calibration, rows.image_ids)


@contextmanager
def parallel_workers(compute: Compute) -> Iterator[int]:
    """Make joblib run parallel fits as ``compute`` says, and return the number of workers.

    On this machine the default is one worker; on a Ray cluster it is the number of its CPUs.

    Raises
    ------
    EngineError
        If Ray is not installed, if its cluster cannot be reached or has no CPU, or if a worker is lost.
    """
    if compute.executor == "local":
        yield compute.workers or 1
        return
    # Imported here because it loads the engines, which a fit does not need.
    from featx.extraction import Cluster

    with Cluster(compute.ray_address).connected("--executor ray") as ray:
        from ray.util.joblib import register_ray

        register_ray()  # type: ignore[no-untyped-call]
        if not (cpus := int(ray.cluster_resources().get("CPU", 0))):
            raise EngineError("--executor ray needs a cluster with CPUs, got none; start a node that has CPUs")
        try:
            with parallel_config("ray"):
                yield compute.workers or cpus
        except ray.exceptions.RayError as error:
            raise EngineError(f"a Ray worker was lost during a fit: {error}; run the command again") from error


def _check_multilabel(store: Path, rows: TrainingRows, head: str, calibrate: bool, folds: int) -> None:
    if calibrate or head not in ("best", *MULTILABEL_HEADS):
        raise DataError(
            f"{'--calibrate' if calibrate else f'--head {head}'} of fit takes one label per image, but {store} is "
            "multi-label; give --head ovr-logistic, which has probabilities, or linear-svc"
        )
    check_labels(rows.y, rows.groups, folds, rows.classes)


def _refit(
    rows: TrainingRows, spec: ExtractSpec, found: SearchResult, options: FitOptions, workers: int
) -> tuple[Pipeline, Calibration | None]:
    """Fit the selected candidate on all rows, and its calibration if ``options`` asks for one."""
    best = found.best
    pipeline = make_head(
        best.head, best.C, normalize=found.normalize, widths=tuple(spec.widths.values()),
        class_weight=options.class_weight, multilabel=rows.y.ndim == 2,
    )  # fmt: skip
    columns = np.concatenate([np.arange(rows.X.shape[1])[rows.spec.slices[name]] for name in spec.widths])
    X = rows.X[:, columns]
    arguments: dict[str, Any] = {"sample_weight": rows.sample_weight, "jobs": workers}
    if options.calibrate and best.head == "linear-svc":
        folds = make_folds(rows.y, rows.groups, found.folds, seed=found.seed, plain=rows.plain)
        return refit_calibrated(pipeline, X, rows.y, folds, **arguments)
    return refit(pipeline, X, rows.y, **arguments), None


def block_runs(blocks: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return every run of neighboring blocks by its name: ``3``, ``3-5``."""
    count = len(blocks)
    runs = [tuple(blocks[start:stop]) for start in range(count) for stop in range(start + 1, count + 1)]
    return {_run_name(run): run for run in runs}


def _run_name(run: Sequence[int]) -> str:
    consecutive = len(run) > 1 and list(run) == list(range(run[0], run[-1] + 1))
    return f"{run[0]}-{run[-1]}" if consecutive else ",".join(map(str, run))
