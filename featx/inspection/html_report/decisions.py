"""A model's decisions on images that it has not seen: those held out, or each by a fit without its fold."""

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
    read_training_rows,
    score_rows,
    summarize_scores,
    trained_parts,
)
from featx.runtime import pluralize
from featx.store import Store


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions on labeled images, ``images`` by number; ``how`` says how they were kept from what was fitted.

    ``candidates`` counts what the folds of a cross-validation chose the model among; 0 of images held out.
    """

    model: Model
    scored: ScoredRows
    images: np.ndarray
    how: str
    candidates: int = 0

    @property
    def flattered(self) -> bool:
        """Whether the model was chosen on these very folds, for being the best there."""
        return self.candidates > 1

    @cached_property
    def report(self) -> dict[str, Any]:
        """The scores, as `featx.evaluate.evaluate` gives them."""
        return summarize_scores(self.model, self.scored)

    @cached_property
    def guesses(self) -> np.ndarray:
        """int (rows,): index of the class that the model gives each image."""
        values = self.scored.decisions
        codes: np.ndarray = (values > 0).astype(int) if values.ndim == 1 else values.argmax(axis=1)
        return codes

    @cached_property
    def confidence(self) -> np.ndarray:
        """Probability of the class that the model gives, or, without probabilities, its lead over the next one."""
        if self.scored.probabilities is not None:
            chosen: np.ndarray = self.scored.probabilities[np.arange(len(self.guesses)), self.guesses]
            return chosen
        if self.scored.decisions.ndim == 1:
            lead: np.ndarray = np.abs(self.scored.decisions)
        else:
            ranked = np.sort(self.scored.decisions, axis=1)
            lead = ranked[:, -1] - ranked[:, -2]
        return lead

    def single(self, whose: str) -> "Decisions":
        """These, of one label an image; ``DataError`` if images have several."""
        if self.model.multilabel:
            raise DataError(f"{whose} takes one label an image, but the model gives several")
        return self


def read_decisions(model: Model | None, path: Path) -> Decisions:
    """Decide on the images that the model left out; if it left none out, cross-validate it.

    Raises
    ------
    DataError
        If there is no model, no image has a label that it knows, or what torch trained on all images is to be scored.
    """
    if model is None:
        raise DataError("a store alone has no decisions; fit a model on it")
    with Store(path) as store:
        rows, views = find_held_out_rows(model, store), store.spec.n_views
    if rows is not None:
        scored = score_rows(model, path)
        how = f"{pluralize(len(scored.rows), 'image')} that it was not fitted on"
        return Decisions(model, scored, scored.rows // views, how)
    if trained := trained_parts(model):
        raise DataError(
            f"torch trained the {' and '.join(trained)} of the model on images of this store, so that no score on them "
            "would be fair; train a model that was fitted with --test-size"
        )
    scored, candidates = cross_decide(model, path), len(model.info["search"]["rows"])
    how = f"{pluralize(len(scored.rows), 'image')} by cross-validation, each by a fit without it"
    return Decisions(model, scored, scored.rows // views, how, candidates)


def cross_decide(model: Model, path: Path) -> ScoredRows:
    """Decisions on each plain image by the model fitted without its fold; the folds are those that chose it."""
    weights = model.info.get("sample_weight")
    if weights == "given":
        raise DataError("the model was fitted on all images with weights that no column keeps; fit it with --test-size")
    column = model.info["selection"].get("column")
    rows = read_training_rows(
        path, blocks=model.spec.blocks, pools=model.spec.pools, split_column=column, weight_column=weights
    )
    found = model.info["search"]
    parts = []
    for train, tested in make_folds(rows.y, rows.groups, found["folds"], seed=found["seed"], plain=rows.plain):
        weight = None if rows.sample_weight is None else rows.sample_weight[train]
        fitted = refit(clone(model.estimator), rows.X[train], rows.y[train], sample_weight=weight)
        part, X = dataclasses.replace(model, estimator=fitted), rows.X[tested]
        parts.append((tested, part.decision_function(X), part.predict_proba(X) if part.has_probabilities else None))
    tested = np.concatenate([part[0] for part in parts])
    order = np.argsort(tested)
    decision = np.concatenate([part[1] for part in parts])[order]
    known = [part[2] for part in parts if part[2] is not None]
    y = rows.y[tested[order]]
    member = y > 0 if y.ndim == 2 else y[:, np.newaxis] == np.array(model.classes)
    return ScoredRows(rows.row_index[tested[order]], member, decision, np.concatenate(known)[order] if known else None)
