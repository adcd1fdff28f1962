"""Fit the head that a cross-validated search over heads, blocks and C selects."""

import dataclasses
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from joblib import parallel_config
from sklearn.pipeline import Pipeline

from featx.backbones import WhichBlocks, WhichPools, get_pooling
from featx.errors import DataError, EngineError, FeatxWarning, NoFolds
from featx.heads import (
    CALIBRATION_METHOD,
    HEADS,
    MULTILABEL_HEADS,
    Candidate,
    Fold,
    HeadSearchCV,
    RareClasses,
    TemperatureCalibration,
    check_labels,
    default_scoring,
    find_near_duplicates,
    find_rare_classes,
    make_folds,
    make_head,
    nested_cross_validate,
    not_converged,
    refit,
    refit_calibrated,
    select_candidate,
)
from featx.models.fit_options import FitOptions, Validation
from featx.models.row_groups import GroupOptions, compared_features
from featx.models.saved_model import Model
from featx.models.training_rows import TrainingRows, describe_store, read_training_rows
from featx.runtime import Compute, installed, pluralize
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
    """Search by cross-validation, and fit the selected candidate on all training rows. See `featx.fit`."""
    rows = read_training_rows(
        store, blocks=blocks, pools=pools, split_column=validation.split_column, test_size=validation.test_size,
        random_state=validation.random_state, sample_weight=options.sample_weight, weight_column=options.weight_column,
        groups=GroupOptions(validation.group_column, validation.group_near_duplicates),
    )  # fmt: skip
    if rows.y.ndim == 2:
        _check_multilabel(store, rows, head, options.calibrate)
    choices = feature_choices(rows.spec) if blocks is None else {_range_name(rows.spec.blocks): rows.spec}
    notes = list(rows.notes)
    folds, rare = _make_folds(rows, validation, notes)
    across = _count_near_duplicates(store, rows, folds, notes) if folds else {}
    if not folds:
        choices = _choose_without_folds(rows, head, C, options, validation, notes)
    sets = {name: tuple(spec.widths) for name, spec in choices.items()}
    search = _make_search(rows, head, C, sets, options, validation)
    nested = None
    with parallel_workers(compute) as workers:
        if validation.nested:
            # The nested folds need more images per class and may fail, so they run before the search, which takes long.
            nested = nested_cross_validate(
                search, rows.X, rows.y, groups=rows.groups, plain=rows.plain, sample_weight=rows.sample_weight,
                outer=validation.folds, folds=validation.folds, repeats=validation.repeats, jobs=workers,
            )  # fmt: skip
        candidates = _search(search, rows, folds) if folds else [_only_candidate(rows, head, C or 1.0, sets)]
        best = select_candidate(candidates, validation.select) if folds else candidates[0]
        spec = choices[best.feature_set]
        pipeline, calibration = _refit(rows, spec, best, options, validation, workers)
    info = _describe_fit(rows, options) | {
        "C": best.C,
        "search": _describe_search(rows, search.normalize, candidates, best, sets, validation),
    }
    if rare:
        info["rare_classes"] = rare.to_dict()
    if across:
        info["near_duplicates"] = across
    if nested:
        info["nested"] = nested.to_dict()
    if stopped := not_converged(pipeline):
        info["not_converged"] = stopped
    if calibration:
        info["calibration"] = {"method": CALIBRATION_METHOD, "folds": validation.folds}
    for note in notes:
        warnings.warn(note, FeatxWarning, stacklevel=3)
    with Store(store) as opened:
        facts, reference = describe_store(opened, spec)
    return Model(spec, rows.classes, best.head, pipeline, reference, info | facts, calibration, rows.image_ids)


def _make_folds(rows: TrainingRows, validation: Validation, notes: list[str]) -> tuple[list[Fold], RareClasses]:
    """Make the folds of the search, and add the classes that they do not test to ``notes``.

    If every class has one image or group, there are no folds.
    """
    try:
        folds = make_folds(
            rows.y, rows.groups, validation.folds, validation.repeats, validation.random_state, rows.plain
        )
    except NoFolds:
        return [], RareClasses(validation.folds, rows.classes, {}, int(rows.plain.sum()))
    rare = find_rare_classes(rows.y, rows.groups, folds, validation.folds, names=rows.classes, plain=rows.plain)
    notes += rare.messages(rows.unit)
    return folds, rare


