"""Make the folds of a search from the ``cv`` of a HeadSearchCV."""

import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator, check_cv
from sklearn.utils import check_random_state

from featx.errors import DataError, FeatxWarning
from featx.heads.search.problem import Problem
from featx.heads.splitting.folds import Fold, make_folds
from featx.heads.splitting.rare_classes import find_rare_classes


def make_search_folds(
    cv: int | BaseCrossValidator | Iterable[Fold], problem: Problem, groups: ArrayLike | None, seed: int | None
) -> list[Fold]:
    """Return the folds that ``cv`` describes: a number of folds, a splitter of scikit-learn, or the folds themselves.

    Parameters
    ----------
    cv : int, splitter or iterable of (train, test)
        If a number is larger than the number of rows or groups of a class, not every fold tests that class, with a
        warning (see `make_folds`).
    problem : Problem
    groups : array (rows,), optional
    seed : int, optional
        As in `make_folds`.

    Raises
    ------
    DataError
        If no class has two rows or groups, or if a fold has no training row of a class, or no test row.
    """
    owners = None if groups is None else np.asarray(groups)
    if isinstance(cv, Integral):
        folds = _make_stratified(int(cv), problem, owners, seed)
    else:
        every = np.arange(len(problem.y))
        split = check_cv(cv, problem.y, classifier=True).split(problem.X, problem.y, owners)
        folds = [(every[train], every[test]) for train, test in split]
    _check_folds(problem, folds)
    return folds


def _make_stratified(n_folds: int, problem: Problem, owners: Any, seed: int | None) -> list[Fold]:
    folds = make_folds(problem.y, owners, n_folds, seed=seed)
    rare = find_rare_classes(problem.y, owners, folds, n_folds, names=problem.classes.tolist())
    for message in rare.messages("row" if owners is None else "group"):
        warnings.warn(message, FeatxWarning, stacklevel=4)
    return folds


def draw_seed(random_state: Any) -> int | None:
    """Return the seed that an int, a RandomState or None stands for."""
    if random_state is None or isinstance(random_state, Integral):
        return None if random_state is None else int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))


def _check_folds(problem: Problem, folds: Sequence[Fold]) -> None:
    """Raise ``DataError`` unless each fold trains on each class and tests a row."""
    codes = problem.codes
    members = codes if problem.multilabel else codes[:, np.newaxis] == np.arange(len(problem.classes))
    for number, (train, test) in enumerate(folds):
        weights = problem.sample_weight[train, np.newaxis]
        lacking = ~(weights * members[train]).any(axis=0)
        if problem.multilabel:
            lacking |= ~(weights * ~members[train]).any(axis=0)
        if lacking.any():
            raise DataError(
                f"cv fold {number} has no row of class {problem.classes[lacking.argmax()]} with a weight above 0 to "
                "train on; use stratified folds, or fewer of them"
            )
        if not len(test):
            raise DataError(f"cv fold {number} tests no row; leave the fold out")
