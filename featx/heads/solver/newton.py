"""Truncated Newton method for a whole batch of problems at once.

Lin, Weng & Keerthi (2008), "Trust region Newton method for large-scale logistic regression", with the line search of
Galli & Lin (2021), "A study on truncated Newton methods for linear classification". Conjugate gradients solve each
Newton system approximately. Multiplying by the second derivatives of all problems takes two matrix products. The line
search needs no matrix products, because decisions change linearly along a step. Finished problems leave the batch.
"""

from dataclasses import dataclass, replace

import numpy as np

from featx.heads.solver.loss_functions import Array, Expansion, LossFunction, dot
from featx.heads.solver.principal_axes import PrincipalAxes

FORCING = 0.25
"""Conjugate gradients stop when the preconditioned norm of the residual falls to this fraction of its first value."""
MAX_CG = 200
FLATTEST = 1e-12
"""Second derivatives along a preconditioned direction are usually about 1. Values below this limit are rounding."""
MAX_TRIALS = 30
PATIENCE = 2
"""Steps without progress after which a problem has reached the limit of its precision."""
ROUNDING = 8
"""Smallest decrease of an objective that counts as progress, in units of the last place."""
UNDERSHOOT, OVERSHOOT = 0.9, 0.1
"""A step has a good length if the slope at its end is between -``UNDERSHOOT`` and ``OVERSHOOT`` times the absolute
slope at its start. Without the upper limit, squared hinge can zigzag across an edge of its quadratic pieces for
thousands of steps."""


@dataclass(frozen=True)
class SolverState:
    """Unfinished problems: weights U (P, k, r), decisions Z (P, k, n), and values computed from them.

    ``expansion`` is the second-order expansion of the loss around Z. ``objective`` (P,) is the loss plus the penalty.
    ``gradient`` (P, k, r) is the gradient of ``objective`` with respect to U.
    """

    axes: PrincipalAxes
    loss: LossFunction
    U: Array
    Z: Array
    expansion: Expansion
    gradient: Array
    objective: Array

    def take(self, keep: Array) -> "SolverState":
        """Return the state of some of the problems."""
        return replace(
            self,
            loss=self.loss.take(keep),
            U=self.U[keep],
            Z=self.Z[keep],
            expansion=self.expansion.take(keep),
            gradient=self.gradient[keep],
            objective=self.objective[keep],
        )

    def gaps(self) -> Array:
        """Return an upper bound (P,) of the distance of each objective from its minimum.

        The penalty makes the objective strongly convex, so half the squared norm of the gradient bounds the distance.
        For the losses of this package, the bound is the duality gap at the dual point that the decisions determine.
        For an intercept without penalty, the bound is the decrease that a Newton step of this intercept predicts.
        """
        curvature = np.where(self.axes.penalty > 0, 1, self.expansion.curvature[..., np.newaxis] * self.Z.shape[2])
        with np.errstate(over="ignore"):  # Without curvature the bound is infinite.
            return dot(self.gradient, self.gradient / np.maximum(curvature, np.finfo(curvature.dtype).tiny)) / 2


def evaluate_at(
    axes: PrincipalAxes, loss: LossFunction, U: Array, Z: Array | None = None, expansion: Expansion | None = None
) -> SolverState:
    """Return the state at weights U (P, k, r). Compute the decisions Z and the expansion unless they are given."""
    if Z is None:
        Z = multiply(U, axes.data.T)
    if expansion is None:
        expansion = loss.expand(Z)
    gradient = multiply(expansion.gradient, axes.data)
    gradient += axes.penalty * U
    return SolverState(axes, loss, U, Z, expansion, gradient, expansion.value + _penalty(axes, U, U) / 2)


def objectives(axes: PrincipalAxes, loss: LossFunction, U: Array) -> Array:
    """Return the objectives (P,) at weights U (P, k, r)."""
    return loss.expand(multiply(U, axes.data.T)).value + _penalty(axes, U, U) / 2


def minimize(axes: PrincipalAxes, loss: LossFunction, U: Array, tolerance: float, max_iter: int) -> tuple[Array, Array]:
    """Minimize each problem from weights U until its gap is at most ``tolerance`` × its objective.

    A problem also stops if its steps make no progress beyond rounding. The caller decides whether that is enough.

    Returns
    -------
    U : array (P, k, r)
    iterations : int array (P,)
    """
    U = U.copy()
    iterations: Array = np.zeros(len(U), int)
    active: Array = np.arange(len(U))
    state = evaluate_at(axes, loss, U)
    gaps = state.gaps()
    best, lowest, idle = gaps, state.objective, 0 * iterations
    for _ in range(max_iter):
        unfinished = (idle < PATIENCE) & ~(gaps <= tolerance * state.objective)
        if not unfinished.all():
            U[active[~unfinished]] = state.U[~unfinished]
            active, state, best, lowest, idle = (
                active[unfinished],
                state.take(unfinished),
                best[unfinished],
                lowest[unfinished],
                idle[unfinished],
            )
        if not len(active):
            return U, iterations
        iterations[active] += 1
        state = _line_search(state, conjugate_gradients(state))
        gaps = state.gaps()
        progress = (gaps < best / 2) | (state.objective < lowest * (1 - ROUNDING * np.finfo(U.dtype).eps))
        idle = np.where(progress, 0, idle + 1)
        best, lowest = np.minimum(best, gaps), np.minimum(lowest, state.objective)
    U[active] = state.U
    return U, iterations


