"""Scores of one feature set's heads and C over all folds, each head solved as one batch."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from featx.errors import DataError, SpecError
from featx.heads.feature_sets import FeatureSet
from featx.heads.folds import Fold
from featx.heads.parallel import spread
from featx.heads.pipelines import HEADS, MULTILABEL_HEADS, ClassWeight, make_head
from featx.heads.scoring import Score, default_scoring, make_score
from featx.heads.solver.batch import CELLS, Fits, check_rows, fit_path, penalizes_intercept
from featx.heads.solver.principal_axes import PrincipalAxes, rotate
from featx.heads.solver.row_weights import row_weights

DEFAULT_CS = {
    "linear-svc": (0.1, 0.3, 1.0, 3.0, 10.0),
    "softmax": (1.0, 10.0, 100.0, 1_000.0, 10_000.0),
    "ovr-logistic": (1.0, 10.0, 100.0, 1_000.0, 10_000.0),
}
"""Around the best on Flowers-17, block 5, blocks 4-5 and 3-5 after power normalization; logistic heads are best on a
plateau of three decades."""
DEFAULT_VARIANCE = 0.5
"""Sum of the columns' variances there. What a C means goes with its inverse."""

Grids = Mapping[str, tuple[float, ...]]
"""The C of each head, sorted."""
OpenGrids = Mapping[str, tuple[float, ...] | None]
"""The same, None for the default, which depends on the features."""


@dataclass(frozen=True)
class SearchRow:
    """One candidate and its cross-validation: the mean over folds, its standard error, and the scores themselves.

    The standard error is the scores' deviation over √folds; repeats, which use the same rows again, do not shrink it.
    ``rank`` is the place of C in the head's grid, 0 for the smallest. ``gradient_norm`` and ``gap`` (the duality gap,
    relative to the objective) are the largest over folds and classes; ``seconds`` is what solving and scoring took, 0
    in a row that was read from a model, which does not keep it.
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
    """What all candidates share: features, labels, options, and how decisions are scored.

    Of rows with several labels ``y`` is an indicator (rows, classes), and ``codes`` the same as bool.
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


@dataclass(frozen=True)
class _Outcome:
    """One candidate on some of the folds."""

    scores: list[float]
    gradient_norm: float
    gap: float
    seconds: float


def make_problem(
    X: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None,
    normalize: str,
    class_weight: ClassWeight,
    scoring: str | None,
    tol: float,
) -> Problem:
    """The rows and options in the forms that the solver takes, checked; errors as in `search`."""
    values, labels = np.asarray(X), np.asarray(y)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    classes, codes = _encode(labels, class_weight)
    check_rows(values, codes, max(2, len(classes)))
    weight = np.ones(len(values)) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != labels.shape[:1] or not (weight > 0).all():
        raise DataError(f"sample_weight must be {len(labels)} numbers above 0, got shape {weight.shape}")
    if isinstance(class_weight, Mapping):
        places = {label: code for code, label in enumerate(classes.tolist())}
        if unknown := [label for label in class_weight if label not in places]:
            raise DataError(f"class_weight must name classes of the rows, got {unknown[0]!r}")
        class_weight = {places[label]: value for label, value in class_weight.items()}
    score = make_score(scoring or default_scoring(labels))
    return Problem(values, labels, classes, codes, weight, normalize, class_weight, score, tol)


def _encode(labels: NDArray[Any], class_weight: ClassWeight) -> tuple[NDArray[Any], NDArray[Any]]:
    if labels.ndim != 2:
        return np.unique(labels, return_inverse=True)
    if not np.isin(labels, (0, 1)).all():
        raise DataError("labels of rows that have several must be an indicator of 0 and 1, (rows, classes)")
    if isinstance(class_weight, Mapping):
        raise SpecError(f"class_weight of rows with several labels must be 'balanced' or None, got {class_weight}")
    return np.arange(labels.shape[1]), labels > 0


def default_heads(y: NDArray[Any]) -> tuple[str, ...]:
    """The heads that take these labels: all, or those that solve one problem a label where rows have several."""
    return tuple(HEADS) if y.ndim == 1 else MULTILABEL_HEADS


def make_grids(heads: Sequence[str], Cs: Mapping[str, Sequence[float]] | Sequence[float] | None) -> OpenGrids:
    """The sorted C of each head, None for the default; ``SpecError`` if there is no such head, or a head has no C."""
    if not heads or (unknown := [head for head in heads if head not in HEADS]):
        got = repr(unknown[0]) if heads else "none"
        raise SpecError(f"heads must be among {', '.join(HEADS)}, got {got}")
    given = Cs if isinstance(Cs, Mapping) else dict.fromkeys(heads, Cs)
    grids = {head: given.get(head) for head in heads}
    return {head: None if grid is None else tuple(sorted({float(C) for C in grid})) for head, grid in grids.items()}