def _count_near_duplicates(store: Path, rows: TrainingRows, folds: list[Fold], notes: list[str]) -> dict[str, Any]:
    """Count the tested images that have near-duplicates in other folds. Add a note if there are any.

    Returns
    -------
    dict
        What a model stores: ``images``, the number of images with near-duplicates; ``of``, the number of images that
        were checked; and ``min_cosine``. It is empty if there are no such images, or if folds keep near-duplicates
        together.
    """
    if rows.grouping.get("near_duplicates"):
        return {}
    plain = np.flatnonzero(rows.plain)
    with Store(store) as opened:
        names, widths = compared_features(opened.spec), opened.spec.widths
        known = rows.spec.slices
        if set(names) <= known.keys():
            X = np.concatenate([rows.X[:, known[name]][plain] for name in names], axis=1)
        else:
            X = opened.read(names, rows.row_index[plain])
    found = find_near_duplicates(X, [widths[name] for name in names], sample=True)
    part = np.full(len(rows.y), -1)
    for number, (_, test) in enumerate(folds):
        if (part[test] >= 0).any():
            break
        part[test] = number
    part = part[plain]
    tested = found.checked[part[found.checked] >= 0]
    divided = np.intersect1d(found.divided_by(part), tested)
    if not len(divided):
        return {}
    sampled = " that were compared" if len(found.checked) < len(plain) else ""
    notes.append(
        f"{len(divided):,} of {pluralize(len(tested), 'image')}{sampled} have near-duplicates in other folds (cosine ≥ "
        f"{found.min_cosine:.2f}), so scores may be too high; --group-near-duplicates keeps them together"
    )
    return {"images": len(divided), "of": len(tested), "min_cosine": round(found.min_cosine, 4)}


def _choose_without_folds(
    rows: TrainingRows, head: str, C: float | None, options: FitOptions, validation: Validation, notes: list[str]
) -> dict[str, ExtractSpec]:
    """Return the features to fit if there are no folds that could compare ranges of blocks, and add a note about this.

    Raises
    ------
    NoFolds
        If head or C is not given, or if an option needs folds.
    """
    lack = f"every class has one {rows.unit} to train on, and none to test"
    if head == "best" or C is None:
        raise NoFolds(f"{lack}, so head and C cannot be chosen: give both, such as --head softmax --C 1, or add images")
    for option, given in {"--nested": validation.nested, "--calibrate": options.calibrate}.items():
        if given:
            raise NoFolds(f"{lack}, but {option} of fit needs test images: leave it out, or add images")
    blocks = rows.spec.blocks
    notes.append(f"{lack}: blocks {_range_name(blocks)} are used as they are, and there is no estimate of accuracy")
    return {_range_name(blocks): rows.spec}


def _search(search: HeadSearchCV, rows: TrainingRows, folds: list[Fold]) -> Sequence[Candidate]:
    """Cross-validate all candidates."""
    found: HeadSearchCV = search.set_params(cv=folds).fit(rows.X, rows.y, sample_weight=rows.sample_weight)
    return found.candidates_


def _only_candidate(rows: TrainingRows, head: str, C: float, sets: Mapping[str, Sequence[str]]) -> Candidate:
    """Return the candidate that is fitted without a search. It has no scores."""
    ((name, members),) = sets.items()
    columns = sum(rows.spec.widths[feature] for feature in members)
    return Candidate(head, C, 0, name, columns, np.nan, np.nan, (), np.nan, np.nan)


def _make_search(
    rows: TrainingRows,
    head: str,
    C: float | None,
    sets: Mapping[str, Sequence[str]],
    options: FitOptions,
    validation: Validation,
) -> HeadSearchCV:
    """Return the unfitted search. ``sets`` lists the features of each feature set."""
    return HeadSearchCV(
        heads=tuple(HEADS) if head == "best" else (head,),
        Cs=None if C is None else (C,),
        feature_sets={name: [rows.spec.slices[feature] for feature in members] for name, members in sets.items()},
        normalize=options.normalize,
        n_jobs=-1,
        random_state=validation.random_state,
        scoring=validation.scoring,
        class_weight=options.class_weight,
        select=validation.select,
        refit=False,
    )


def _describe_fit(rows: TrainingRows, options: FitOptions) -> dict[str, Any]:
    """Return what a model stores about its training rows."""
    info: dict[str, Any] = {
        "rows": len(rows.y),
        "selection": rows.selection,
        "store": rows.store_fingerprint,
        "versions": installed(*DECIDING_PACKAGES),
    }
    if rows.grouping:
        info["groups"] = rows.grouping
    if rows.sample_weight is not None:
        info["sample_weight"] = options.weight_column or "given"
    return info


