"""Decisions of a model on images that it was not fitted on: held-out images, or test folds of a cross-validation."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import clone

from featx.errors import DataError
from featx.heads import make_folds, refit
from featx.models import (
    Model,
    ScoredRows,
    find_held_out_rows,
    read_fitted_rows,
    score_rows,
    summarize_scores,
    trained_parts,
)
from featx.runtime import pluralize
from featx.store import Store


@dataclass(frozen=True, eq=False)
class UnseenDecisions:
    """Decisions on labeled images that the model was not fitted on.

    Attributes
    ----------
    model : Model
    scored : ScoredRows
        The decisions, the probabilities and the true labels.
    images : int array (rows,)
        Numbers of the images in the store.
    how : str
        The origin of the decisions as a part of a sentence, such as ``on 340 images that the model was not fitted on``.
    candidates : int
        Number of candidates from which the same folds selected the model; 0 for held-out images.
    """

    model: Model
    scored: ScoredRows
    images: np.ndarray
    how: str
    candidates: int = 0

    @property
    def optimistic(self) -> bool:
        """Whether scores are optimistic, because the same folds selected the model among several candidates."""
        return self.candidates > 1

    @cached_property
    def report(self) -> dict[str, Any]:
        """The scores, as `featx.evaluate` returns them."""
        return summarize_scores(self.model, self.scored)

    @cached_property
    def predictions(self) -> np.ndarray:
        """Index of the predicted class, int (rows,)."""
        values = self.scored.decisions
        codes: np.ndarray = (values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)
        return codes

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of the predicted class, float (rows,).

        If the model has no probabilities, it is the difference between the two largest decisions.
        """
        if self.scored.probabilities is not None:
            chosen: np.ndarray = self.scored.probabilities[np.arange(len(self.predictions)), self.predictions]
            return chosen
        if self.scored.decisions.ndim == 1:
            margin: np.ndarray = np.abs(self.scored.decisions)
        else:
            ranked = np.sort(self.scored.decisions, axis=1)
            margin = ranked[:, -1] - ranked[:, -2]
        return margin

    def require_single_label(self, whose: str) -> "UnseenDecisions":
        """Return these decisions if the model gives one label per image.

        Raises
        ------
        DataError
            If the model is multi-label; the message begins with ``whose``.
        """
        if self.model.multilabel:
            raise DataError(f"{whose} needs one label per image, but the model is multi-label")
        return self


def read_decisions(model: Model | None, path: Path) -> UnseenDecisions:
    """Apply the model to images that it was not fitted on, or cross-validate it if it was fitted on all of them.

    Raises
    ------
    DataError
        If there is no model, if no image has a label that the model knows, or if torch trained the model on all images.
    """
    if model is None:
        raise DataError("a store alone has no decisions; fit a model on it")
    with Store(path) as store:
        rows, views = find_held_out_rows(model, store), store.spec.n_views
    if rows is not None:
        scored = score_rows(model, path)
        how = f"on {pluralize(len(scored.rows), 'image')} that the model was not fitted on"
        return UnseenDecisions(model, scored, scored.rows // views, how)
    if trained := trained_parts(model):
        raise DataError(
            f"torch trained the {' and '.join(trained)} of the model on all images of this store, so no image is left "
            "to score it on; fine-tune a model that was fitted with --test-size"
        )
    scored, candidates = cross_validate_model(model, path), len(model.info["search"]["rows"])
    how = f"by cross-validation on {pluralize(len(scored.rows), 'image')}"
    return UnseenDecisions(model, scored, scored.rows // views, how, candidates)


def cross_validate_model(model: Model, path: Path) -> ScoredRows:
    """Score each image by a copy of the model that was fitted without the image's fold.

    The folds are the folds of the search that selected the model. Augmented copies are not scored. If a class has too
    few images for every fold, the images that no fold tests are not scored either.

    Raises
    ------
    DataError
        If the model was fitted with sample weights that no column of the store keeps.
    """
    if model.info.get("sample_weight") == "given":
        raise DataError(
            "the model was fitted on all images with sample weights that are not in a column of the store, so it "
            "cannot be cross-validated; fit it with --weight-column or --test-size"
        )
    rows = read_fitted_rows(path, model)
    search = model.info["search"]
    parts = []
    for train, test in make_folds(rows.y, rows.groups, search["folds"], seed=search["seed"], plain=rows.plain):
        weight = None if rows.sample_weight is None else rows.sample_weight[train]
        fitted = refit(clone(model.estimator), rows.X[train], rows.y[train], sample_weight=weight)
        copy, X = dataclasses.replace(model, estimator=fitted), rows.X[test]
        parts.append((test, copy.decision_function(X), copy.predict_proba(X) if copy.has_probabilities else None))
    tested = np.concatenate([part[0] for part in parts])
    order = np.argsort(tested)
    decisions = np.concatenate([part[1] for part in parts])[order]
    probability = [part[2] for part in parts if part[2] is not None]
    y = rows.y[tested[order]]
    targets = y > 0 if y.ndim == 2 else y[:, np.newaxis] == np.array(model.classes)
    probabilities = np.concatenate(probability)[order] if probability else None
    return ScoredRows(rows.row_index[tested[order]], targets, decisions, probabilities)
