"""Measure by cross-validation how much accuracy is lost when features are wrong."""

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
    find_rare_classes,
    make_feature_sets,
    make_folds,
    make_head,
    refit,
)
from featx.inspection.preprocessing_audit.report import AccuracyLoss
from featx.spec import ExtractSpec

NO_LOSS = AccuracyLoss(0.0, 0.0)


@dataclass(frozen=True)
class CVProtocol:
    """How a head is chosen and tested. It is the same for correct and for wrong features."""

    head: str
    folds: int
    random_state: int
    spec: ExtractSpec

    def search(self, X: NDArray[np.floating], y: NDArray[np.generic], groups: NDArray[np.intp]) -> HeadSearchCV:
        """Choose C and blocks by cross-validation on features (rows, columns)."""
        search = HeadSearchCV(
            (self.head,), feature_sets=block_feature_sets(self.spec.slices), normalize="power",
            cv=make_folds(y, groups, self.folds, seed=self.random_state), n_jobs=-1, refit=False,
        )  # fmt: skip
        return search.fit(X, y)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Heads that were chosen and fitted on correct features, one per fold.

    Parameters
    ----------
    protocol : CVProtocol
    y : array (rows,)
        Labels.
    groups : int array (rows,)
        Rows of one group stay in one fold.
    search : HeadSearchCV
        The search that chose C and blocks on the correct features.
    columns : FeatureSet
        Columns of the chosen blocks.
    folds : sequence of (training rows, test rows)
    heads : sequence of Pipeline
        The heads, fitted by scikit-learn on the training rows of each fold.
    """

    protocol: CVProtocol
    y: NDArray[np.generic]
    groups: NDArray[np.intp]
    search: HeadSearchCV
    columns: FeatureSet
    folds: Sequence[Fold]
    heads: Sequence[Pipeline]

    @classmethod
    def run(
        cls, protocol: CVProtocol, X: NDArray[np.floating], y: NDArray[np.generic], groups: NDArray[np.intp]
    ) -> "Evaluation":
        """Choose and fit heads on correct features (rows, columns). Raise ``DataError`` if labels do not allow it."""
        search = protocol.search(X, y, groups)
        best = search.best_candidate_
        sets = make_feature_sets(block_feature_sets(protocol.spec.slices), X.shape[1])
        columns = next(chosen for chosen in sets if chosen.name == best.feature_set)
        folds = make_folds(y, groups, protocol.folds, seed=protocol.random_state)
        values = columns.select(X)
        heads = [
            refit(make_head(best.head, best.C, widths=columns.widths or "auto"), values[train], y[train])
            for train, _ in folds
        ]
        return cls(protocol, y, groups, search, columns, folds, heads)

    @property
    def untested(self) -> list[str]:
        """What the folds do not test, in words."""
        rare = find_rare_classes(self.y, self.groups, self.folds, self.protocol.folds)
        return rare.messages()

    def loss_at_prediction(self, correct: NDArray[np.floating], wrong: NDArray[np.floating]) -> AccuracyLoss:
        """Measure the accuracy that the heads lose if only the features of the test rows are wrong."""
        return _mean_loss(self._scores(correct), self._scores(wrong))

    def loss_throughout(self, wrong: NDArray[np.floating]) -> AccuracyLoss:
        """Measure the accuracy that is lost if heads are chosen, fitted and tested on wrong features."""
        search = self.protocol.search(wrong, self.y, self.groups)
        return _mean_loss(np.array(self.search.best_candidate_.scores), np.array(search.best_candidate_.scores))

    def _scores(self, X: NDArray[np.floating]) -> NDArray[np.float64]:
        """Compute the accuracy on the test rows of each fold."""
        values = self.columns.select(X)
        tested = zip(self.folds, self.heads, strict=True)
        return np.array([head.score(values[rows], self.y[rows]) for (_, rows), head in tested])


def _mean_loss(correct: NDArray[np.float64], wrong: NDArray[np.float64]) -> AccuracyLoss:
    lost = correct - wrong
    error = lost.std(ddof=1) / np.sqrt(len(lost)) if len(lost) > 1 else 0.0
    return AccuracyLoss(float(lost.mean()), float(error))
