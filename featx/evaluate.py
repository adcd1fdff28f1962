"""Evaluate: a model's scores on rows that it was not fitted on."""

from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import DataError
from featx.heads.metrics import score_report
from featx.heads.rows import fingerprint, holdout
from featx.model import Model
from featx.store import Store


def evaluate(model: Model, path: str | Path, *, split: str | None = None, column: str | None = None) -> dict[str, Any]:
    """Score a model on a store's rows.

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
        As `featx.heads.metrics.score_report` describes it.

    Raises
    ------
    StoreError, SpecMismatch
        If the store cannot be read or has other features.
    DataError
        If the model was fitted on all rows of this store, or no row has a label that the model knows.
    """
    with Store(path) as store:
        store.check_has(model.spec, "the model")
        rows = _rows(model, store, split, column)
        code_of = {name: code for code, name in enumerate(model.classes)}
        codes = np.array([code_of.get(name, -1) for name in store.classes], int)
        labels = store.labels[rows]
        truth = np.where(labels >= 0, codes[labels], -1)
        known = truth >= 0
        if not known.any():
            raise DataError(f"{path} has no row with a label of the model's classes ({', '.join(model.classes[:5])} …)")
        X = store.read(model.spec.widths, rows[known])
    report = score_report(truth[known], model.decision(X), model.classes, model.probabilities(X))
    return {"store": str(path), "unknown": int((~known).sum()), **report}


def _rows(model: Model, store: Store, split: str | None, column: str | None) -> np.ndarray:
    selection = model.info["selection"]
    column = column or selection.get("column", "split")
    if split is not None:
        return store.rows_of(split, column)
    if fingerprint(store.digests) != model.info["store"]:
        return np.arange(store.rows)
    if "column" in selection:
        return store.rows_of("test", column)
    if "test_size" not in selection:
        raise DataError(
            f"the model was fitted on all rows of {store.path}, so a score on them would be flattered; give another "
            "store, or fit with --test-size 0.2"
        )
    return holdout(store.labels, store.digests, selection["test_size"], selection["seed"])[1]
