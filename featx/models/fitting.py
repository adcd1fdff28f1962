"""Fit: a store to a saved model, whose head, C and blocks are given or chosen by cross-validation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline

from featx.backbones import WhichBlocks, WhichPools, feature_name
from featx.errors import DataError, ModelError, SpecError
from featx.files import check_folder
from featx.heads import (
    HEADS,
    METHOD,
    MULTILABEL_HEADS,
    Calibration,
    SearchResult,
    check_labels,
    fingerprint,
    make_folds,
    make_head,
    refit,
    refit_calibrated,
    search,
)
from featx.heads import nested as estimate_nested
from featx.models.joblib_backend import shared_out
from featx.models.saved_model import Model
from featx.models.streamed_fit import fit_softmax
from featx.models.training_rows import Training, choose_rows, images_of, read_training, targets_of
from featx.runtime import installed
from featx.spec import ONE_VIEW, ExtractSpec
from featx.store import Store

DECIDING = ("scikit-learn", "numpy")
"""The packages that decide what a model is."""
FOLDS = 5
MAX_C = 1e12
"""Far above it a penalty is lost in rounding, and what certifies a fit is no finite number."""


def fit(
    store: str | Path,
    output: str | Path | None = None,
    *,
    head: str = "best",
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    C: float | None = None,
    normalize: str = "power",
    column: str | None = None,
    test_size: float | None = None,
    folds: int = FOLDS,
    repeats: int = 1,
    scoring: str | None = None,
    rule: str = "best",
    class_weight: str | None = None,
    sample_weight: ArrayLike | None = None,
    weight_column: str | None = None,
    seed: int = 0,
    calibrate: bool = False,
    nested: bool = False,
    jobs: int | str = 1,
    stream: bool = False,
    overwrite: bool = False,
) -> Model:
    """Fit a linear head on a store's features; what is not given is chosen by cross-validation.

    Folds are stratified by class and keep files of equal bytes together. Of a store with several views an image, all
    views of the training images are fitted, and plain ones alone are scored. The model that is saved is fitted by
    scikit-learn on all training rows.

    Parameters
    ----------
    store : path
        A store with labels.
    output : path, optional
        Where to save the model, ``photos.featx``.
    head : str
        ``linear-svc``, ``softmax``, ``ovr-logistic``, or ``best`` of the three. Where images have several labels,
        ``softmax`` is none of them.
    blocks : sequence of int, int or str, optional
        Blocks to use, ``(3, 4)`` or ``"3-4"``; by default the best run of neighboring blocks.
    pools : sequence of str, optional
        Pools to use; by default all that the store has.
    C : float, optional
        Inverse strength of the L2 penalty; by default the best of a grid.
    normalize : str
        ``power`` (signed square root, then unit norm a block), ``standard`` or ``none``.
    column : str, optional
        Split column: rows marked ``train`` are fitted. By default ``split``, if the store has it.
    test_size : float, optional
        Share of the rows to hold out for ``evaluate``, stratified, instead of a split column.
    folds, repeats, scoring, rule, class_weight, seed
        Of the cross-validation: see `featx.heads.head_search.search`.
    sample_weight : float array (rows of the store,), optional
        What each row counts in the fits, above 0; scores count rows alike.
    weight_column : str, optional
        Column of the manifest, ``weight…``, that has these numbers.
    calibrate : bool
        Give ``linear-svc`` probabilities, by `featx.heads.refitting.refit_calibrated`; the other heads have their own.
    nested : bool
        Estimate by nested cross-validation what the whole choice is worth, not flattered by its having chosen the
        best; kept in ``info["nested"]``: see `featx.heads.nested_cv.nested`.
    jobs : int or "ray"
        Processes for what scikit-learn fits and for the nested cross-validation; the model is the same for any number.
        ``"ray"`` takes the CPUs of the Ray cluster at ``RAY_ADDRESS``, or of one that it starts on this machine.
    stream : bool
        Read rows from disk block by block, for a store that does not fit in memory: ``softmax`` with a given C, by
        `featx.models.streamed_fit.fit_softmax`, without a search.
    overwrite : bool
        Replace a model that is there.

    Raises
    ------
    StoreError, SpecError
        If the store cannot be read, or lacks a block or pool; if ``jobs`` is out of range.
    DataError
        If there are no labels, fewer than two classes, or a class with fewer images than folds.
    ModelError
        If the model's file is there already, or cannot be written.
    EngineError
        If one of several processes is ended from outside, or Ray cannot be reached.
    """
    _check_options(head, C, output, calibrate, overwrite)
    if stream:
        weighted = weight_column is not None or sample_weight is not None
        given = {
            "--nested": nested, "--class-weight": class_weight is not None, "--weight-column": weighted,
            "--scoring": scoring is not None, "--rule": rule != "best", "--folds": folds != FOLDS,
            "--repeats": repeats != 1, "--jobs": jobs != 1,
        }  # fmt: skip
        C = _check_stream(head, C, given)
        model = _fit_stream(Path(store), output, blocks, pools, C, normalize, column, test_size, seed)
        if output is not None:
            model.save(output, overwrite=overwrite)
        return model
    rows = read_training(
        store, blocks=blocks, pools=pools, column=column, test_size=test_size, seed=seed,
        sample_weight=sample_weight, weight_column=weight_column,
    )  # fmt: skip
    if rows.y.ndim == 2:
        _check_several(store, rows, head, calibrate, folds)
    runs = block_runs(rows.spec.blocks) if blocks is None else {_run_name(rows.spec.blocks): rows.spec.blocks}
    sets = {name: tuple(feature_name(b, p) for b in run for p in rows.spec.pools) for name, run in runs.items()}
    options: dict[str, Any] = {
        "features": rows.spec.slices, "feature_sets": sets, "groups": rows.groups, "plain": rows.plain,
        "heads": None if head == "best" else (head,), "Cs": None if C is None else (C,),
        "normalize": normalize, "folds": folds, "repeats": repeats, "scoring": scoring, "rule": rule,
        "class_weight": class_weight, "sample_weight": rows.sample_weight, "seed": seed,
    }  # fmt: skip
    with shared_out(jobs) as processes:
        # First, as it wants the most images: what has too few would be told after the search.
        estimate = estimate_nested(rows.X, rows.y, outer=folds, jobs=processes, **options) if nested else None
        found = search(rows.X, rows.y, **options)
        spec = rows.spec.select(blocks=runs[found.best.feature_set])
        pipeline, calibration = _refit(rows, spec, found, class_weight, calibrate, processes)
    info = _info_of(rows, found)
    if rows.sample_weight is not None:
        info["sample_weight"] = weight_column or "given"
    if estimate:
        info["nested"] = estimate.to_dict()
    if calibration:
        info["calibration"] = {"method": METHOD, "folds": folds}
    with Store(store) as opened:
        facts, golden = _facts_of(opened, spec)
    info |= facts
    model = Model(spec, rows.classes, found.best.head, pipeline, golden, info, calibration, rows.images)
    if output is not None:
        model.save(output, overwrite=overwrite)
    return model


def _info_of(rows: Training, found: SearchResult) -> dict[str, Any]:
    """What a model's ``info`` says of every fit."""
    return {
        "C": found.best.C,
        "rows": len(rows.y),
        "search": found.to_dict(),
        "selection": rows.selection,
        "store": rows.store,
        "versions": installed(*DECIDING),
    }


