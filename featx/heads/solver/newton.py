"""Truncated Newton for a whole batch of problems at once.

Lin, Weng & Keerthi (2008), "Trust region Newton method for large-scale logistic regression", with the line search of
Galli & Lin (2021), "A study on truncated Newton methods for linear classification": each Newton system is solved
roughly by conjugate gradients, in which a product with every problem's second derivative is two products of matrices.
The line search moves along known decisions and takes none. Finished problems leave the batch.
"""

from dataclasses import dataclass, replace

import numpy as np

from featx.heads.solver.losses import Array, Expansion, Loss, dot
from featx.heads.solver.principal_axes import PrincipalAxes

FORCING = 0.25
"""How far conjugate gradients reduce the preconditioned norm of a Newton system's residual."""
MAX_CG = 200
FLATTEST = 1e-12
"""Least second derivative along a preconditioned direction, where it is about 1."""
MAX_TRIALS = 30
PATIENCE = 2
"""Steps without progress after which a problem is taken to have reached what its precision can tell."""
ROUNDING = 8
"""Units of the last place by which an objective must fall to count as progress."""
UNDERSHOOT, OVERSHOOT = 0.9, 0.1
"""A step's length is right when the slope along it is at most these shares of what it was at the start. Without the
second the squared hinge may zigzag over an edge of its quadratic pieces for thousands of steps."""


@dataclass(frozen=True)
class State:
    """Where unfinished problems are: weights U (P, k, r), decisions Z (P, k, n), and what follows from them."""

    rotated: PrincipalAxes
    loss: Loss
    U: Array
    Z: Array
    at: Expansion
    gradient: Array
    objective: Array

    def take(self, keep: Array) -> "State":
        """The same for some of the problems."""
        return replace(
            self,
            loss=self.loss.take(keep),
            U=self.U[keep],
            Z=self.Z[keep],
            at=self.at.take(keep),
            gradient=self.gradient[keep],
            objective=self.objective[keep],
        )

    def gaps(self) -> Array:
        """How far each objective is above its minimum, at most (P,).

        The penalty makes the objective strongly convex, so half the squared gradient bounds the distance; for these
        losses that bound is the duality gap at the dual point that the decisions name. The share of an unpenalized
        intercept is that of a Newton step along it.
        """
        curvature = np.where(self.rotated.penalty > 0, 1, self.at.bends[..., np.newaxis] * self.Z.shape[2])
        with np.errstate(over="ignore"):  # Infinite where nothing bends: then nothing is certified.
            return dot(self.gradient, self.gradient / np.maximum(curvature, np.finfo(curvature.dtype).tiny)) / 2


def evaluate(
    rotated: PrincipalAxes, loss: Loss, U: Array, Z: Array | None = None, at: Expansion | None = None
) -> State:
    """The state at weights U (P, k, r), whose decisions and loss there need not be computed again if given."""
    if Z is None:
        Z = multiply(U, rotated.data.T)
    if at is None:
        at = loss.expand(Z)
    gradient = multiply(at.slopes, rotated.data)
    gradient += rotated.penalty * U
    return State(rotated, loss, U, Z, at, gradient, at.value + _penalty(rotated, U, U) / 2)


def objectives(rotated: PrincipalAxes, loss: Loss, U: Array) -> Array:
    """The objectives (P,) at weights U (P, k, r)."""
    return loss.expand(multiply(U, rotated.data.T)).value + _penalty(rotated, U, U) / 2


def minimize(rotated: PrincipalAxes, loss: Loss, U: Array, tolerance: float, max_iter: int) -> tuple[Array, Array]:
    """Weights (P, k, r) and iterations (P,) of all problems, each until its gap is ``tolerance`` × its objective.

    A problem also leaves when its steps no longer rise above rounding; the caller decides whether that is enough.
    """
    U = U.copy()
    iterations: Array = np.zeros(len(U), int)
    active: Array = np.arange(len(U))
    state = evaluate(rotated, loss, U)
    gaps = state.gaps()
    best, lowest, idle = gaps, state.objective, 0 * iterations
    for _ in range(max_iter):
        going = (idle < PATIENCE) & ~(gaps <= tolerance * state.objective)
        if not going.all():
            U[active[~going]] = state.U[~going]
            active, state, best, lowest, idle = (
                active[going],
                state.take(going),
                best[going],
                lowest[going],
                idle[going],
            )
        if not len(active):
            return U, iterations
        iterations[active] += 1
        state = _line_search(state, conjugate_gradients(state))
        gaps = state.gaps()
        ahead = (gaps < best / 2) | (state.objective < lowest * (1 - ROUNDING * np.finfo(U.dtype).eps))
        idle = np.where(ahead, 0, idle + 1)
        best, lowest = np.minimum(best, gaps), np.minimum(lowest, state.objective)
    U[active] = state.U
    return U, iterations


