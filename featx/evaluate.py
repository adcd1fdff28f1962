"""Evaluate: a model's scores on rows that it was not fitted on."""

from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import DataError
from featx.heads.metrics import score_report
from featx.heads.multilabel import multilabel_report
from featx.heads.rows import fingerprint, holdout
from featx.model import Model
from featx.store import Store


def evaluate(model: Model, path: str | Path, *, split: str | None = None, column: str | None = None) -> dict[str, Any]:
    """Score a model on a store's rows, of each image the plain view alone.

    Parameters
    ----------
    model : Model
        As `featx.load_model` gives it.
    path : str or Path
        A store with labels and the features that the model was fitted on.
    split, column : str, optional
        Score the rows whose value in this split column is ``split``. By default, the rows that `fit` left out of
        this store: those marked ``test``, or the part that ``test_size`` held out; of another store, all rows.

    Returns
    -------
    dict
        As `featx.heads.metrics.score_report` describes it, or `featx.heads.multilabel.multilabel_report` of a model
        that gives several labels an image. ``unknown`` rows, with no label that the model knows, are not scored.

    Raises
    ------
    StoreError, SpecMismatch
        If the store cannot be read or has other features.
    DataError
        If the model was fitted on all rows of this store, no row has a label that the model knows, or images have
        several labels and the model gives one.
    """
    with Store(path) as store:
        store.check_has(model.spec, "the model")
        rows = _rows(model, store, split, column)
        rows = rows[store.views[rows] == 0]
        if store.indicator is not None and not model.multilabel:
            raise DataError(
                f"images of {path} have several labels, but the model gives one; fit a model on such a store"
            )
        member = _membership(model, store)[rows]
        known = member.any(axis=1)
        if not known.any():
            raise DataError(f"{path} has no row with a label of the model's classes ({', '.join(model.classes[:5])} …)")
        X = store.read(model.spec.widths, rows[known])
    scored = (model.decision(X), model.classes, model.probabilities(X))
    member = member[known]
    report = multilabel_report(member, *scored) if model.multilabel else score_report(member.argmax(axis=1), *scored)
    return {"store": str(path), "unknown": int((~known).sum()), **report}


def _membership(model: Model, store: Store) -> np.ndarray:
    """bool (rows, classes of the model): which labels each row of the store has."""
    targets, names = store.targets, store.classes
    if targets.ndim == 1:
        targets = targets[:, np.newaxis] == np.arange(len(names))
    member = np.zeros((store.rows, len(model.classes)), bool)
    for code, name in enumerate(model.classes):
        if name in names:
            member[:, code] = targets[:, names.index(name)]
    return member


def _rows(model: Model, store: Store, split: str | None, column: str | None) -> np.ndarray:
    selection = model.info["selection"]
    column = column or selection.get("column", "split")
    if split is not None:
        return store.rows_of(split, column)
    if fingerprint(store.digests[:: store.spec.views]) != model.info["store"]:
        return np.arange(store.rows)
    if "column" in selection:
        return store.rows_of("test", column)
    if "test_size" not in selection:
        raise DataError(
            f"the model was fitted on all rows of {store.path}, so a score on them would be flattered; give another "
            "store, or fit with --test-size 0.2"
        )
    return holdout(store.targets, store.digests, selection["test_size"], selection["seed"])[1]
