"""From a start to minima that float64 certifies, by the cheapest way there."""

from dataclasses import dataclass

import numpy as np

from featx.heads.solver.losses import Array, Loss, SquaredHinge
from featx.heads.solver.newton import State, evaluate, minimize, objectives
from featx.heads.solver.pivoting import Pivot, count_limit, make_pivot
from featx.heads.solver.principal_axes import PrincipalAxes


@dataclass(frozen=True)
class Solver:
    """Solves batches of problems on the same data, to a gap of ``tol`` × the objective.

    Truncated Newton goes as far as float32 tells anything, and on in float64 where that is not enough. A squared
    hinge that has few rows inside its margin, or that Newton's method does not finish, is solved by ``pivot``.
    """

    single: PrincipalAxes
    double: PrincipalAxes
    tol: float
    max_iter: int
    pivot: Pivot | None
    limit: float

    def solve(self, loss: Loss, U: Array, ahead: Array) -> tuple[State, Array]:
        """The states in float64 that are reached from weights (P, k, r), and the iterations (P,) that took.

        Each problem begins where its objective is lower, at ``U`` or ``ahead``.
        """
        U, iterations = self._lower(loss, U, ahead), np.zeros(len(U), int)
        many = np.ones(len(U), bool)
        if isinstance(loss, SquaredHinge) and self.pivot:
            inside = _inside(evaluate(self.double, loss, U))
            many = np.count_nonzero(inside, axis=1) > self.limit
            if not many.all():
                U[~many], iterations[~many] = self.pivot(loss.take(~many), inside[~many])
        if many.any():
            rough = loss.take(many).astype(np.float32)
            # Half the tolerance, so that rounding does not send what float32 has solved to float64.
            with np.errstate(over="ignore", invalid="ignore"):
                U[many], iterations[many] = minimize(
                    self.single, rough, U[many].astype(np.float32), self.tol / 2, self.max_iter
                )
        U[~np.isfinite(U).all(axis=(1, 2))] = 0  # What left float32's range begins anew.
        state = evaluate(self.double, loss, U)
        left = ~(state.gaps() <= self.tol * state.objective)
        if not left.any():
            return state, iterations
        U[left], more = self._finish(state.take(left))
        iterations[left] += more
        return evaluate(self.double, loss, U), iterations

    def _lower(self, loss: Loss, U: Array, ahead: Array) -> Array:
        if np.array_equal(U, ahead):  # as at the first C
            return U.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            rough = loss.astype(np.float32)
            here, there = (objectives(self.single, rough, V.astype(np.float32)) for V in (U, ahead))
        return np.where((there < here)[:, np.newaxis, np.newaxis], ahead, U)

    def _finish(self, state: State) -> tuple[Array, Array]:
        if isinstance(state.loss, SquaredHinge) and self.pivot:
            return self.pivot(state.loss, _inside(state))
        return minimize(self.double, state.loss, state.U, self.tol, self.max_iter)


def make_solver(rotated: PrincipalAxes, loss: str, tol: float, max_iter: int) -> Solver:
    """A solver for one of the losses on rotated data."""
    double = rotated.astype(np.float64)
    limit = count_limit(rotated) if loss == "linear-svc" else 0
    return Solver(rotated.astype(np.float32), double, tol, max_iter, make_pivot(double) if limit else None, limit)


def _inside(state: State) -> Array:
    return np.asarray(state.at.factors[0][:, 0] > 0)
