"""Cross-validated scores of all candidates of a search, with the folds and values of C solved in batches."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from featx.errors import DataError, SpecError
from featx.heads.metrics.scoring import Score, Scoring, default_scoring, make_score
from featx.heads.parallel import count_workers, run_parallel
from featx.heads.pipeline.linear_heads import HEADS, MULTILABEL_HEADS, ClassWeight, make_head
from featx.heads.search.feature_sets import FeatureSet
from featx.heads.solver.batch import MAX_BATCH_VALUES, TOLERANCE, PathFit, check_rows, fit_path, penalizes_intercept
from featx.heads.solver.principal_axes import PrincipalAxes, make_principal_axes
from featx.heads.solver.row_weights import row_weights
from featx.heads.splitting.folds import Fold, folds_per_pass

SELECT = ("best", "one-se")
TIE = 1e-9
"""Mean scores that differ by less are equal: they differ by rounding."""

DEFAULT_CS = {
    "linear-svc": (0.1, 0.3, 1.0, 3.0, 10.0),
    "softmax": (1.0, 10.0, 100.0, 1_000.0, 10_000.0),
    "ovr-logistic": (1.0, 10.0, 100.0, 1_000.0, 10_000.0),
}
"""Values of C around the best ones on power-normalized features of Flowers-17. The score of a logistic head changes
little over three decades, so its grid is coarser."""
DEFAULT_VARIANCE = 0.5
"""Sum of the variances of the columns of those features. The same C has the same effect if C × variance is the same."""

Grids = Mapping[str, tuple[float, ...]]
"""Sorted values of C of each head."""
OpenGrids = Mapping[str, tuple[float, ...] | None]
"""The same; None stands for the default grid, which depends on the features."""


@dataclass(frozen=True)
class Candidate:
    """One combination of head, C and feature set, with its cross-validated scores.

    Parameters
    ----------
    head : str
    C : float
    rank : int
        Position of C in the grid of the head, 0 for the smallest.
    feature_set : str
    columns : int
        Number of columns of the feature set.
    mean, standard_error : float
        Mean of the scores, and its standard error: the standard deviation of the scores divided by the square root
        of the number of folds in one pass over the rows. Repeated passes use the same rows, so they do not reduce it.
    scores : tuple of float
        One score per fold.
    gradient_norm, gap : float
        Largest norm of the gradient, and largest duality gap relative to the objective, over folds and classes.
    seconds : float
        Time spent on solving and scoring; 0 for a candidate read from a saved model, which does not store it.
    """

    head: str
    C: float
    rank: int
    feature_set: str
    columns: int
    mean: float
    standard_error: float
    scores: tuple[float, ...]
    gradient_norm: float
    gap: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Problem:
    """The rows, labels and options that all candidates of a search share.

    For multi-label rows, ``y`` is an indicator (rows, classes) and ``codes`` is the same as bool. For others, ``codes``
    (rows,) are the positions of the labels in ``classes``.
    """

    X: NDArray[Any]
    y: NDArray[Any]
    classes: NDArray[Any]
    codes: NDArray[Any]
    sample_weight: NDArray[Any]
    normalize: str
    class_weight: ClassWeight
    score: Score
    tol: float

    @property
    def multilabel(self) -> bool:
        """Whether rows have several labels."""
        return self.y.ndim == 2


@dataclass(frozen=True)
class _Outcome:
    """Results of one candidate on some of the folds."""

    scores: list[float]
    gradient_norm: float
    gap: float
    seconds: float


def make_problem(
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    normalize: str = "power",
    class_weight: ClassWeight = None,
    scoring: Scoring | None = None,
    tol: float = TOLERANCE,
) -> Problem:
    """Check rows, labels and options, and convert them to what the solver takes.

    Parameters
    ----------
    X : float array (rows, columns)
        float32 and float64 are kept, other types become float64.
    y : array (rows,), or int or bool array (rows, classes)
        Labels; or, for multi-label rows, an indicator of 0 and 1.
    sample_weight : float array (rows,), optional
        Weight of each row in the fits, 0 or more. Scores are not weighted.
    normalize : str
        As in `make_head`.
    class_weight : dict of label to weight, "balanced" or None
        As in scikit-learn; multi-label rows take no dict.
    scoring : str or callable, optional
        As in `featx.HeadSearchCV`.
    tol : float
        Largest duality gap of a fit, relative to its objective.

    Raises
    ------
    SpecError
        If an option is out of range.
    DataError
        If the rows, labels or weights cannot be fitted.
    """
    values, labels = np.asarray(X), np.asarray(y)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    classes, codes = _encode(labels, class_weight)
    check_rows(values, codes, max(2, len(classes)))
    weight = np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != labels.shape[:1] or not (weight >= 0).all():
        raise DataError(f"sample_weight must be {len(labels)} numbers that are 0 or more, got shape {weight.shape}")
    if not weight.any():
        raise DataError("sample_weight must be above 0 for some rows, but all weights are zero")
    if isinstance(class_weight, Mapping):
        places = {label: code for code, label in enumerate(classes.tolist())}
        if unknown := [label for label in class_weight if label not in places]:
            raise DataError(f"class_weight must name classes of the rows, got {unknown[0]!r}")
        class_weight = {places[label]: value for label, value in class_weight.items()}
    score = make_score(scoring or default_scoring(labels))
    return Problem(values, labels, classes, codes, weight, normalize, class_weight, score, tol)


def _encode(labels: NDArray[Any], class_weight: ClassWeight) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the classes, and the code of each row or the indicator as bool."""
    if labels.ndim != 2:
        return np.unique(labels, return_inverse=True)
    if not np.isin(labels, (0, 1)).all():
        raise DataError("multi-label targets must be an indicator of 0 and 1 with shape (rows, classes)")
    if isinstance(class_weight, Mapping):
        raise SpecError(f"class_weight of multi-label targets must be 'balanced' or None, got {class_weight}")
    return np.arange(labels.shape[1]), labels > 0