def _describe_search(
    rows: TrainingRows,
    normalize: str,
    candidates: Sequence[Candidate],
    best: Candidate,
    sets: Mapping[str, Sequence[str]],
    validation: Validation,
) -> dict[str, Any]:
    """Return what a model stores about its search, as JSON values.

    The values have no times, so that equal searches give equal values. If nothing was tested, the scores are None.
    """
    described = [dataclasses.asdict(candidate) for candidate in candidates]
    for candidate in described:
        del candidate["seconds"]
        for name, value in candidate.items():
            if isinstance(value, float) and np.isnan(value):
                candidate[name] = None
        candidate["scores"] = list(candidate["scores"])
    return {
        "rows": described,
        "best": described[candidates.index(best)],
        "rule": validation.select,
        "scoring": validation.scoring or default_scoring(rows.y),
        "normalize": normalize,
        "folds": validation.folds,
        "repeats": validation.repeats,
        "seed": validation.random_state,
        "feature_sets": {name: list(members) for name, members in sets.items()},
    }


@contextmanager
def parallel_workers(compute: Compute) -> Iterator[int]:
    """Make joblib run parallel fits as ``compute`` says, and return the number of workers.

    On this machine the default is one worker. On a Ray cluster, the default is one worker per CPU.

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

    with Cluster(compute.ray_address).connect("--executor ray") as ray:
        from ray.util.joblib import register_ray

        register_ray()  # type: ignore[no-untyped-call]
        if not (cpus := int(ray.cluster_resources().get("CPU", 0))):
            raise EngineError("--executor ray needs a cluster with CPUs, got none; start a node that has CPUs")
        try:
            with parallel_config("ray"):
                yield compute.workers or cpus
        except ray.exceptions.RayError as error:
            raise EngineError(f"a Ray worker was lost during a fit: {error}; run the command again") from error


def _check_multilabel(store: Path, rows: TrainingRows, head: str, calibrate: bool) -> None:
    if calibrate or head not in ("best", *MULTILABEL_HEADS):
        raise DataError(
            f"{'--calibrate' if calibrate else f'--head {head}'} of fit takes one label per image, but {store} is "
            "multi-label; give --head ovr-logistic, which has probabilities, or linear-svc"
        )
    check_labels(rows.y, rows.classes)


def _refit(
    rows: TrainingRows,
    spec: ExtractSpec,
    best: Candidate,
    options: FitOptions,
    validation: Validation,
    workers: int,
) -> tuple[Pipeline, TemperatureCalibration | None]:
    """Fit the selected candidate on all rows, and its calibration if ``options`` asks for one."""
    pipeline = make_head(
        best.head, best.C, normalize=options.normalize, widths=tuple(spec.widths.values()),
        class_weight=options.class_weight, multilabel=rows.y.ndim == 2,
    )  # fmt: skip
    columns = np.concatenate([np.arange(rows.X.shape[1])[rows.spec.slices[name]] for name in spec.widths])
    X = rows.X[:, columns]
    arguments: dict[str, Any] = {"sample_weight": rows.sample_weight, "jobs": workers}
    if options.calibrate and best.head == "linear-svc":
        folds = make_folds(rows.y, rows.groups, validation.folds, seed=validation.random_state, plain=rows.plain)
        return refit_calibrated(pipeline, X, rows.y, folds, **arguments)
    return refit(pipeline, X, rows.y, **arguments), None


def feature_choices(spec: ExtractSpec) -> dict[str, ExtractSpec]:
    """Return the features that a search compares, by name: those of every range of consecutive blocks.

    If the spec has covariances, each range is also tried without them, because they may be many columns for few images.
    """
    choices = {name: spec.select(blocks=blocks) for name, blocks in block_ranges(spec.blocks).items()}
    simple = tuple(pool for pool in spec.pools if not get_pooling(pool).projected)
    if simple and simple != spec.pools:
        for name, chosen in list(choices.items()):
            without = chosen.select(pools=simple)
            if without.width < chosen.width:
                choices[f"{name} {','.join(simple)}"] = without
    return choices


def block_ranges(blocks: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Return every range of consecutive blocks by its name: ``3``, ``3-5``."""
    count = len(blocks)
    ranges = [tuple(blocks[start:stop]) for start in range(count) for stop in range(start + 1, count + 1)]
    return {_range_name(members): members for members in ranges}


def _range_name(blocks: Sequence[int]) -> str:
    consecutive = len(blocks) > 1 and list(blocks) == list(range(blocks[0], blocks[-1] + 1))
    return f"{blocks[0]}-{blocks[-1]}" if consecutive else ",".join(map(str, blocks))
