"""Nested cross-validation: estimate the score of a search without selection bias."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from featx.errors import DataError, SpecError
from featx.heads.parallel import raise_if_process_killed
from featx.heads.search.candidates import Candidate, select_candidate
from featx.heads.search.cross_validation import cross_validate, cross_validate_sets
from featx.heads.search.grids import make_grids
from featx.heads.search.head_search_cv import HeadSearchCV
from featx.heads.search.search_space import SearchSpace, make_search_space
from featx.heads.splitting.folds import Fold, make_folds


@dataclass(frozen=True)
class NestedEstimate:
    """Scores on the outer folds, their mean and standard error, and the candidate selected in each outer fold."""

    mean: float
    standard_error: float
    scores: tuple[float, ...]
    choices: tuple[Candidate, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON values, with head, C and feature set of each selected candidate."""
        choices = [{"head": choice.head, "C": choice.C, "feature_set": choice.feature_set} for choice in self.choices]
        return {
            "mean": self.mean,
            "standard_error": self.standard_error,
            "scores": list(self.scores),
            "choices": choices,
        }


@dataclass(frozen=True)
class _Splitting:
    """How the rows of an outer fold are split for its own search."""

    groups: NDArray[Any]
    plain: NDArray[np.bool_]
    folds: int
    repeats: int

    def take(self, rows: NDArray[np.intp]) -> "_Splitting":
        return replace(self, groups=self.groups[rows], plain=self.plain[rows])


def nested_cross_validate(
    search: HeadSearchCV,
    X: ArrayLike,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    plain: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    outer: int = 5,
    folds: int = 5,
    repeats: int = 1,
    jobs: int = 1,
) -> NestedEstimate:
    """Estimate how well the model that a search selects will score on new rows, by nested cross-validation.

    The highest of many cross-validated means is too optimistic, because it was selected for being high (Cawley & Talbot
    2010, "On over-fitting in model selection"). Here the search runs on the training rows of each outer fold, and the
    candidate that it selects is scored on rows that no selection has seen.

    Parameters
    ----------
    search : HeadSearchCV
        The search to estimate. Its ``random_state``, an int, is the seed of all folds. Its ``cv`` is not used.
    X, y, groups, sample_weight
        As in `HeadSearchCV.fit`.
    plain : bool array (rows,), optional
        As in `make_folds`.
    outer : int
        Number of outer folds.
    folds, repeats : int
        Number of folds, and number of shuffles, of the search in each outer fold.
    jobs : int
        Number of processes that share the outer folds. The result does not depend on it.

    Raises
    ------
    SpecError, DataError
        As in `HeadSearchCV.fit`. The training rows of an outer fold must have a class with two groups, or there are no
        inner folds.
    EngineError
        If one of several processes is killed.
    """
    if jobs < 1:
        raise SpecError(f"jobs of nested cross-validation must be 1 or more, got {jobs}")
    space = make_search_space(search, np.asarray(X), np.asarray(y), sample_weight)
    count = len(space.problem.y)
    splitting = _Splitting(
        np.arange(count) if groups is None else np.asarray(groups),
        np.ones(count, bool) if plain is None else np.asarray(plain, bool),
        folds,
        repeats,
    )
    outer_folds = make_folds(space.problem.y, splitting.groups, outer, seed=search.random_state, plain=splitting.plain)
    threads = max(1, cpu_count() // jobs)
    tasks = [delayed(_score_fold)(search, space, splitting, fold, threads) for fold in outer_folds]
    try:
        with raise_if_process_killed(jobs):
            found = Parallel(jobs)(tasks)
    except DataError as lack:
        raise DataError(f"in the training rows of nested cross-validation, {lack}") from lack
    choices, scores = zip(*found, strict=True)
    error = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else 0.0
    return NestedEstimate(float(np.mean(scores)), error, scores, choices)


def _score_fold(
    search: HeadSearchCV, space: SearchSpace, splitting: _Splitting, fold: Fold, threads: int
) -> tuple[Candidate, float]:
    """Search on the training rows of an outer fold. Return the selected candidate and its score on the test rows."""
    train = fold[0]
    problem, own = space.problem, splitting.take(train)
    # BLAS adds numbers up in an order that depends on its number of threads. With one thread, the result is the same
    # in this process and in a worker process.
    with threadpool_limits(limits=1, user_api="blas"):
        inner = make_search_space(search, problem.X[train], problem.y[train], problem.sample_weight[train])
        folds = make_folds(inner.problem.y, own.groups, own.folds, own.repeats, search.random_state, own.plain)
        candidates = cross_validate_sets(inner.problem, inner.sets, inner.grids, folds, jobs=threads, fold_jobs=1)
        best = select_candidate(candidates, search.select)
        chosen = next(item for item in space.sets if item.name == best.feature_set)
        scored, *_ = cross_validate(problem, chosen, make_grids([best.head], [best.C]), [fold])
    return best, scored.mean