def make_grids(
    heads: Sequence[str], Cs: Mapping[str, Sequence[float]] | Sequence[float] | None = None, multilabel: bool = False
) -> OpenGrids:
    """Return the sorted values of C of each head; None stands for the default grid, which depends on the features.

    ``softmax`` is left out for multi-label rows, unless it is the only head.

    Raises
    ------
    SpecError
        If a head is unknown, or no head can be fitted.
    """
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    if not heads or (unknown := [head for head in heads if head not in HEADS]):
        got = repr(unknown[0]) if heads else "none"
        raise SpecError(f"heads must be among {', '.join(HEADS)}, got {got}")
    if multilabel:
        heads = tuple(head for head in heads if head in MULTILABEL_HEADS)
        if not heads:
            raise SpecError(f"heads for multi-label targets must be among {', '.join(MULTILABEL_HEADS)}, got softmax")
    given = Cs if isinstance(Cs, Mapping) else dict.fromkeys(heads, Cs)
    grids = {head: given.get(head) for head in heads}
    return {head: None if grid is None else tuple(sorted({float(C) for C in grid})) for head, grid in grids.items()}


def cross_validate_sets(
    problem: Problem,
    sets: Sequence[FeatureSet],
    grids: OpenGrids,
    folds: Sequence[Fold],
    *,
    jobs: int,
    fold_jobs: int | None = None,
) -> list[Candidate]:
    """Cross-validate every head and C on every feature set.

    Scores are those that scikit-learn's estimators get on the same folds if they run to convergence.

    Parameters
    ----------
    problem : Problem
    sets : sequence of FeatureSet
    grids : mapping of head to values of C
        From `make_grids`.
    folds : sequence of (train, test)
        Row numbers.
    jobs : int
        Number of threads.
    fold_jobs : int, optional
        Number of batches into which the folds of a set are divided, to be solved in parallel; by default the threads
        that are left over by ``sets``. PathFit differ within ``tol`` between numbers of batches, not more.

    Returns
    -------
    list of Candidate
        In the order of ``sets`` and of C. Of the heads, those that do not penalize their intercept come first.
    """
    cells = len(problem.y) * max(chosen.columns for chosen in sets)
    workers = count_workers(len(sets), cells, jobs)
    threads = max(1, fold_jobs or jobs // workers)
    found = run_parallel(
        lambda chosen: cross_validate(problem, chosen, grids, folds, threads),
        sets,
        workers,
        lambda chosen: chosen.columns,
    )
    return [candidate for part in found for candidate in part]


def cross_validate(
    problem: Problem, chosen: FeatureSet, grids: OpenGrids, folds: Sequence[Fold], threads: int = 1
) -> list[Candidate]:
    """Cross-validate every head and C on one feature set, with the folds divided among ``threads``."""
    outcomes: dict[tuple[str, int, float], list[_Outcome]] = {}
    closed: Grids = {}
    for X, part in _normalize(problem, chosen, folds):
        closed = closed or {head: grid or default_grid(head, X) for head, grid in grids.items()}
        for head, rank, C, outcome in _solve(problem, X, closed, part, threads):
            outcomes.setdefault((head, rank, C), []).append(outcome)
    passes = folds_per_pass(folds)
    return [_make_candidate(key, chosen, found, passes) for key, found in outcomes.items()]


def default_grid(head: str, X: NDArray[Any]) -> tuple[float, ...]:
    """Return ``DEFAULT_CS`` of a head, times the power of ten that suits the variance of X (rows, columns)."""
    variance = float(X.var(axis=0, dtype=np.float64).sum())
    power = round(np.log10(DEFAULT_VARIANCE / variance)) if variance > 0 else 0
    return tuple(float(f"{C * 10.0**power:.6g}") for C in DEFAULT_CS[head])


def _normalize(
    problem: Problem, chosen: FeatureSet, folds: Sequence[Fold]
) -> Iterator[tuple[NDArray[Any], Sequence[Fold]]]:
    """Yield normalized rows and the folds to solve on them: all folds, or one if the normalizer learns from rows."""
    X = chosen.select(problem.X)
    pipeline = make_head("softmax", normalize=problem.normalize, widths=chosen.widths or "auto")
    normalizer = pipeline.named_steps["normalizer"]
    if problem.normalize == "standard":
        for train, test in folds:
            yield normalizer.fit(X[train]).transform(X), [(train, test)]
    else:
        yield (normalizer.fit_transform(X) if isinstance(normalizer, BaseEstimator) else X), folds


def _solve(
    problem: Problem, X: NDArray[Any], grids: Grids, folds: Sequence[Fold], threads: int
) -> Iterator[tuple[str, int, float, _Outcome]]:
    """Yield head, rank, C and outcome of each candidate on normalized rows X.

    The principal axes of X are computed once for the heads that penalize their intercept, and once for the others.
    """
    trained = np.zeros((len(folds), len(X)))
    for weights, (train, _) in zip(trained, folds, strict=True):
        weights[train] = problem.sample_weight[train]
    count = len(problem.classes)
    for penalized in (False, True):
        alike = [head for head in grids if penalizes_intercept(head) == penalized]
        if not alike:
            continue
        axes = make_principal_axes(X, penalized)
        for head in alike:
            weights = row_weights(problem.codes, trained, head, count, problem.class_weight)
            # Each thread solves a batch of its own, so memory allows threads only if one batch would hold all folds.
            shares = min(threads, len(folds)) if len(folds) * count * len(X) <= MAX_BATCH_VALUES else 1
            parts = np.array_split(np.arange(len(folds)), shares)
            solve = partial(_solve_folds, problem, axes, head, grids[head], weights, folds)
            for found in run_parallel(solve, parts, shares):
                yield from ((head, rank, C, outcome) for rank, (C, outcome) in enumerate(found))


def _solve_folds(
    problem: Problem,
    axes: PrincipalAxes,
    head: str,
    Cs: Sequence[float],
    weights: NDArray[np.floating],
    folds: Sequence[Fold],
    part: NDArray[np.intp],
) -> list[tuple[float, _Outcome]]:
    """Return each C and its outcome on the folds whose numbers are ``part``."""
    outcomes = []
    start = time.perf_counter()
    for fit in fit_path(axes, problem.codes, weights[part], Cs, head, len(problem.classes), tol=problem.tol):
        scores = [_score(problem, head, fit, place, folds[fold][1]) for place, fold in enumerate(part.tolist())]
        now = time.perf_counter()
        gap = float((fit.gap / fit.objective).max())
        outcomes.append((fit.C, _Outcome(scores, float(fit.gradient_norm.max()), gap, now - start)))
        start = now
    return outcomes


def _score(problem: Problem, head: str, fit: PathFit, fold: int, test: NDArray[np.intp]) -> float:
    return problem.score(head, fit.decisions[fold][:, test].T, problem.y[test], problem.classes)


def _make_candidate(
    key: tuple[str, int, float], chosen: FeatureSet, outcomes: Sequence[_Outcome], passes: float
) -> Candidate:
    head, rank, C = key
    scores = tuple(score for outcome in outcomes for score in outcome.scores)
    return Candidate(
        head=head,
        C=C,
        rank=rank,
        feature_set=chosen.name,
        columns=chosen.columns,
        mean=float(np.mean(scores)),
        standard_error=float(np.std(scores, ddof=1) / np.sqrt(passes)) if len(scores) > 1 else 0.0,
        scores=scores,
        gradient_norm=max(outcome.gradient_norm for outcome in outcomes),
        gap=max(outcome.gap for outcome in outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
    )


def select_candidate(candidates: Sequence[Candidate], select: str) -> Candidate:
    """Return the best candidate, or the simplest one that is not clearly worse.

    Parameters
    ----------
    candidates : sequence of Candidate
    select : {"best", "one-se"}
        ``best``: the highest mean score; of equal candidates the one with the smaller C in the grid of its head,
        then the one with fewer columns. ``one-se`` (one-standard-error choice): of the candidates whose mean is at
        most one standard error below the highest, the one with the fewest columns, then the smallest C.

    Raises
    ------
    SpecError
        If ``select`` is neither.
    """
    if select not in SELECT:
        raise SpecError(f"select must be one of {', '.join(SELECT)}, got {select!r}")
    highest = max(candidates, key=lambda candidate: candidate.mean)
    if select == "best":
        tied = [candidate for candidate in candidates if candidate.mean >= highest.mean - TIE]
        return min(tied, key=lambda candidate: (candidate.rank, candidate.columns))
    lowest = highest.mean - highest.standard_error - TIE
    near = [candidate for candidate in candidates if candidate.mean >= lowest]
    return min(near, key=lambda candidate: (candidate.columns, candidate.rank, -candidate.mean))
