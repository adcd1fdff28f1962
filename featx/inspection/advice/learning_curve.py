"""The learning curve: a linear head's accuracy by how many images it is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featx.backbones import feature_name
from featx.heads import (
    Fold,
    cross_validate,
    make_feature_sets,
    make_folds,
    make_problem,
    run_parallel,
    workers_for,
)
from featx.models import TrainingRows

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)
"""Of the images that a draw may train on."""
DRAWS = 10


@dataclass(frozen=True)
class Point:
    """One share of the images: how many a class that is on average, and each draw's accuracy."""

    share: float
    per_class: float
    mean: float
    standard_error: float
    scores: tuple[float, ...]


def learning_curve(
    rows: TrainingRows, blocks: Sequence[int], head: str, Cs: Sequence[float], seed: int = 0
) -> tuple[Point, ...]:
    """Score a head that is trained on growing shares of the images, each within the next.

    Each of ``DRAWS`` draws holds out a part of its own, stratified and by groups, so that together they score every
    image once; it trains on shares of the rest. Where a class has fewer images than that, there are as many draws.
    At each share the best C counts.

    Parameters
    ----------
    rows : TrainingRows
    blocks : sequence of int
        Whose features the head sees.
    head : str
    Cs : sequence of float
    seed : int

    Raises
    ------
    DataError
        If a class has fewer than two different images.
    """
    columns = [rows.spec.slices[feature_name(block, pool)] for block in blocks for pool in rows.spec.pools]
    chosen = make_feature_sets({"curve": columns}, rows.X.shape[1])[0]
    problem = make_problem(rows.X, rows.y, scoring="accuracy")
    codes = np.unique(rows.y, return_inverse=True)[1]
    draws = min(DRAWS, _fewest(rows, codes))
    rng = np.random.default_rng(seed)
    folds = make_folds(rows.y, rows.groups, max(draws, 2), 1, seed, rows.plain)
    nested = [_shares(fold, codes, rows.groups, rng) for fold in folds]
    # Each part normalizes and turns the whole matrix.
    workers = workers_for(len(nested), len(rows.y) * chosen.columns)
    parts = [nested[start::workers] for start in range(workers)]
    grid = {head: tuple(sorted(Cs))}

    def score(part: list[list[Fold]]) -> np.ndarray:
        found = cross_validate(problem, chosen, grid, [fold for draw in part for fold in draw])
        return np.array([row.scores for row in found]).reshape(len(found), len(part), len(SHARES))

    scores = np.concatenate(run_parallel(score, parts, workers), axis=1)
    best = scores.mean(axis=1).argmax(axis=0)
    images = np.mean([[rows.plain[train].sum() for train, _ in draw] for draw in nested], axis=0)
    return tuple(_point(share, images[i] / len(rows.classes), scores[best[i], :, i]) for i, share in enumerate(SHARES))


def _fewest(rows: TrainingRows, codes: np.ndarray) -> int:
    """Different images of the smallest class."""
    _, first = np.unique(rows.groups, return_index=True)
    return int(np.bincount(codes[first]).min())


def _shares(fold: Fold, codes: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> list[Fold]:
    """A fold whose training rows are those of a growing share of each class's groups, one at least."""
    train, test = fold
    _, first, group = np.unique(groups[train], return_index=True, return_inverse=True)
    place = np.empty(len(first))
    for code in np.unique(codes):
        members = np.flatnonzero(codes[train][first] == code)
        place[members] = rng.permutation(len(members)) / len(members)
    return [(train[place[group] < share], test) for share in SHARES]


def _point(share: float, per_class: float, scores: np.ndarray) -> Point:
    error = scores.std(ddof=1) / np.sqrt(len(scores))
    return Point(share, float(per_class), float(scores.mean()), float(error), tuple(scores.tolist()))
