"""The best head, C and features by cross-validation, all folds and C of a head solved as one batch."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joblib import cpu_count
from numpy.typing import ArrayLike

from featx.errors import SpecError
from featx.heads.cross_validation import (
    OpenGrids,
    Problem,
    SearchRow,
    cross_validate,
    default_heads,
    make_grids,
    make_problem,
)
from featx.heads.feature_sets import FeatureSet, Range, make_feature_sets
from featx.heads.folds import Fold, make_folds
from featx.heads.parallel import spread, workers_for
from featx.heads.pipelines import MULTILABEL_HEADS, ClassWeight
from featx.heads.scoring import default_scoring
from featx.heads.solver.batch import TOLERANCE

RULES = ("best", "one-se")
TIE = 1e-9


@dataclass(frozen=True)
class SearchResult:
    """All candidates in the order tried, and the best by ``rule``. ``feature_sets`` are the features of each set."""

    rows: tuple[SearchRow, ...]
    best: SearchRow
    rule: str
    scoring: str
    normalize: str
    folds: int
    repeats: int
    seed: int
    feature_sets: dict[str, tuple[str, ...]]

    def to_dict(self) -> dict[str, Any]:
        """All of it as values that JSON holds, but for the seconds: the same search, with the same ``fold_jobs``, shall
        give the same dictionary.
        """
        plain = dataclasses.asdict(self)
        plain["rows"] = list(plain["rows"])
        for row in (plain["best"], *plain["rows"]):
            row["scores"] = list(row["scores"])
            del row["seconds"]
        plain["feature_sets"] = {name: list(members) for name, members in self.feature_sets.items()}
        return plain


def search(
    X: ArrayLike,
    y: ArrayLike,
    *,
    features: Mapping[str, Range],
    groups: ArrayLike | None = None,
    plain: ArrayLike | None = None,
    heads: Sequence[str] | None = None,
    Cs: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    feature_sets: Mapping[str, Sequence[str]] | None = None,
    normalize: str = "power",
    folds: int = 5,
    repeats: int = 1,
    scoring: str | None = None,
    class_weight: ClassWeight = None,
    sample_weight: ArrayLike | None = None,
    seed: int = 0,
    rule: str = "best",
    tol: float = TOLERANCE,
    jobs: int | None = None,
    fold_jobs: int | None = None,
) -> SearchResult:
    """Cross-validate every head, C and feature set.

    Scores are those that sklearn's estimators, run to convergence on the same folds, would get (see
    `featx.heads.solver.fit_batch`); each row of the result carries the certificate of its fits. The winner is to be
    refit on all rows by `make_head`.

    Parameters
    ----------
    X : float array (rows, columns)
        Features as extracted, float32 or float64.
    y : array (rows,), or int array (rows, classes)
        Labels; or an indicator, 1 for each label that a row has.
    features : mapping of name to slice or (start, stop)
        The columns of each feature, ``block3_avg``.
    groups : int array (rows,), optional
        Rows of one group stay on one side of every fold.
    plain : bool array (rows,), optional
        The only rows that are scored; the others, augmented views, are trained on.
    heads : sequence of str, optional
        Keys of ``HEADS``; by default all that take these labels (``softmax`` takes one a row).
    Cs : sequence of float, or mapping of head to sequence, optional
        By default ``DEFAULT_CS`` × the power of ten that suits the variance of the normalized features.
    feature_sets : mapping of name to feature names, optional
        By default each block alone and the runs of blocks that end at the last.
    normalize : str
        As in `make_head`. ``standard`` is fitted anew on each fold, one fold after the other.
    folds, repeats, seed : int
        As in `make_folds`.
    scoring : str, optional
        Name of any of sklearn's scorers, or for several labels a row ``average_precision_macro`` or ``…_micro``. By
        default ``accuracy``, or the former.
    class_weight : dict, "balanced" or None
        As in sklearn; ``ovr-logistic``, and several labels a row, take no dict.
    sample_weight : float array (rows,), optional
        What a row counts in the fits; scores count rows alike.
    rule : str
        ``best``: the highest mean; of equals the smaller C in its head's grid, then fewer columns. ``one-se``: of
        the candidates within one standard error of that mean the one with the fewest columns, then the smallest C.
    tol : float
        Largest duality gap of a fit as a share of its objective.
    jobs : int, optional
        Feature sets that are solved at once, as far as memory allows; by default one a core.
    fold_jobs : int, optional
        Batches into which a set's folds are cut, to be solved at once; by default as many as ``jobs`` are left over.
        Another number gives the same fits within ``tol``, not to the last digit.

    Raises
    ------
    SpecError
        If an option is out of range.
    DataError
        If rows, labels or groups do not allow the folds, or the scorer does not suit them.
    """
    if rule not in RULES:
        raise SpecError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    problem = make_problem(X, y, sample_weight, normalize, class_weight, scoring, tol)
    sets = make_feature_sets(features, feature_sets, problem.X.shape[1])
    grids = make_grids(default_heads(problem.y) if heads is None else heads, Cs)
    if problem.y.ndim == 2 and "softmax" in grids:
        raise SpecError(f"heads for several labels a row must be among {', '.join(MULTILABEL_HEADS)}, got softmax")
    dealt = make_folds(problem.y, groups, folds, repeats, seed, plain)
    rows = _cross_validate_sets(problem, sets, grids, dealt, folds, jobs, fold_jobs)
    return SearchResult(
        rows=tuple(rows),
        best=choose(rows, rule),
        rule=rule,
        scoring=scoring or default_scoring(problem.y),
        normalize=normalize,
        folds=folds,
        repeats=repeats,
        seed=seed,
        feature_sets={chosen.name: chosen.features for chosen in sets},
    )


def _cross_validate_sets(
    problem: Problem,
    sets: Sequence[FeatureSet],
    grids: OpenGrids,
    folds: Sequence[Fold],
    n_splits: int,
    jobs: int | None,
    fold_jobs: int | None,
) -> list[SearchRow]:
    """The rows of all sets in their order."""
    cells = len(problem.y) * max(chosen.columns for chosen in sets)
    workers = workers_for(len(sets), cells, jobs)
    # A core that is left over solves some of the folds.
    threads = max(1, fold_jobs or (jobs or cpu_count()) // workers)
    parts = spread(
        lambda chosen: cross_validate(problem, chosen, grids, folds, n_splits, threads),
        sets,
        workers,
        lambda chosen: chosen.columns,
    )
    return [row for part in parts for row in part]


def choose(rows: Sequence[SearchRow], rule: str) -> SearchRow:
    """The row that ``rule`` picks, as in `search`."""
    highest = max(rows, key=lambda row: row.mean)
    if rule == "best":
        tied = [row for row in rows if row.mean >= highest.mean - TIE]
        return min(tied, key=lambda row: (row.rank, row.columns))
    near = [row for row in rows if row.mean >= highest.mean - highest.standard_error - TIE]
    return min(near, key=lambda row: (row.columns, row.rank, -row.mean))
