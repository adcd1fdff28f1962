"""Fit a head on a store that does not fit in memory."""

import warnings
from pathlib import Path

import numpy as np

from featx.backbones import WhichBlocks, WhichPools
from featx.errors import DataError, FeatxWarning
from featx.heads import fingerprint, warn_not_converged
from featx.models.fit_options import FitOptions, Validation, changed_options
from featx.models.row_groups import GroupOptions, group_rows
from featx.models.saved_model import Model
from featx.models.searched_fit import DECIDING_PACKAGES
from featx.models.streamed_softmax import fit_softmax
from featx.models.training_rows import (
    describe_held_out,
    describe_store,
    image_ids_of,
    leave_out_held_rows,
    read_targets,
    select_labeled_rows,
)
from featx.runtime import Compute, installed, pluralize
from featx.store import Store

NOT_STREAMED = (
    "nested", "class_weight", "sample_weight", "weight_column", "scoring", "select", "folds", "repeats",
    "group_near_duplicates",
)  # fmt: skip
"""Options of `featx.fit` that need a search, or all rows in memory."""


def check_streamed(head: str, C: float | None, options: FitOptions, validation: Validation, compute: Compute) -> float:
    """Return C, or raise ``DataError`` if the arguments of `featx.fit` do not allow streaming."""
    if head != "softmax" or C is None:
        raise DataError(
            "--stream of fit needs a given head and --C, because it does not search: give --head softmax --C 1, "
            f"got --head {head}{' without --C' if C is None else ''}"
        )
    changed = {**changed_options(options), **changed_options(validation)}
    given = [f"--{name.replace('_', '-')}" for name in NOT_STREAMED if name in changed]
    given += ["--jobs"] * (compute.workers not in (None, 1)) + ["--executor"] * (compute.executor != "local")
    if given:
        raise DataError(f"--stream of fit cannot be combined with {given[0]}; leave one out")
    return C


def fit_streamed(
    path: Path,
    output: str | Path | None,
    blocks: WhichBlocks | None,
    pools: WhichPools | None,
    C: float,
    options: FitOptions,
    validation: Validation,
) -> Model:
    """Fit ``softmax`` on a store that is read in blocks. See `featx.fit`."""
    with Store(path) as store:
        digests = store.digests
        rows, selection = select_labeled_rows(
            store, validation.split_column, validation.test_size, validation.random_state
        )
        grouped = group_rows(store, digests, GroupOptions(validation.group_column), rows)
        rows = leave_out_held_rows(store, rows, grouped.groups, selection)
        grouping = grouped.describe(rows)
        for note in (*grouped.notes, *describe_held_out(store, rows, selection)):
            warnings.warn(note, FeatxWarning, stacklevel=3)
        y, classes = read_targets(store, rows)
        if y.ndim == 2 or len(classes) < 2:
            found = "is multi-label" if y.ndim == 2 else f"has {pluralize(len(classes), 'class', 'classes')}"
            raise DataError(f"--stream of fit needs one label per image and at least two classes, but {path} {found}")
        spec, store_fingerprint = store.spec.plain.select(blocks, pools), fingerprint(digests[:: store.spec.n_views])
        image_ids = image_ids_of(digests, rows)
        # Free the digests: for millions of rows they take gigabytes, and the fit needs this memory.
        del digests, grouped
        codes = np.searchsorted(np.array(classes), y)
        scratch = (path if output is None else Path(output)).resolve().parent
        fitted = fit_softmax(store, spec, rows, codes, classes, C=C, normalize=options.normalize, scratch=scratch)
        facts, reference = describe_store(store, spec)
    info = {
        "C": C,
        "rows": len(rows),
        "streamed": {"passes": fitted.passes},
        "selection": selection,
        "store": store_fingerprint,
        "versions": installed(*DECIDING_PACKAGES),
        **({"groups": grouping} if grouping else {}),
        **facts,
    }
    if fitted.stopped:
        info["not_converged"] = fitted.stopped
        warn_not_converged(fitted.stopped)
    return Model(spec, classes, "softmax", fitted.pipeline, reference, info, fitted_image_ids=image_ids)
