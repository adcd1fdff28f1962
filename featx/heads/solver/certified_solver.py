"""Solve a batch of problems to minima that are certified in float64, by the cheapest method for each problem."""

from dataclasses import dataclass

import numpy as np

from featx.heads.solver.loss_functions import Array, LossFunction, SquaredHinge
from featx.heads.solver.newton import SolverState, evaluate_at, minimize, objectives
from featx.heads.solver.pivoting import PivotSolver, make_pivot_solver, max_rows_inside
from featx.heads.solver.principal_axes import PrincipalAxes


@dataclass(frozen=True)
class CertifiedSolver:
    """Solves batches of problems on the same rows, until each duality gap is at most ``tol`` × its objective.

    Newton's method runs in float32 first, and continues in float64 if the precision of float32 is not enough. A problem
    with squared hinge is solved by pivoting if few rows are inside its margin, or if Newton's method does not finish.

    Parameters
    ----------
    single, double : PrincipalAxes
        The rows in float32 and float64.
    tol : float
    max_iter : int
        Largest number of Newton steps per problem and precision.
    pivot : PivotSolver or None
        None if the loss is not squared hinge, or there are too many rows.
    max_inside : float
        If at most this many rows are inside the margin, pivoting is tried first.
    """

    single: PrincipalAxes
    double: PrincipalAxes
    tol: float
    max_iter: int
    pivot: PivotSolver | None
    max_inside: float

    def solve(self, loss: LossFunction, U: Array, extrapolated: Array) -> tuple[SolverState, Array]:
        """Return the final states in float64 and the number of iterations (P,).

        ``U`` and ``extrapolated``, both (P, k, r), are two starting points per problem. Each problem starts at the
        point with the lower objective.
        """
        U, iterations = self._choose_starts(loss, U, extrapolated), np.zeros(len(U), int)
        newton = np.ones(len(U), bool)
        if isinstance(loss, SquaredHinge) and self.pivot:
            inside = _inside_margin(evaluate_at(self.double, loss, U))
            newton = np.count_nonzero(inside, axis=1) > self.max_inside
            if not newton.all():
                U[~newton], iterations[~newton] = self.pivot(loss.take(~newton), inside[~newton])
        if newton.any():
            rough = loss.take(newton).astype(np.float32)
            # Use half the tolerance. Otherwise rounding may leave a gap above ``tol``, and float64 must solve again.
            with np.errstate(over="ignore", invalid="ignore"):
                U[newton], iterations[newton] = minimize(
                    self.single, rough, U[newton].astype(np.float32), self.tol / 2, self.max_iter
                )
        U[~np.isfinite(U).all(axis=(1, 2))] = 0  # Start again if float32 has overflowed.
        state = evaluate_at(self.double, loss, U)
        unfinished = ~(state.gaps() <= self.tol * state.objective)
        if not unfinished.any():
            return state, iterations
        U[unfinished], more = self._finish(state.take(unfinished))
        iterations[unfinished] += more
        return evaluate_at(self.double, loss, U), iterations

    def _choose_starts(self, loss: LossFunction, U: Array, extrapolated: Array) -> Array:
        if np.array_equal(U, extrapolated):  # The two are equal at the first C.
            return U.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            rough = loss.astype(np.float32)
            here, there = (objectives(self.single, rough, V.astype(np.float32)) for V in (U, extrapolated))
        return np.where((there < here)[:, np.newaxis, np.newaxis], extrapolated, U)

    def _finish(self, state: SolverState) -> tuple[Array, Array]:
        if isinstance(state.loss, SquaredHinge) and self.pivot:
            return self.pivot(state.loss, _inside_margin(state))
        return minimize(self.double, state.loss, state.U, self.tol, self.max_iter)


def make_solver(axes: PrincipalAxes, loss: str, tol: float, max_iter: int) -> CertifiedSolver:
    """Return a solver for one of the losses on rows that are on their principal axes."""
    double = axes.astype(np.float64)
    limit = max_rows_inside(axes) if loss == "linear-svc" else 0
    pivot = make_pivot_solver(double) if limit else None
    return CertifiedSolver(axes.astype(np.float32), double, tol, max_iter, pivot, limit)


def _inside_margin(state: SolverState) -> Array:
    return np.asarray(state.expansion.factors[0][:, 0] > 0)
