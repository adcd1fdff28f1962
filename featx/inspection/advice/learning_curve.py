"""The learning curve: accuracy of a linear head by the number of images that it is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.heads import (
    Fold,
    count_workers,
    cross_validate,
    make_feature_sets,
    make_folds,
    make_problem,
    run_parallel,
)
from featx.models import TrainingRows

FRACTIONS = (0.1, 0.2, 0.4, 0.7, 1.0)
"""Fractions of the training images of a draw."""
DRAWS, MIN_DRAWS = 10, 5
"""Largest number of draws, and the smallest number to which a small class can reduce it."""


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy at one fraction of the training images.

    ``per_class`` is the mean number of training images per class. ``scores`` has the accuracy of each draw.
    """

    fraction: float
    per_class: float
    mean: float
    standard_error: float
    scores: tuple[float, ...]


def learning_curve(
    rows: TrainingRows, blocks: Sequence[int], head: str, Cs: Sequence[float], random_state: int = 0
) -> tuple[CurvePoint, ...]:
    """Score a head that is trained on growing fractions of the images. Each fraction contains the smaller ones.

    There are ``DRAWS`` draws, or fewer if a class has fewer images or groups. Classes with fewer than ``MIN_DRAWS``
    images or groups do not reduce the number of draws, unless all classes are so small. They are tested only in some
    draws, or in no draw if they have one image or group. Each draw tests on its own fold and trains on fractions of the
    other images. The folds are stratified and keep groups together, so all draws together score every other image once.
    At each fraction, the score with the best C is used.

    Parameters
    ----------
    rows : TrainingRows
    blocks : sequence of int
        The blocks whose features the head is fitted on.
    head : str
        Key of `featx.heads.HEADS`.
    Cs : sequence of float
        Values of C to try.
    random_state : int
        Seed of the folds and fractions.

    Raises
    ------
    NoFolds
        If every class has one image or group.
    """
    columns = [rows.spec.slices[name] for name in rows.spec.select(blocks=tuple(blocks)).widths]
    features = make_feature_sets({"curve": columns}, rows.X.shape[1])[0]
    problem = make_problem(rows.X, rows.y, scoring="accuracy")
    codes = np.unique(rows.y, return_inverse=True)[1]
    sizes = _class_sizes(rows)
    draws = min(DRAWS, int(sizes[sizes >= MIN_DRAWS].min() if (sizes >= MIN_DRAWS).any() else sizes.max()))
    rng = np.random.default_rng(random_state)
    folds = make_folds(rows.y, rows.groups, max(draws, 2), 1, random_state, rows.plain)
    nested = [_nested_folds(fold, codes, rows.groups, rng) for fold in folds]
    # Each worker normalizes and rotates the whole matrix, so a worker gets several draws at once.
    workers = count_workers(len(nested), len(rows.y) * features.columns)
    parts = [nested[start::workers] for start in range(workers)]
    grid = {head: tuple(sorted(Cs))}

    def score(part: list[list[Fold]]) -> np.ndarray:
        found = cross_validate(problem, features, grid, [fold for draw in part for fold in draw])
        return np.array([row.scores for row in found]).reshape(len(found), len(part), len(FRACTIONS))

    scores = np.concatenate(run_parallel(score, parts, workers), axis=1)
    best = scores.mean(axis=1).argmax(axis=0)
    images = np.mean([[rows.plain[train].sum() for train, _ in draw] for draw in nested], axis=0)
    return tuple(
        _make_point(fraction, images[i] / len(rows.classes), scores[best[i], :, i])
        for i, fraction in enumerate(FRACTIONS)
    )


def largest_class(rows: TrainingRows) -> int:
    """Count the different images or groups of the largest class."""
    return int(_class_sizes(rows).max())


def _class_sizes(rows: TrainingRows) -> np.ndarray:
    """Count the different images or groups of each class."""
    codes = np.unique(rows.y, return_inverse=True)[1]
    pairs = np.unique(np.column_stack([rows.groups, codes]), axis=0)
    return np.bincount(pairs[:, 1])


def _nested_folds(fold: Fold, codes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> list[Fold]:
    """Make one fold per fraction. Its training rows are this fraction of each class's groups, at least one group."""
    train, test = fold
    _, first, group = np.unique(groups[train], return_index=True, return_inverse=True)
    rank = np.empty(len(first))
    for code in np.unique(codes):
        members = np.flatnonzero(codes[train][first] == code)
        rank[members] = rng.permutation(len(members)) / len(members)
    if mixed := np.setdiff1d(codes[train], codes[train][rank[group] == 0]).tolist():
        # A group counts for the class of its first row. If a class has no such group, put one group with this class
        # into every fraction.
        rank[[rng.choice(group[codes[train] == code]) for code in mixed]] = 0
    return [(train[rank[group] < fraction], test) for fraction in FRACTIONS]


def _make_point(fraction: float, per_class: float, scores: np.ndarray) -> CurvePoint:
    error = scores.std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else 0.0
    return CurvePoint(fraction, float(per_class), float(scores.mean()), float(error), tuple(scores.tolist()))
