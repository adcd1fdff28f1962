"""The squared hinge solved exactly, from the rows inside the margin alone.

Once it is known which rows are inside the margin, the minimum is a linear system of as many unknowns (Chapelle 2007,
"Training a support vector machine in the primal"). Near the solution those are few, about 100 of 1,000 rows at large
C, where Newton's method by conjugate gradients takes hundreds of products. Which rows they are is found by block
principal pivoting: Júdice & Pires (1994), "A block principal pivoting algorithm for large-scale strictly monotone
linear complementarity problems": all rows on the wrong side change sides at once. Should that cycle, steps go as far
as the objective falls, which ends too: Keerthi & DeCoste (2005), "A modified finite Newton method for fast solution of
large scale linear SVMs".
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import linalg, optimize
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from featx.heads.solver.losses import Array, SquaredHinge
from featx.heads.solver.principal_axes import PrincipalAxes

MAX_ROWS = 6000
"""Above this many rows the matrix of all their inner products (288 MB) is not held."""
COST = 25
"""Rows inside the margin whose cube is this × rows × columns cost as much as conjugate gradients (measured)."""
MIN_LIMIT = 200
PATIENCE = 3
"""Exchanges without fewer rows on the wrong side before steps are cut short."""
MAX_EXCHANGES = 200
PARTS = 4
"""Parts a thread into which a batch is cut, so that no thread waits long for another."""
ROUNDING = 1e-9

Pivot = Callable[[SquaredHinge, Array], tuple[Array, Array]]


def count_limit(rotated: PrincipalAxes) -> float:
    """How many rows inside the margin a problem may have for pivoting to pay; 0 if there are too many rows at all."""
    n, r = rotated.data.shape
    return max(MIN_LIMIT, float(np.cbrt(COST * n * r))) if n <= MAX_ROWS else 0


def make_pivot(rotated: PrincipalAxes) -> Pivot:
    """A function from losses and a guess (P, n) of the rows inside each margin to weights (P, 1, r) and exchanges."""
    data = rotated.data
    gram = data @ data.T
    controller = ThreadpoolController().select(user_api="blas")
    # As many as BLAS itself may use, which is one where feature sets are solved side by side.
    threads = max((library["num_threads"] for library in controller.info()), default=1)

    def pivot(loss: SquaredHinge, inside: Array) -> tuple[Array, Array]:
        def solve(part: Array) -> tuple[Array, Array]:
            return _pivot(data, gram, loss.take(part), inside[part])

        # Some problems a thread: the systems are too small to be shared.
        parts = np.array_split(np.arange(len(inside)), min(len(inside), PARTS * threads if threads > 1 else 1))
        with controller.limit(limits=1), ThreadPoolExecutor(threads) as pool:
            shares, exchanges = zip(*pool.map(solve, parts), strict=True)
        return (np.concatenate(shares) @ data)[:, np.newaxis], np.concatenate(exchanges)

    return pivot


def _pivot(data: Array, gram: Array, loss: SquaredHinge, inside: Array) -> tuple[Array, Array]:
    """What each row adds (P, n) to the weights at the minimum, and how many exchanges (P,) that took."""
    margins = [_Margin(*row) for row in zip(loss.signs[:, 0], loss.weights[:, 0], inside, strict=True)]
    shares, exchanges = np.zeros(inside.shape), np.zeros(len(inside), int)
    active = np.arange(len(inside))
    for _ in range(MAX_EXCHANGES):
        exchanges[active] += 1
        reached = [margins[problem].solve(data, gram) for problem in active]
        shares[active] = [share for share, _ in reached]
        decisions = shares[active] @ gram
        for place, (_, known) in enumerate(reached):
            if known is not None:
                decisions[place] = known
        moved = [margins[problem].mend(shares[problem], z) for problem, z in zip(active, decisions, strict=True)]
        active = active[moved]
        if not len(active):
            break
    return shares, exchanges


class _Margin:
    """Which rows (n,) of one problem are inside its margin: a guess, and how it is mended."""

    def __init__(self, signs: Array, weights: Array, inside: Array) -> None:
        self.signs, self.weights, self.counted = signs, weights, weights > 0
        self.inside = inside & self.counted
        self.fewest, self.patience = len(signs) + 1, PATIENCE
        self.point = (np.zeros(len(signs)), np.zeros(len(signs)))

    def solve(self, data: Array, gram: Array) -> tuple[Array, Array | None]:
        """Shares (n,) at the minimum of the quadratic of the rows inside; decisions too if they come with it."""
        rows = np.flatnonzero(self.inside)
        if len(rows) <= data.shape[1]:
            return _solve_rows(gram, self.signs, self.weights, rows), None
        return _solve_columns(data, self.signs, self.weights, rows)

    def mend(self, shares: Array, decisions: Array) -> bool:
        """Exchange the rows that shares and decisions put on the wrong side; whether there were any."""
        pulls, reached = self.signs * shares, self.signs * decisions
        wrong = np.where(self.inside, pulls < -ROUNDING * pulls.max(), self.counted & (reached < 1 - ROUNDING))
        count = int(np.count_nonzero(wrong))
        if not count:
            return False
        self.patience = PATIENCE if count < self.fewest and self.patience >= 0 else self.patience - 1
        self.fewest = min(self.fewest, count)
        if self.patience >= 0:
            self.inside = self.inside ^ wrong
        else:
            self.point = _descend(self.point, (shares, decisions), self.signs, self.weights)
            self.inside = self.counted & (self.signs * self.point[1] < 1)
        return True


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


def _solve_rows(gram: Array, signs: Array, weights: Array, rows: Array) -> Array:
    """Shares (n,) at the minimum of the rows' quadratic, by a system of one unknown a row."""
    shares = np.zeros(len(signs))
    if len(rows):
        system = gram.take(rows, 0).take(rows, 1)
        system.flat[:: len(rows) + 1] += 0.5 / weights[rows]
        shares[rows] = _solve_positive(system, signs[rows])
    return shares


def _solve_columns(data: Array, signs: Array, weights: Array, rows: Array) -> tuple[Array, Array]:
    """The same by a system of one unknown a column, which alone is well conditioned for more rows than columns."""
    inner, double = data[rows], 2 * weights[rows]
    system = (inner.T * double) @ inner
    system.flat[:: len(system) + 1] += 1
    target = inner.T @ (double * signs[rows])
    reached = data @ _solve_positive(system, target)
    shares = np.zeros(len(signs))
    shares[rows] = double * (signs[rows] - reached[rows])
    return shares, reached


def _solve_positive(system: Array, target: Array) -> Array:
    """The solution (m,) of a positive definite system (m, m)."""
    try:
        # Not by scipy, which keeps Python to itself meanwhile: threads would wait for one another.
        lower = np.linalg.cholesky(system)
    except np.linalg.LinAlgError:  # Positive definite, but for rounding.
        return np.asarray(np.linalg.lstsq(system, target, rcond=None)[0])
    half = linalg.blas.dtrsv(lower.T, target, lower=False, trans=True)
    return np.asarray(linalg.blas.dtrsv(lower.T, half, lower=False))