def _facts_of(store: Store, spec: ExtractSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a model's ``info`` says of its store, and the golden features of its spec."""
    facts: dict[str, Any] = {"store_rows": store.n_rows}
    if store.spec.n_views > 1:
        facts["augmentation"] = {name: getattr(store.spec, name) for name in ONE_VIEW}
    return facts, {name: values for name, values in store.reference_features.items() if name in spec.widths}


def _check_options(head: str, C: float | None, output: str | Path | None, calibrate: bool, overwrite: bool) -> None:
    if C is not None and not 0 < C <= MAX_C:
        raise SpecError(f"--C of fit must be above 0 and at most {MAX_C:g}, got {C:g}")
    if head != "best" and head not in HEADS:
        raise DataError(f"--head of fit must be best or one of {', '.join(HEADS)}, got {head!r}")
    if calibrate and head not in ("best", "linear-svc"):
        raise DataError(f"--calibrate of fit is for linear-svc; {head} has probabilities of its own: leave it out")
    if output is None:
        return
    if Path(output).exists() and not overwrite:
        raise ModelError(f"{output} is there already; choose another --output, or replace it with --overwrite")
    check_folder(Path(output), ModelError)


def _check_stream(head: str, C: float | None, given: dict[str, bool]) -> float:
    if head != "softmax" or C is None:
        raise DataError(f"--stream of fit is for a given head and --C, without a search: give --head softmax --C 1, "
                        f"got --head {head}{' without --C' if C is None else ''}")  # fmt: skip
    if wrong := [name for name, there in given.items() if there]:
        raise DataError(f"--stream of fit cannot be combined with {wrong[0]}; leave one out")
    return C


def _check_several(store: str | Path, rows: Training, head: str, calibrate: bool, folds: int) -> None:
    if calibrate or head not in ("best", *MULTILABEL_HEADS):
        raise DataError(
            f"{'--calibrate' if calibrate else f'--head {head}'} of fit takes one label an image, but images of {store}"
            " have several; give --head ovr-logistic, which has probabilities, or linear-svc"
        )
    check_labels(rows.y, rows.groups, folds, rows.classes)


def _refit(
    rows: Training, spec: ExtractSpec, found: SearchResult, class_weight: str | None, calibrate: bool, jobs: int
) -> tuple[Pipeline, Calibration | None]:
    """The best of a search fitted on all rows, and its calibration if it is to have one."""
    best = found.best
    pipeline = make_head(
        best.head, best.C, normalize=found.normalize, widths=tuple(spec.widths.values()), class_weight=class_weight,
        multilabel=rows.y.ndim == 2,
    )  # fmt: skip
    columns = np.concatenate([np.arange(rows.X.shape[1])[rows.spec.slices[name]] for name in spec.widths])
    X = rows.X[:, columns]
    options: dict[str, Any] = {"sample_weight": rows.sample_weight, "jobs": jobs}
    if calibrate and best.head == "linear-svc":
        dealt = make_folds(rows.y, rows.groups, found.folds, seed=found.seed, plain=rows.plain)
        return refit_calibrated(pipeline, X, rows.y, dealt, **options)
    return refit(pipeline, X, rows.y, **options), None


def _fit_stream(
    path: Path, output: str | Path | None, blocks: WhichBlocks | None, pools: WhichPools | None, C: float,
    normalize: str, column: str | None, test_size: float | None, seed: int,
) -> Model:  # fmt: skip
    with Store(path) as store:
        digests = store.digests
        rows, selection = choose_rows(store, digests, column, test_size, seed)
        y, classes = targets_of(store, rows)
        if y.ndim == 2 or len(classes) < 2:
            raise DataError(f"--stream of fit takes one label an image, of two classes or more; {path} has others")
        spec, images = store.spec.plain.select(blocks, pools), fingerprint(digests[:: store.spec.n_views])
        fitted = images_of(digests, rows)
        del digests
        codes = np.searchsorted(np.array(classes), y)
        scratch = (path if output is None else Path(output)).resolve().parent
        pipeline, passes = fit_softmax(store, spec, rows, codes, classes, C=C, normalize=normalize, scratch=scratch)
        facts, golden = _facts_of(store, spec)
    info = {"C": C, "rows": len(rows), "streamed": {"passes": passes}, "selection": selection, "store": images,
            "versions": installed(*DECIDING), **facts}  # fmt: skip
    return Model(spec, classes, "softmax", pipeline, golden, info, fitted=fitted)


def block_runs(blocks: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Every run of neighbors among some blocks, by name: ``3``, ``3-5``."""
    count = len(blocks)
    runs = [tuple(blocks[start:stop]) for start in range(count) for stop in range(start + 1, count + 1)]
    return {_run_name(run): run for run in runs}


def _run_name(run: Sequence[int]) -> str:
    consecutive = len(run) > 1 and list(run) == list(range(run[0], run[-1] + 1))
    return f"{run[0]}-{run[-1]}" if consecutive else ",".join(map(str, run))