def cross_validate(
    problem: Problem, chosen: FeatureSet, grids: OpenGrids, folds: Sequence[Fold], n_splits: int, threads: int = 1
) -> list[SearchRow]:
    """A row for each head and C; ``n_splits`` of the folds are of one shuffle. So many threads share the folds."""
    outcomes: dict[tuple[str, int, float], list[_Outcome]] = {}
    closed: Grids = {}
    for X, part in _normalize(problem, chosen, folds):
        closed = closed or {head: grid or default_grid(head, X) for head, grid in grids.items()}
        for head, rank, C, outcome in _solve(problem, X, closed, part, threads):
            outcomes.setdefault((head, rank, C), []).append(outcome)
    return [_make_row(key, chosen, found, n_splits) for key, found in outcomes.items()]


def default_grid(head: str, X: NDArray[Any]) -> tuple[float, ...]:
    """``DEFAULT_CS`` by the power of ten nearest to what the variance of X (rows, columns) asks for."""
    variance = float(X.var(axis=0, dtype=np.float64).sum())
    power = round(np.log10(DEFAULT_VARIANCE / variance)) if variance > 0 else 0
    return tuple(float(f"{C * 10.0**power:.6g}") for C in DEFAULT_CS[head])


def _normalize(
    problem: Problem, chosen: FeatureSet, folds: Sequence[Fold]
) -> Iterator[tuple[NDArray[Any], Sequence[Fold]]]:
    """Normalized rows, and the folds that they serve: all, or one if the normalizer learns from training rows."""
    X = chosen.select(problem.X)
    pipeline = make_head("softmax", normalize=problem.normalize, widths=chosen.widths)
    normalizer = pipeline.named_steps["normalizer"]
    if problem.normalize == "standard":
        for train, test in folds:
            yield normalizer.fit(X[train]).transform(X), [(train, test)]
    else:
        yield (normalizer.fit_transform(X) if isinstance(normalizer, BaseEstimator) else X), folds


def _solve(
    problem: Problem, X: NDArray[Any], grids: Grids, folds: Sequence[Fold], threads: int
) -> Iterator[tuple[str, int, float, _Outcome]]:
    """Head, rank, C and outcome of each candidate on rows X, with one rotation for all heads of a kind."""
    trained = np.zeros((len(folds), len(X)))
    for weights, (train, _) in zip(trained, folds, strict=True):
        weights[train] = problem.sample_weight[train]
    count = len(problem.classes)
    for penalized in (False, True):
        alike = [head for head in grids if penalizes_intercept(head) == penalized]
        if not alike:
            continue
        rotated = rotate(X, penalized)
        for head in alike:
            weights = row_weights(problem.codes, trained, head, count, problem.class_weight)
            # Shared only if one batch holds them all: each thread has a batch of its own.
            shares = min(threads, len(folds)) if len(folds) * count * len(X) <= CELLS else 1
            parts = np.array_split(np.arange(len(folds)), shares)
            solve = partial(_solve_folds, problem, rotated, head, grids[head], weights, folds)
            for found in spread(solve, parts, shares):
                yield from ((head, rank, C, outcome) for rank, (C, outcome) in enumerate(found))


def _solve_folds(
    problem: Problem,
    rotated: PrincipalAxes,
    head: str,
    Cs: Sequence[float],
    weights: NDArray[np.floating],
    folds: Sequence[Fold],
    part: NDArray[np.intp],
) -> list[tuple[float, _Outcome]]:
    """Each C and its outcome on some of the folds, given by number."""
    outcomes = []
    start = time.perf_counter()
    for fit in fit_path(rotated, problem.codes, weights[part], Cs, head, len(problem.classes), tol=problem.tol):
        scores = [_score(problem, head, fit, place, folds[fold][1]) for place, fold in enumerate(part.tolist())]
        now = time.perf_counter()
        gap = float((fit.gap / fit.objective).max())
        outcomes.append((fit.C, _Outcome(scores, float(fit.gradient_norm.max()), gap, now - start)))
        start = now
    return outcomes


def _score(problem: Problem, head: str, fit: Fits, fold: int, test: NDArray[np.intp]) -> float:
    return problem.score(head, fit.decisions[fold][:, test].T, problem.y[test], problem.classes)


def _make_row(
    key: tuple[str, int, float], chosen: FeatureSet, outcomes: Sequence[_Outcome], n_splits: int
) -> SearchRow:
    head, rank, C = key
    scores = tuple(score for outcome in outcomes for score in outcome.scores)
    return SearchRow(
        head=head,
        C=C,
        rank=rank,
        feature_set=chosen.name,
        columns=chosen.columns,
        mean=float(np.mean(scores)),
        standard_error=float(np.std(scores, ddof=1) / np.sqrt(n_splits)) if len(scores) > 1 else 0.0,
        scores=scores,
        gradient_norm=max(outcome.gradient_norm for outcome in outcomes),
        gap=max(outcome.gap for outcome in outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
    )
