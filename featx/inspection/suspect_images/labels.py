"""Labels that a head fitted without them finds improbable: mislabeled images, and classes that are confused."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, log_loss

from featx.heads import PrecomputedDecisions, default_grid, fit_path, make_folds, make_principal_axes, row_weights
from featx.runtime import import_optional

HEAD = "softmax"


@dataclass(frozen=True, eq=False)
class LabelQuality:
    """What heads say of images that they were not fitted on.

    ``labels`` (rows,) are the classes that they were given, and ``classes`` those of the columns of ``probability``
    (rows, classes), sorted.
    """

    labels: NDArray[np.str_]
    classes: NDArray[np.str_]
    probability: NDArray[np.float64]

    @cached_property
    def codes(self) -> NDArray[np.intp]:
        """The column of each row's own class."""
        return np.searchsorted(self.classes, self.labels)

    @cached_property
    def quality(self) -> NDArray[np.float64]:
        """The probability (rows,) of each row's own class."""
        own: NDArray[np.float64] = self.probability[np.arange(len(self.labels)), self.codes]
        return own

    @cached_property
    def suggested(self) -> NDArray[np.str_]:
        """The likeliest class of each row."""
        likeliest: NDArray[np.str_] = self.classes[self.probability.argmax(axis=1)]
        return likeliest

    @cached_property
    def wrong(self) -> NDArray[np.intp]:
        """The rows that are probably mislabeled, least probable label first.

        How many there are follows from the counts of Northcutt, Jiang & Chuang (2021), "Confident learning: estimating
        uncertainty in dataset labels", by cleanlab; ``EngineError`` if that is not installed.
        """
        find = import_optional("cleanlab.filter", "suspects", "suspects").find_label_issues
        found = find(
            self.codes, self.probability, filter_by="low_self_confidence",
            return_indices_ranked_by="self_confidence", n_jobs=1,
        )  # fmt: skip
        # Of a tie, the likeliest class is the label's own: nothing else is suggested.
        return np.array([row for row in found if self.suggested[row] != self.labels[row]], np.intp)

    @cached_property
    def confusions(self) -> list[tuple[str, str, int]]:
        """(class, class that it is taken for, count), most often first."""
        counts = confusion_matrix(self.labels, self.suggested, labels=self.classes)
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[: np.count_nonzero(counts)]
        return [
            (str(self.classes[label]), str(self.classes[other]), int(counts[label, other]))
            for label, other in zip(*np.unravel_index(order, counts.shape), strict=True)
        ]


def score_labels(
    X: NDArray[np.floating],
    labels: NDArray[np.str_],
    groups: NDArray[np.intp],
    folds: int = 5,
    seed: int = 0,
) -> LabelQuality:
    """Let each row be judged by a softmax head that was fitted on the folds without it.

    C is that of the smallest log loss in the default grid of `featx.HeadSearchCV`.

    Parameters
    ----------
    X : float array (rows, columns)
        Normalized features.
    labels : str array (rows,)
    groups : int array (rows,)
        Rows that stay together, as a copy of an image would vouch for its label.
    folds, seed : int
        As in `featx.heads.splitting.folds.make_folds`.

    Raises
    ------
    SpecError
        If folds are fewer than 2.
    DataError
        If there are too few classes, or images of one.
    EngineError
        If cleanlab, which `Verdicts.wrong` needs, is not installed.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    dealt = make_folds(labels, groups, folds, seed=seed)
    import_optional("cleanlab.filter", "suspects", "suspects")  # before what takes long
    trained, fold_of = np.zeros((folds, len(X))), np.empty(len(X), np.intp)
    for fold, (train, tested) in enumerate(dealt):
        trained[fold, train], fold_of[tested] = 1, fold
    weights = row_weights(codes, trained, HEAD, len(classes), None)
    fits = fit_path(make_principal_axes(X, False), codes, weights, default_grid(HEAD, X), HEAD, len(classes))
    held_out = (fit.decisions[fold_of, :, np.arange(len(X))] for fit in fits)
    candidates = (_probabilities(decisions, classes) for decisions in held_out)
    best = min(candidates, key=lambda probability: log_loss(codes, probability))
    return LabelQuality(labels, classes, best)


def _probabilities(decisions: NDArray[np.floating], classes: NDArray[np.str_]) -> NDArray[np.float64]:
    """Of decisions (rows, classes), or (rows, 1) for two classes."""
    made = decisions[:, 0] if decisions.shape[1] == 1 else decisions
    probability: NDArray[np.float64] = PrecomputedDecisions(HEAD, classes).predict_proba(made.astype(np.float64))
    return probability