def conjugate_gradients(state: State) -> Array:
    """Rough Newton steps (P, k, r), preconditioned by the second derivative as if all rows bent alike."""
    rotated = state.rotated
    # Where all rows are far from the margin nothing bends along a free intercept, and a step would have no length.
    damping = np.maximum(rotated.penalty, ROUNDING * np.finfo(state.U.dtype).eps)
    scale = damping + state.at.bends[..., np.newaxis] * rotated.spectrum
    inverse = 1 / scale
    steps = np.zeros_like(state.U)
    active: Array = np.arange(len(steps))
    step, residual, factors = steps.copy(), -state.gradient, state.at.factors
    guess = inverse * residual
    power = dot(residual, guess)
    goal: Array = FORCING**2 * power
    going = np.ones(len(power), bool)
    for _ in range(MAX_CG):
        curved = multiply(state.at.product(multiply(guess, rotated.data.T), factors), rotated.data)
        curved += damping * guess
        # A finished problem stays where it is: of what is left of its residual, only rounding would grow. So does one
        # whose direction bends no more than rounding does.
        bend = dot(guess, curved)
        going &= bend > FLATTEST * power
        length = _column(np.divide(power, bend, out=np.zeros_like(power), where=going))
        step += length * guess
        residual -= length * curved
        fresh = inverse * residual
        power, before = dot(residual, fresh), power
        going &= power > goal
        guess *= _column(np.divide(power, before, out=np.zeros_like(power), where=going))
        guess += fresh
        if going.all():
            continue
        # Copies cost as much as a product: finished problems go along until they are many.
        if not going.any() or going.mean() < 0.8:
            steps[active] = step
            if not going.any():
                break
            active, step, residual, guess, power, goal, inverse = (
                values[going] for values in (active, step, residual, guess, power, goal, inverse)
            )
            factors = tuple(factor[going] for factor in factors)
            going = going[going]
    steps[active] = step
    return steps


def _line_search(state: State, step: Array) -> State:
    """The state after steps whose lengths come near each objective's minimum along its step."""
    rotated = state.rotated
    move = multiply(step, rotated.data.T)
    cross, square = _penalty(rotated, state.U, step), _penalty(rotated, step, step)
    start, slope = state.objective, -dot(state.gradient, step)
    noise = ROUNDING * np.finfo(state.U.dtype).eps * start
    tiny = np.finfo(start.dtype).tiny
    length, low, high = np.ones_like(start), np.zeros_like(start), np.full_like(start, np.inf)
    low_tilt, high_tilt = -slope, slope
    for _ in range(MAX_TRIALS):
        Z = state.Z + _column(length) * move
        at = state.loss.expand(Z)
        rise = at.value - state.at.value + length * cross + length**2 * square / 2
        tilt = dot(at.slopes, move) + cross + length * square
        good = (tilt >= -UNDERSHOOT * slope) & (tilt <= OVERSHOOT * slope) & (rise <= noise)
        if (good | (np.abs(tilt) * length <= noise)).all():
            break
        over = tilt > 0
        low, low_tilt = np.where(over, low, length), np.where(over, low_tilt, tilt)
        high, high_tilt = np.where(over, length, high), np.where(over, tilt, high_tilt)
        share = np.clip(low_tilt / np.minimum(low_tilt - high_tilt, -tiny), 0.1, 0.9)
        between = low + share * (np.where(np.isinf(high), 0, high) - low)
        length = np.where(good, length, np.where(np.isinf(high), 4 * length, between))
    return evaluate(rotated, state.loss, state.U + _column(length) * step, Z, at)


def multiply(stack: Array, matrix: Array) -> Array:
    """A stack of matrices (P, k, m) times one matrix (m, q), as one product."""
    P, k, m = stack.shape
    return (stack.reshape(P * k, m) @ matrix).reshape(P, k, matrix.shape[1])


def _penalty(rotated: PrincipalAxes, a: Array, b: Array) -> Array:
    return dot(a * rotated.penalty, b)


def _column(values: Array) -> Array:
    return values[:, np.newaxis, np.newaxis]
