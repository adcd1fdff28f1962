"""The accuracy that wrong features cost, by cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from featx.heads import (
    FeatureSet,
    Fold,
    HeadSearchCV,
    block_feature_sets,
    make_feature_sets,
    make_folds,
    make_head,
    refit,
)
from featx.inspection.preprocessing_audit.report import Loss
from featx.spec import ExtractSpec

NOTHING = Loss(0.0, 0.0)


@dataclass(frozen=True)
class CVProtocol:
    """How heads are chosen and tested: the same for right and for wrong features."""

    head: str
    folds: int
    seed: int
    spec: ExtractSpec

    def search(self, X: NDArray[np.floating], y: NDArray[np.generic], groups: NDArray[np.intp]) -> HeadSearchCV:
        """C and blocks by cross-validation on features (rows, columns)."""
        search = HeadSearchCV(
            (self.head,), feature_sets=block_feature_sets(self.spec.slices), normalize="power",
            cv=make_folds(y, groups, self.folds, seed=self.seed), n_jobs=-1, refit=False,
        )  # fmt: skip
        return search.fit(X, y)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Heads chosen on right features by ``found``, and fitted by scikit-learn on the training rows of each fold."""

    course: CVProtocol
    y: NDArray[np.generic]
    groups: NDArray[np.intp]
    found: HeadSearchCV
    columns: FeatureSet
    folds: Sequence[Fold]
    heads: Sequence[Pipeline]

    @classmethod
    def run(
        cls, course: CVProtocol, X: NDArray[np.floating], y: NDArray[np.generic], groups: NDArray[np.intp]
    ) -> "Evaluation":
        """On right features (rows, columns); ``DataError`` if labels do not allow the folds."""
        found = course.search(X, y, groups)
        best = found.best_candidate_
        sets = make_feature_sets(block_feature_sets(course.spec.slices), X.shape[1])
        columns = next(chosen for chosen in sets if chosen.name == best.feature_set)
        folds = make_folds(y, groups, course.folds, seed=course.seed)
        values = columns.select(X)
        heads = [
            refit(make_head(best.head, best.C, widths=columns.widths or "auto"), values[train], y[train])
            for train, _ in folds
        ]
        return cls(course, y, groups, found, columns, folds, heads)

    def at_prediction(self, right: NDArray[np.floating], wrong: NDArray[np.floating]) -> Loss:
        """What the heads lose if each fold's test rows are wrong, and nothing else."""
        return _loss(self._scores(right), self._scores(wrong))

    def throughout(self, wrong: NDArray[np.floating]) -> Loss:
        """What is lost by heads that are chosen and fitted on wrong features, too."""
        found = self.course.search(wrong, self.y, self.groups)
        return _loss(np.array(self.found.best_candidate_.scores), np.array(found.best_candidate_.scores))

    def _scores(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """Accuracy on the test rows of each fold."""
        values = self.columns.select(X)
        tested = zip(self.folds, self.heads, strict=True)
        return np.array([head.score(values[rows], self.y[rows]) for (_, rows), head in tested])


def _loss(right: NDArray[np.float64], wrong: NDArray[np.float64]) -> Loss:
    lost = right - wrong
    return Loss(float(lost.mean()), float(lost.std(ddof=1) / np.sqrt(len(lost))))
