"""What a search is worth: an estimate that its selection has not flattered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from joblib import Parallel, cpu_count, delayed
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from featx.errors import DataError, SpecError
from featx.heads.cross_validation import Problem, SearchRow, cross_validate, make_grids, make_problem
from featx.heads.feature_sets import FeatureSet, Range, make_feature_sets
from featx.heads.folds import Fold, make_folds
from featx.heads.head_search import search
from featx.heads.parallel import among_processes
from featx.heads.pipelines import ClassWeight
from featx.heads.solver.batch import TOLERANCE


@dataclass(frozen=True)
class NestedEstimate:
    """Scores on the outer folds, their mean and standard error, and what the search chose in each."""

    mean: float
    standard_error: float
    scores: tuple[float, ...]
    choices: tuple[SearchRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON holds; of a choice its head, C and feature set."""
        choices = [{"head": row.head, "C": row.C, "feature_set": row.feature_set} for row in self.choices]
        return {
            "mean": self.mean,
            "standard_error": self.standard_error,
            "scores": list(self.scores),
            "choices": choices,
        }


def nested(
    X: ArrayLike,
    y: ArrayLike,
    *,
    features: Mapping[str, Range],
    groups: ArrayLike | None = None,
    plain: ArrayLike | None = None,
    feature_sets: Mapping[str, Sequence[str]] | None = None,
    normalize: str = "power",
    scoring: str | None = None,
    class_weight: ClassWeight = None,
    sample_weight: ArrayLike | None = None,
    tol: float = TOLERANCE,
    outer: int = 5,
    seed: int = 0,
    jobs: int = 1,
    **options: Any,
) -> NestedEstimate:
    """Nested cross-validation of the whole search.

    The highest of many cross-validated means is optimistic, as it was chosen for being high (Cawley & Talbot 2010,
    "On over-fitting in model selection"). Here each outer fold's training rows are searched by themselves, and what
    they choose is scored on rows that no choice has seen: the mean is what the procedure, not its luckiest
    candidate, gives on new images.

    Parameters
    ----------
    X, y, features, groups, plain, feature_sets, normalize, scoring, class_weight, sample_weight, tol, seed
        As in `search`.
    outer : int
        Outer folds.
    jobs : int
        Processes among which the outer folds are shared out; the result is the same for any number.
    options
        Any other option of `search`; its ``folds`` and ``repeats`` are those within each outer fold.

    Raises
    ------
    SpecError, DataError
        As `search` does; a class needs a group for each inner fold in the rows of all outer folds but one.
    EngineError
        If one of several processes is ended from outside.
    """
    if jobs < 1:
        raise SpecError(f"jobs of nested must be 1 or more, got {jobs}")
    problem = make_problem(X, y, sample_weight, normalize, class_weight, scoring, tol)
    owners = np.arange(len(problem.y)) if groups is None else np.asarray(groups)
    scored = np.ones(len(problem.y), bool) if plain is None else np.asarray(plain, bool)
    sets = {chosen.name: chosen for chosen in make_feature_sets(features, feature_sets, problem.X.shape[1])}
    options |= {"features": features, "feature_sets": feature_sets, "normalize": normalize, "scoring": scoring}
    options |= {"class_weight": class_weight, "seed": seed, "tol": tol}
    options |= {"jobs": max(1, cpu_count() // jobs), "fold_jobs": 1}
    folds = make_folds(problem.y, owners, outer, seed=seed, plain=scored)
    tasks = [delayed(_try_fold)(problem, owners, scored, sets, fold, outer, options) for fold in folds]
    try:
        with among_processes(jobs):
            found = Parallel(jobs)(tasks)
    except DataError as lack:
        raise DataError(f"in what nested leaves for training, {lack}") from lack
    choices, scores = zip(*found, strict=True)
    error = float(np.std(scores, ddof=1) / np.sqrt(outer))
    return NestedEstimate(float(np.mean(scores)), error, scores, choices)


def _try_fold(
    problem: Problem,
    owners: NDArray[Any],
    scored: NDArray[np.bool_],
    sets: Mapping[str, FeatureSet],
    fold: Fold,
    outer: int,
    options: Mapping[str, Any],
) -> tuple[SearchRow, float]:
    """What a search of an outer fold's training rows chooses, and its score on the others."""
    train, test = fold
    chosen: dict[str, Any] = {
        "groups": owners[train],
        "plain": scored[train],
        "sample_weight": problem.sample_weight[train],
    }
    # Products are summed in another order by another number of threads, so there is one, here as in a process.
    with threadpool_limits(limits=1, user_api="blas"):
        best = search(problem.X[train], problem.y[train], **chosen, **options).best
        grid = make_grids([best.head], [best.C])
        row, *_ = cross_validate(problem, sets[best.feature_set], grid, [(train, test)], outer)
    return best, row.mean
