"""Minimize the squared hinge loss exactly, using only the rows inside the margin.

If the rows inside the margin are known, the minimum is the solution of a linear system with one unknown per such row
(Chapelle 2007, "Training a support vector machine in the primal"). Near the solution these rows are few, while Newton's
method with conjugate gradients needs hundreds of matrix products. Block principal pivoting finds these rows: all rows
on the wrong side of the margin change sides at once (Júdice & Pires 1994, "A block principal pivoting algorithm for
large-scale strictly monotone linear complementarity problems"). If these exchanges cycle, steps are shortened so that
the objective always decreases. The method then also terminates (Keerthi & DeCoste 2005, "A modified finite Newton
method for fast solution of large scale linear SVMs").
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import linalg, optimize
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from featx.heads.solver.loss_functions import Array, SquaredHinge
from featx.heads.solver.principal_axes import PrincipalAxes

MAX_ROWS = 6000
"""Largest number of rows whose matrix of inner products (288 MB) is held in memory."""
COST = 25
"""Solving m rows inside the margin takes as long as conjugate gradients if m³ = COST × rows × columns (measured)."""
MIN_LIMIT = 200
PATIENCE = 3
"""Steps are shortened after this many exchanges that do not reduce the number of rows on the wrong side."""
MAX_EXCHANGES = 200
PARTS = 4
"""Parts of a batch per thread, so that threads finish at about the same time."""
ROUNDING = 1e-9

PivotSolver = Callable[[SquaredHinge, Array], tuple[Array, Array]]
"""A function that takes losses and a guess (P, n) of the rows inside each margin. It returns weights (P, 1, r) and the
number of exchanges (P,)."""


def max_rows_inside(axes: PrincipalAxes) -> float:
    """Return the number of rows inside the margin up to which pivoting is faster than Newton's method.

    It is 0 if there are too many rows to hold their inner products.
    """
    n, r = axes.data.shape
    return max(MIN_LIMIT, float(np.cbrt(COST * n * r))) if n <= MAX_ROWS else 0


def make_pivot_solver(axes: PrincipalAxes) -> PivotSolver:
    """Return a function that solves squared hinge on these rows by pivoting."""
    data = axes.data
    gram = data @ data.T
    controller = ThreadpoolController().select(user_api="blas")
    # Use as many threads as BLAS may use. If feature sets are solved in parallel, that is one.
    threads = max((library["num_threads"] for library in controller.info()), default=1)

    def solve(loss: SquaredHinge, inside: Array) -> tuple[Array, Array]:
        def solve_part(part: Array) -> tuple[Array, Array]:
            return _pivot(data, gram, loss.take(part), inside[part])

        # Each thread solves several problems: one system is too small to be shared by threads.
        parts = np.array_split(np.arange(len(inside)), min(len(inside), PARTS * threads if threads > 1 else 1))
        with controller.limit(limits=1), ThreadPoolExecutor(threads) as pool:
            shares, exchanges = zip(*pool.map(solve_part, parts), strict=True)
        return (np.concatenate(shares) @ data)[:, np.newaxis], np.concatenate(exchanges)

    return solve


def _pivot(data: Array, gram: Array, loss: SquaredHinge, inside: Array) -> tuple[Array, Array]:
    """Return the shares (P, n) at the minimum, which are the dual coefficients of the rows; and the exchanges (P,)."""
    margins = [_Margin(*row) for row in zip(loss.signs[:, 0], loss.weights[:, 0], inside, strict=True)]
    shares, exchanges = np.zeros(inside.shape), np.zeros(len(inside), int)
    active = np.arange(len(inside))
    for _ in range(MAX_EXCHANGES):
        exchanges[active] += 1
        solutions = [margins[problem].solve(data, gram) for problem in active]
        shares[active] = [share for share, _ in solutions]
        decisions = shares[active] @ gram
        for place, (_, known) in enumerate(solutions):
            if known is not None:
                decisions[place] = known
        changed = [margins[problem].exchange(shares[problem], z) for problem, z in zip(active, decisions, strict=True)]
        active = active[changed]
        if not len(active):
            break
    return shares, exchanges


class _Margin:
    """The rows (n,) that are assumed to be inside the margin of one problem. `exchange` corrects the assumption."""

    def __init__(self, signs: Array, weights: Array, inside: Array) -> None:
        self.signs, self.weights, self.counted = signs, weights, weights > 0
        self.inside = inside & self.counted
        self.fewest, self.patience = len(signs) + 1, PATIENCE
        self.point = (np.zeros(len(signs)), np.zeros(len(signs)))

    def solve(self, data: Array, gram: Array) -> tuple[Array, Array | None]:
        """Return the shares (n,) at the minimum if the assumption is right, and the decisions (None: not computed)."""
        rows = np.flatnonzero(self.inside)
        if len(rows) <= data.shape[1]:
            return _solve_rows(gram, self.signs, self.weights, rows), None
        return _solve_columns(data, self.signs, self.weights, rows)

    def exchange(self, shares: Array, decisions: Array) -> bool:
        """Move each row that is on the wrong side of the margin to the other side. Return whether there were any."""
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
    """Return the shares and decisions with the lowest objective on the way from a point to a target."""
    (shares, decisions), (change, move) = point, (target[0] - point[0], target[1] - point[1])

    def slope(length: float) -> float:
        short = np.maximum(1 - signs * (decisions + length * move), 0)
        return float((shares + length * change) @ move - 2 * (weights * short * signs) @ move)

    length = 1.0 if slope(1.0) <= 0 or slope(0.0) >= 0 else optimize.brentq(slope, 0.0, 1.0)
    return shares + length * change, decisions + length * move


def _solve_rows(gram: Array, signs: Array, weights: Array, rows: Array) -> Array:
    """Return the shares (n,) at the minimum if ``rows`` are inside, by a system with one unknown per row inside."""
    shares = np.zeros(len(signs))
    if len(rows):
        system = gram.take(rows, 0).take(rows, 1)
        system.flat[:: len(rows) + 1] += 0.5 / weights[rows]
        shares[rows] = _solve_positive(system, signs[rows])
    return shares


def _solve_columns(data: Array, signs: Array, weights: Array, rows: Array) -> tuple[Array, Array]:
    """Return shares (n,) and decisions (n,) by a system with one unknown per column.

    It is for more rows than columns: the system with one unknown per row is then badly conditioned.
    """
    inner, double = data[rows], 2 * weights[rows]
    system = (inner.T * double) @ inner
    system.flat[:: len(system) + 1] += 1
    target = inner.T @ (double * signs[rows])
    reached = data @ _solve_positive(system, target)
    shares = np.zeros(len(signs))
    shares[rows] = double * (signs[rows] - reached[rows])
    return shares, reached


def _solve_positive(system: Array, target: Array) -> Array:
    """Return the solution (m,) of a positive definite system (m, m)."""
    try:
        # Use numpy, because scipy holds the interpreter lock, and threads would wait for each other.
        lower = np.linalg.cholesky(system)
    except np.linalg.LinAlgError:  # Rounding can make the matrix indefinite.
        return np.asarray(np.linalg.lstsq(system, target, rcond=None)[0])
    half = linalg.blas.dtrsv(lower.T, target, lower=False, trans=True)
    return np.asarray(linalg.blas.dtrsv(lower.T, half, lower=False))