def conjugate_gradients(state: SolverState) -> Array:
    """Return approximate Newton steps (P, k, r). The preconditioner assumes the same second derivative for all rows."""
    axes = state.axes
    # If all rows are far from the margin, the curvature along a free intercept vanishes, and a step would be infinite.
    damping = np.maximum(axes.penalty, ROUNDING * np.finfo(state.U.dtype).eps)
    scale = damping + state.expansion.curvature[..., np.newaxis] * axes.spectrum
    inverse = 1 / scale
    steps = np.zeros_like(state.U)
    active: Array = np.arange(len(steps))
    step, residual, factors = steps.copy(), -state.gradient, state.expansion.factors
    direction = inverse * residual
    power = dot(residual, direction)
    goal: Array = FORCING**2 * power
    unfinished = np.ones(len(power), bool)
    for _ in range(MAX_CG):
        curved = multiply(state.expansion.product(multiply(direction, axes.data.T), factors), axes.data)
        curved += damping * direction
        # A finished problem takes no more steps, because they would only amplify the rounding error of its residual. A
        # problem whose second derivative along the direction is within rounding takes no more steps either.
        curvature = dot(direction, curved)
        unfinished &= curvature > FLATTEST * power
        length = _column(np.divide(power, curvature, out=np.zeros_like(power), where=unfinished))
        step += length * direction
        residual -= length * curved
        scaled = inverse * residual
        power, before = dot(residual, scaled), power
        unfinished &= power > goal
        direction *= _column(np.divide(power, before, out=np.zeros_like(power), where=unfinished))
        direction += scaled
        if unfinished.all():
            continue
        # Copying the unfinished problems takes as long as a matrix product, so copy only when many are finished.
        if not unfinished.any() or unfinished.mean() < 0.8:
            steps[active] = step
            if not unfinished.any():
                break
            active, step, residual, direction, power, goal, inverse = (
                values[unfinished] for values in (active, step, residual, direction, power, goal, inverse)
            )
            factors = tuple(factor[unfinished] for factor in factors)
            unfinished = unfinished[unfinished]
    steps[active] = step
    return steps


def _line_search(state: SolverState, step: Array) -> SolverState:
    """Return the state after steps whose lengths nearly minimize each objective along its step."""
    axes = state.axes
    move = multiply(step, axes.data.T)
    cross, square = _penalty(axes, state.U, step), _penalty(axes, step, step)
    start, descent = state.objective, -dot(state.gradient, step)
    noise = ROUNDING * np.finfo(state.U.dtype).eps * start
    tiny = np.finfo(start.dtype).tiny
    length, low, high = np.ones_like(start), np.zeros_like(start), np.full_like(start, np.inf)
    low_slope, high_slope = -descent, descent
    for _ in range(MAX_TRIALS):
        Z = state.Z + _column(length) * move
        expansion = state.loss.expand(Z)
        rise = expansion.value - state.expansion.value + length * cross + length**2 * square / 2
        slope = dot(expansion.gradient, move) + cross + length * square
        good = (slope >= -UNDERSHOOT * descent) & (slope <= OVERSHOOT * descent) & (rise <= noise)
        if (good | (np.abs(slope) * length <= noise)).all():
            break
        over = slope > 0
        low, low_slope = np.where(over, low, length), np.where(over, low_slope, slope)
        high, high_slope = np.where(over, length, high), np.where(over, slope, high_slope)
        share = np.clip(low_slope / np.minimum(low_slope - high_slope, -tiny), 0.1, 0.9)
        between = low + share * (np.where(np.isinf(high), 0, high) - low)
        length = np.where(good, length, np.where(np.isinf(high), 4 * length, between))
    return evaluate_at(axes, state.loss, state.U + _column(length) * step, Z, expansion)


def multiply(stack: Array, matrix: Array) -> Array:
    """Multiply a stack of matrices (P, k, m) by one matrix (m, q) in a single product."""
    P, k, m = stack.shape
    return (stack.reshape(P * k, m) @ matrix).reshape(P, k, matrix.shape[1])


def _penalty(axes: PrincipalAxes, a: Array, b: Array) -> Array:
    return dot(a * axes.penalty, b)


def _column(values: Array) -> Array:
    return values[:, np.newaxis, np.newaxis]
