"""Score labels with heads that were fitted on other images, to find wrong labels and confused classes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, log_loss

from featx.errors import DataError
from featx.heads import PrecomputedDecisions, default_grid, fit_path, make_folds, make_principal_axes, row_weights
from featx.runtime import import_optional

HEAD = "softmax"


@dataclass(frozen=True, eq=False)
class LabelQuality:
    """Class probabilities of images, from heads that were not fitted on them.

    Parameters
    ----------
    rows : int array (checked,)
        The rows that could be checked. If a class has one image or group, its rows are always training rows and cannot
        be checked.
    labels : str array (checked,)
        The given labels of these rows.
    classes : str array (classes,)
        The classes, sorted.
    probability : float array (checked, classes)
    unchecked : tuple of str
        Classes without a row that could be checked.
    """

    rows: NDArray[np.intp]
    labels: NDArray[np.str_]
    classes: NDArray[np.str_]
    probability: NDArray[np.float64]
    unchecked: tuple[str, ...] = ()

    @cached_property
    def codes(self) -> NDArray[np.intp]:
        """The column of each row's label."""
        return np.searchsorted(self.classes, self.labels)

    @cached_property
    def quality(self) -> NDArray[np.float64]:
        """The probability (checked,) of each row's label."""
        own: NDArray[np.float64] = self.probability[np.arange(len(self.labels)), self.codes]
        return own

    @cached_property
    def suggested(self) -> NDArray[np.str_]:
        """The most probable class of each row."""
        likeliest: NDArray[np.str_] = self.classes[self.probability.argmax(axis=1)]
        return likeliest

    @cached_property
    def mislabeled(self) -> NDArray[np.intp]:
        """The positions in ``rows`` of rows that are probably mislabeled, least probable label first.

        Their number is estimated by confident learning (Northcutt, Jiang & Chuang 2021, "Confident learning: estimating
        uncertainty in dataset labels"), as cleanlab implements it.

        Raises
        ------
        EngineError
            If cleanlab is not installed.
        """
        find = import_optional("cleanlab.filter", "suspects", "suspects").find_label_issues
        found = find(
            self.codes, self.probability, filter_by="low_self_confidence",
            return_indices_ranked_by="self_confidence", n_jobs=1,
        )  # fmt: skip
        # If the label and another class are equally probable, no other class is suggested.
        return np.array([row for row in found if self.suggested[row] != self.labels[row]], np.intp)

    @cached_property
    def confusions(self) -> list[tuple[str, str, int]]:
        """The confusions as (label, predicted class, count), most frequent first."""
        counts = confusion_matrix(self.labels, self.suggested, labels=self.classes)
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[: np.count_nonzero(counts)]
        return [
            (str(self.classes[label]), str(self.classes[predicted]), int(counts[label, predicted]))
            for label, predicted in zip(*np.unravel_index(order, counts.shape), strict=True)
        ]


def score_labels(
    X: NDArray[np.floating],
    labels: NDArray[np.str_],
    groups: NDArray[np.intp],
    folds: int = 5,
    random_state: int = 0,
) -> LabelQuality:
    """Predict class probabilities for each row with a softmax head that was fitted on the other folds.

    The head uses the C with the smallest log loss in the default grid of `featx.HeadSearchCV`.

    Parameters
    ----------
    X : float array (rows, columns)
        Normalized features.
    labels : str array (rows,)
    groups : int array (rows,)
        Rows of one group stay in one fold. Otherwise a copy of an image in the training rows would confirm a wrong
        label.
    folds : int
    random_state : int
        Seed of the folds.

    Raises
    ------
    SpecError
        If ``folds`` is less than 2.
    DataError
        If fewer than two classes have several images or groups.
    EngineError
        If cleanlab, which `LabelQuality.mislabeled` needs, is not installed.
    """
    classes, codes = np.unique(labels, return_inverse=True)
    splits = make_folds(labels, groups, folds, seed=random_state)
    import_optional("cleanlab.filter", "suspects", "suspects")  # checked before the fits, because the fits take long
    trained, fold_of = np.zeros((len(splits), len(X))), np.full(len(X), -1)
    for fold, (train, test) in enumerate(splits):
        trained[fold, train], fold_of[test] = 1, fold
    weights = row_weights(codes, trained, HEAD, len(classes), None)
    fits = fit_path(make_principal_axes(X, False), codes, weights, default_grid(HEAD, X), HEAD, len(classes))
    rows = np.flatnonzero(fold_of >= 0)
    if len(np.unique(labels[rows])) < 2:
        raise DataError(f"only class {labels[rows[0]]} has several images or groups, so the others cannot be tested")
    held_out = (fit.decisions[fold_of[rows], :, rows] for fit in fits)
    candidates = (_probabilities(decisions, classes) for decisions in held_out)
    known = range(len(classes))
    best = min(candidates, key=lambda probability: log_loss(codes[rows], probability, labels=known))
    unchecked = tuple(np.setdiff1d(labels, labels[rows]).tolist())
    return LabelQuality(rows, labels[rows], classes, best, unchecked)


def _probabilities(decisions: NDArray[np.floating], classes: NDArray[np.str_]) -> NDArray[np.float64]:
    """Turn decisions (rows, classes), or (rows, 1) for two classes, into probabilities (rows, classes)."""
    scores = decisions[:, 0] if decisions.shape[1] == 1 else decisions
    probability: NDArray[np.float64] = PrecomputedDecisions(HEAD, classes).predict_proba(scores.astype(np.float64))
    return probability
