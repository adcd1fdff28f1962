"""Score a model on rows that it was not fitted on."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featx.errors import DataError, FeatxWarning
from featx.heads import NO_GROUP, compact_ids, multilabel_report, score_report
from featx.models.evaluation_report import EvaluationReport
from featx.models.held_out_rows import find_held_out_rows
from featx.models.row_groups import GROUP_COLUMN, source_name
from featx.models.saved_model import Model
from featx.runtime import pluralize
from featx.store import Store


@dataclass(frozen=True, eq=False, repr=False)
class ScoredRows:
    """Decisions of a model on labeled rows of a store.

    Parameters
    ----------
    rows : int array (rows,)
        Numbers of the rows in the store.
    targets : bool array (rows, classes)
        Which classes of the model each row has.
    decisions : float array (rows, classes), or (rows,) for two classes
        Decisions on the rows, as `Model.decision_function` returns them.
    probabilities : float array (rows, classes), optional
        None if the model has no probabilities.
    unknown : int
        Number of rows that are not scored, because none of their labels is a class of the model.
    """

    rows: NDArray[np.intp]
    targets: NDArray[np.bool_]
    decisions: NDArray[np.floating]
    probabilities: NDArray[np.floating] | None
    unknown: int = 0

    @property
    def labels(self) -> NDArray[np.intp]:
        """Index of the class of each row, (rows,). If a row has several classes, it is the first one."""
        codes: NDArray[np.intp] = self.targets.argmax(axis=1)
        return codes

    def __repr__(self) -> str:
        rows, classes = self.targets.shape
        return f"ScoredRows({pluralize(rows, 'row')}, {pluralize(classes, 'class', 'classes')}, {self.unknown} unknown)"


def evaluate(
    model: Model, store: str | Path, *, split: str | None = None, split_column: str | None = None
) -> EvaluationReport:
    """Score a model on rows of a store that it was not fitted on. Augmented copies are not scored.

    Parameters
    ----------
    model : Model
        As `featx.load_model` returns it.
    store : path
        A store with labels and the features that the model was fitted on.
    split : str, optional
        Score the rows with this value in the split column. By default, score the held-out rows: the rows marked
        ``test``, or the rows that ``test_size`` held out. If the store has none of the images that the model was fitted
        on, score all rows.
    split_column : str, optional
        Name of the split column. By default, the split column of the fit is used.

    Returns
    -------
    EvaluationReport
        A dictionary with ``store``, ``unknown`` and the scores. ``unknown`` is the number of rows that are not scored,
        because none of their labels is a class of the model. `featx.heads.score_report` computes the scores. For a
        multi-label model, `featx.heads.multilabel_report` computes them. Some scored rows may share a group (see
        `featx.Validation`) with rows that the model was fitted on. Then ``in_fitted_groups`` is the number of such
        rows, and a `featx.errors.FeatxWarning` reports it.

    Raises
    ------
    StoreError, SpecMismatch
        If the store cannot be read, or if it does not have the features that the model takes.
    DataError
        If the model was fitted on all labeled rows, if no row has a label that the model knows, or if the store is
        multi-label and the model is not.
    """
    scored = score_rows(model, store, split=split, split_column=split_column)
    report = {"store": str(store), "unknown": scored.unknown, **summarize_scores(model, scored)}
    with Store(store) as opened:
        shared, column = count_shared_groups(model, opened, scored.rows)
    if shared:
        warnings.warn(
            f"{shared:,} of {pluralize(len(scored.rows), 'scored image')} belong to groups (column {column}) that the "
            "model was fitted on too, so the scores may be too high; split by group, or fit with --test-size, which "
            "keeps groups together",
            FeatxWarning,
            stacklevel=2,
        )
        report["in_fitted_groups"] = shared
    return EvaluationReport(report)


def count_shared_groups(model: Model, store: Store, rows: NDArray[np.intp]) -> tuple[int, str]:
    """Count the rows of an open store that share a group with rows that the model was fitted on.

    Returns
    -------
    (int, str)
        The number of rows, and the name of the group column. If the store has no group column, the number is 0.
    """
    column = model.info.get("groups", {}).get("column", GROUP_COLUMN)
    if model.fitted_image_ids is None or column not in store.columns:
        return 0, ""
    values = np.array(store.columns[column])
    fitted = np.isin(compact_ids(store.digests), model.fitted_image_ids)
    fitted[rows] = False
    shared = np.isin(values[rows], values[fitted]) & (values[rows] != NO_GROUP)
    return int(shared.sum()), source_name(store, column)


def summarize_scores(model: Model, scored: ScoredRows) -> dict[str, Any]:
    """Compute the scores that `evaluate` reports."""
    arguments = (scored.decisions, model.classes, scored.probabilities)
    if model.multilabel:
        return multilabel_report(scored.targets, *arguments)
    return score_report(scored.labels, *arguments)


def score_rows(
    model: Model, path: str | Path, *, split: str | None = None, split_column: str | None = None
) -> ScoredRows:
    """Return a model's decisions on the rows that `evaluate` scores. `evaluate` describes the parameters and errors."""
    with Store(path) as store:
        store.check_compatible(model.spec, "the model")
        rows = _rows_to_score(model, store, split, split_column)
        rows = rows[store.view_index[rows] == 0]
        if store.multilabel_targets is not None and not model.multilabel:
            raise DataError(f"{path} is multi-label, but the model is not; fit a model on a multi-label store")
        targets = _read_model_targets(model, store)[rows]
        known = targets.any(axis=1)
        if not known.any():
            which = "" if split is None else f" marked {split}"
            names = ", ".join(model.classes[:5])
            raise DataError(f"{path} has no row{which} with a label of the model's classes ({names} …)")
        X = store.read(model.spec.widths, rows[known])
    probabilities = model.predict_proba(X) if model.has_probabilities else None
    return ScoredRows(rows[known], targets[known], model.decision_function(X), probabilities, int((~known).sum()))


def _rows_to_score(model: Model, store: Store, split: str | None, split_column: str | None) -> NDArray[np.intp]:
    if split is not None:
        return store.rows_in_split(split, split_column or model.info.get("selection", {}).get("column", "split"))
    rows = find_held_out_rows(model, store, split_column)
    if rows is None:
        raise DataError(
            f"the model was fitted on all labeled rows of {store.path} that could be scored, and their scores would be "
            "optimistic; give another store or --split-column, or fit with --test-size 0.2"
        )
    return rows


def _read_model_targets(model: Model, store: Store) -> NDArray[np.bool_]:
    """Return the labels of each row, as a bool array (rows of the store, classes of the model)."""
    targets, names = store.targets, store.classes
    if targets.ndim == 1:
        targets = targets[:, np.newaxis] == np.arange(len(names))
    found = np.zeros((store.n_rows, len(model.classes)), bool)
    for code, name in enumerate(model.classes):
        if name in names:
            found[:, code] = targets[:, names.index(name)]
    return found
