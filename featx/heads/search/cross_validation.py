"""Cross-validate all candidates of a search. All folds and classes of a head are solved as one batch."""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from featx.heads.parallel import count_workers, run_parallel
from featx.heads.pipeline.linear_heads import make_head
from featx.heads.search.candidates import Candidate
from featx.heads.search.feature_sets import FeatureSet
from featx.heads.search.grids import Grids, OpenGrids, default_grid
from featx.heads.search.problem import Problem
from featx.heads.solver.batch import MAX_BATCH_VALUES, PathFit, fit_path, penalizes_intercept
from featx.heads.solver.principal_axes import PrincipalAxes, make_principal_axes
from featx.heads.solver.row_weights import row_weights
from featx.heads.splitting.folds import Fold, folds_per_pass

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Outcome:
    """Results of one candidate on some of the folds."""

    scores: list[float]
    gradient_norm: float
    gap: float
    seconds: float


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
        Number of batches into which the folds of a feature set are divided. The batches are solved in parallel. By
        default, the threads are shared among the feature sets, and each set has as many batches as threads. Fits with
        different numbers of batches differ by no more than the tolerance.

    Returns
    -------
    list of Candidate
        Sorted by feature set, head and C. ``linear-svc`` comes last, because it has principal axes of its own.
    """
    values = len(problem.y) * max(chosen.columns for chosen in sets)
    workers = count_workers(len(sets), values, jobs)
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
    """Cross-validate every head and C on one feature set.

    Parameters
    ----------
    problem, grids, folds
        As in `cross_validate_sets`.
    chosen : FeatureSet
    threads : int
        Number of batches into which the folds are divided, each solved on a thread of its own.
    """
    logger.debug("cross-validating %s on %s, %d folds", ", ".join(grids), chosen.name, len(folds))
    outcomes: dict[tuple[str, int, float], list[_Outcome]] = {}
    closed: Grids = {}
    for X, part in _normalize(problem, chosen, folds):
        closed = closed or {head: grid or default_grid(head, X) for head, grid in grids.items()}
        for head, rank, C, outcome in _solve(problem, X, closed, part, threads):
            outcomes.setdefault((head, rank, C), []).append(outcome)
    k = folds_per_pass(folds)
    return [_make_candidate(key, chosen, found, k) for key, found in outcomes.items()]


def _normalize(
    problem: Problem, chosen: FeatureSet, folds: Sequence[Fold]
) -> Iterator[tuple[NDArray[Any], Sequence[Fold]]]:
    """Yield normalized rows, and the folds to solve on them.

    If ``normalize`` is ``standard``, each fold has its own normalized rows. Otherwise all folds share the same rows.
    """
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
            # Divide the folds among threads only if all folds together fit in one batch. Otherwise each thread would
            # need the memory of a full batch.
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
    key: tuple[str, int, float], chosen: FeatureSet, outcomes: Sequence[_Outcome], k: float
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
        standard_error=float(np.std(scores, ddof=1) / np.sqrt(k)) if len(scores) > 1 else 0.0,
        scores=scores,
        gradient_norm=max(outcome.gradient_norm for outcome in outcomes),
        gap=max(outcome.gap for outcome in outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
    )
