"""Evaluate: a model's scores on rows that it was not fitted on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featx.errors import DataError
from featx.heads import compact_ids, fingerprint, holdout, multilabel_report, score_report
from featx.models.saved_model import Model
from featx.store import Store


@dataclass(frozen=True, eq=False)
class Scored:
    """Decisions on labeled rows of a store.

    ``rows`` are their indices, ``member`` bool (rows, classes of the model) their labels, ``decision`` and
    ``probability`` what the model says of them, and ``unknown`` counts rows that have no label that it knows.
    """

    rows: np.ndarray
    member: np.ndarray
    decision: np.ndarray
    probability: np.ndarray | None
    unknown: int = 0

    @property
    def labels(self) -> np.ndarray:
        """int (rows,): index of each row's class; the first where it has several."""
        codes: np.ndarray = self.member.argmax(axis=1)
        return codes


def evaluate(
    model: Model, path: str | Path, *, split: str | None = None, split_column: str | None = None
) -> dict[str, Any]:
    """Score a model on a store's rows, of each image the plain view alone.

    Parameters
    ----------
    model : Model
        As `featx.load_model` gives it.
    path : str or Path
        A store with labels and the features that the model was fitted on.
    split, split_column : str, optional
        Score the rows whose value in this split column is ``split``. By default, the rows whose images the model was
        not fitted on: those marked ``test``, in ``split_column`` or in that of the fit, or the part that
        ``test_size`` held out; of a store that has none of the images it was fitted on, all rows.

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
    scored = decide(model, path, split=split, split_column=split_column)
    return {"store": str(path), "unknown": scored.unknown, **summarize(model, scored)}


def summarize(model: Model, scored: Scored) -> dict[str, Any]:
    """The scores of decisions, as `evaluate` gives them."""
    parts = (scored.decision, model.classes, scored.probability)
    return multilabel_report(scored.member, *parts) if model.multilabel else score_report(scored.labels, *parts)


def decide(model: Model, path: str | Path, *, split: str | None = None, split_column: str | None = None) -> Scored:
    """A model's decisions on the rows that `evaluate` scores; parameters and errors are those of `evaluate`."""
    with Store(path) as store:
        store.check_compatible(model.spec, "the model")
        rows = _rows(model, store, split, split_column)
        rows = rows[store.view_index[rows] == 0]
        if store.multilabel_targets is not None and not model.multilabel:
            raise DataError(
                f"images of {path} have several labels, but the model gives one; fit a model on such a store"
            )
        member = _membership(model, store)[rows]
        known = member.any(axis=1)
        if not known.any():
            which = "" if split is None else f" marked {split}"
            names = ", ".join(model.classes[:5])
            raise DataError(f"{path} has no row{which} with a label of the model's classes ({names} …)")
        X = store.read(model.spec.widths, rows[known])
    unknown = int((~known).sum())
    probabilities = model.predict_proba(X) if model.has_probabilities else None
    return Scored(rows[known], member[known], model.decision_function(X), probabilities, unknown)


def held_out(model: Model, store: Store, split_column: str | None = None) -> np.ndarray | None:
    """Indices of the rows that a model was not fitted on; None if there is no such row.

    They are known by their images' bytes, whatever has come to the store, gone or got another label since. Of the
    model's own store, which has most images that it was fitted on, only rows count that its split column marks
    ``test`` (if it marks none with a label so, then the labeled ones that it does not mark ``train``), or, where there
    is none, labeled ones. ``split_column`` is the one to go by in any store.

    Raises
    ------
    DataError
        If the store has no such column, or that has no such rows.
    """
    selection = model.info.get("selection", {})
    if model.fitted is None:
        return _held_out_of_equal(model, store, selection, split_column)
    images = compact_ids(store.digests)
    seen, own = np.isin(images, model.fitted), 2 * np.isin(model.fitted, images).sum() > len(model.fitted)
    by = split_column or (selection.get("column") if own else None)
    if split_column or by in store.columns:
        rows = _of_test(store, by or "", asked=split_column is not None)
    elif own:
        rows = np.flatnonzero(store.labels >= 0)
    else:
        rows = np.arange(store.n_rows)
    rows = rows[~seen[rows]]
    return rows if len(rows) else None


def _of_test(store: Store, column: str, *, asked: bool) -> np.ndarray:
    """The rows that a split column marks ``test``; none if there are none, unless the column was ``asked`` for.

    If none of those has a label, as with ``train`` and ``val`` alone, or a contest's test images, the labeled ones that
    it marks neither so nor ``train``.
    """
    values, labeled = np.array(store.columns.get(column, ()), str), store.labels >= 0
    if not len(values):
        return store.rows_in_split("test", column)
    test = values == "test"
    if (test & labeled).any():
        return np.flatnonzero(test)
    others = np.flatnonzero(labeled & ~test & (values != "train"))
    if len(others) or not asked:
        return others
    if test.any():
        raise DataError(
            f"the rows that {column} of {store.path} marks test have no labels, and no others but those marked train "
            "have; give another --split-column, or fit with --test-size 0.2"
        )
    return store.rows_in_split("test", column)


def _held_out_of_equal(
    model: Model, store: Store, selection: Mapping[str, Any], split_column: str | None
) -> np.ndarray | None:
    """The same for a model without its images' marks, which knows its store again only if all images are the same."""
    if fingerprint(store.digests[:: store.spec.n_views]) != model.info.get("store"):
        return np.arange(store.n_rows)
    if "column" in selection:
        rows = _of_test(store, split_column or selection["column"], asked=split_column is not None)
        return rows if len(rows) else None
    if "test_size" not in selection:
        return None
    return holdout(store.targets, store.digests, selection["test_size"], selection["seed"])[1]


def _membership(model: Model, store: Store) -> np.ndarray:
    """bool (rows, classes of the model): which labels each row of the store has."""
    targets, names = store.targets, store.classes
    if targets.ndim == 1:
        targets = targets[:, np.newaxis] == np.arange(len(names))
    member = np.zeros((store.n_rows, len(model.classes)), bool)
    for code, name in enumerate(model.classes):
        if name in names:
            member[:, code] = targets[:, names.index(name)]
    return member


def _rows(model: Model, store: Store, split: str | None, split_column: str | None) -> np.ndarray:
    if split is not None:
        return store.rows_in_split(split, split_column or model.info.get("selection", {}).get("column", "split"))
    rows = held_out(model, store, split_column)
    if rows is None:
        raise DataError(
            f"the model was fitted on all rows of {store.path} that are to be scored and have labels, so a score on "
            "them would be flattered; give another store or --split-column, or fit with --test-size 0.2"
        )
    return rows
