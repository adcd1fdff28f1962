"""The squared hinge solved exactly, from the rows inside the margin alone.

Once it is known which rows are inside the margin, the minimum is a linear system of as many unknowns (Chapelle 2007,
"Training a support vector machine in the primal"). Near the solution those are few, about 100 of 1,000 rows at large
C, where Newton's method by conjugate gradients takes hundreds of products. Which rows they are is found by block
principal pivoting: Júdice & Pires (1994), "A block principal pivoting algorithm for large-scale strictly monotone
linear complementarity problems": all rows on the wrong side change sides at once. Should that cycle, steps go as far
as the objective falls, which ends too: Keerthi & DeCoste (2005), "A modified finite Newton method for fast solution of
large scale linear SVMs".
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import linalg, optimize
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from featx.heads.solver.losses import Array, SquaredHinge
from featx.heads.solver.rotation import Rotated

MAX_ROWS = 6000
"""Above this many rows the matrix of all their inner products (288 MB) is not held."""
COST = 25
"""Rows inside the margin whose cube is this × rows × columns cost as much as conjugate gradients (measured)."""
MIN_LIMIT = 200
PATIENCE = 3
"""Exchanges without fewer rows on the wrong side before steps are cut short."""
MAX_EXCHANGES = 200
ROUNDING = 1e-9

Pivot = Callable[[SquaredHinge, Array], tuple[Array, Array]]


def count_limit(rotated: Rotated) -> float:
    """How many rows inside the margin a problem may have for pivoting to pay; 0 if there are too many rows at all."""
    n, r = rotated.data.shape
    return max(MIN_LIMIT, float(np.cbrt(COST * n * r))) if n <= MAX_ROWS else 0


def make_pivot(rotated: Rotated) -> Pivot:
    """A function from losses and a guess (P, n) of the rows inside each margin to weights (P, 1, r) and exchanges."""
    data = rotated.data
    gram = data @ data.T
    controller = ThreadpoolController()

    def pivot(loss: SquaredHinge, inside: Array) -> tuple[Array, Array]:
        def solve(problem: int) -> tuple[Array, int]:
            return _pivot(data, gram, loss.signs[problem, 0], loss.weights[problem, 0], inside[problem])

        # One problem a thread: the systems are too small to be shared.
        with controller.limit(limits=1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
            shares, exchanges = zip(*pool.map(solve, range(len(inside))), strict=True)
        return (np.stack(shares) @ data)[:, np.newaxis], np.array(exchanges)

    return pivot


def _pivot(data: Array, gram: Array, signs: Array, weights: Array, inside: Array) -> tuple[Array, int]:
    """What each row adds (n,) to the weights at the minimum, and how many exchanges that took."""
    counted = weights > 0
    inside = inside & counted
    fewest, patience = len(signs) + 1, PATIENCE
    point = (np.zeros(len(signs)), np.zeros(len(signs)))
    for exchange in range(MAX_EXCHANGES):  # noqa: B007
        rows = np.flatnonzero(inside)
        few = len(rows) <= data.shape[1]
        target = _solve_rows(gram, signs, weights, rows) if few else _solve_columns(data, signs, weights, rows)
        pulls = signs * target[0]
        wrong = np.where(inside, pulls < -ROUNDING * pulls.max(), counted & (signs * target[1] < 1 - ROUNDING))
        count = int(np.count_nonzero(wrong))
        if not count:
            break
        patience = PATIENCE if count < fewest and patience >= 0 else patience - 1
        fewest = min(fewest, count)
        if patience >= 0:
            inside = inside ^ wrong
        else:
            point = _descend(point, target, signs, weights)
            inside = counted & (signs * point[1] < 1)
    return target[0], exchange + 1


def _descend(
    point: tuple[Array, Array], target: tuple[Array, Array], signs: Array, weights: Array
) -> tuple[Array, Array]:
    """From shares and decisions toward others, as far as the objective falls."""
    (shares, decisions), (change, move) = point, (target[0] - point[0], target[1] - point[1])

    def slope(length: float) -> float:
        short = np.maximum(1 - signs * (decisions + length * move), 0)
        return float((shares + length * change) @ move - 2 * (weights * short * signs) @ move)

    length = 1.0 if slope(1.0) <= 0 or slope(0.0) >= 0 else optimize.brentq(slope, 0.0, 1.0)
    return shares + length * change, decisions + length * move


def _solve_rows(gram: Array, signs: Array, weights: Array, rows: Array) -> tuple[Array, Array]:
    """Shares and decisions (n,) at the minimum of the rows' quadratic, by a system of one unknown a row."""
    shares = np.zeros(len(signs))
    if not len(rows):
        return shares, shares
    beside = gram[rows]
    system = beside[:, rows]
    system.flat[:: len(rows) + 1] += 0.5 / weights[rows]
    shares[rows] = linalg.solve(system, signs[rows], assume_a="pos", overwrite_a=True, check_finite=False)
    return shares, shares[rows] @ beside


def _solve_columns(data: Array, signs: Array, weights: Array, rows: Array) -> tuple[Array, Array]:
    """The same by a system of one unknown a column, which alone is well conditioned for more rows than columns."""
    inner, double = data[rows], 2 * weights[rows]
    system = (inner.T * double) @ inner
    system.flat[:: len(system) + 1] += 1
    target = inner.T @ (double * signs[rows])
    reached = data @ linalg.solve(system, target, assume_a="pos", overwrite_a=True, check_finite=False)
    shares = np.zeros(len(signs))
    shares[rows] = double * (signs[rows] - reached[rows])
    return shares, reached
