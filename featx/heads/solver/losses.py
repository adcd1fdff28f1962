"""The three losses over a batch of problems that share their rows, with first and second derivatives.

A batch has P problems of k rows of weights each: decisions Z are (P, k, n) for n rows of data. Softmax has k = the
classes; the other two are binary, k = 1, with one problem a class. ``weights`` are C × what each row of data counts,
0 for rows held out, so that one matrix serves every fold.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Expansion:
    """A loss at some decisions: ``value`` (P,), ``slopes`` (P, k, n) by decision, ``bends`` (P, k) the mean diagonal
    of the second derivative, and ``product``, which multiplies a (P, k, n) by the second derivative."""

    value: Array
    slopes: Array
    bends: Array
    factors: tuple[Array, ...]
    product: Callable[[Array, tuple[Array, ...]], Array]

    def take(self, keep: Array) -> "Expansion":
        """The same for some of the problems."""
        return replace(
            self,
            value=self.value[keep],
            slopes=self.slopes[keep],
            bends=self.bends[keep],
            factors=tuple(factor[keep] for factor in self.factors),
        )


class Loss(Protocol):
    """What the solver asks of a loss."""

    def expand(self, Z: Array) -> Expansion:
        """Value and derivatives at decisions Z (P, k, n)."""
        ...

    def take(self, keep: Array) -> Self:
        """The same for some of the problems."""
        ...

    def astype(self, dtype: type[Any]) -> Self:
        """The same in another precision."""
        ...


@dataclass(frozen=True)
class Softmax:
    """Multinomial logistic loss. ``codes`` (n,) are the rows' classes, ``weights`` (P, 1, n)."""

    codes: Array
    weights: Array

    def expand(self, Z: Array) -> Expansion:
        """Value and derivatives at decisions Z (P, k, n)."""
        rows = np.arange(Z.shape[2])
        top = Z.max(axis=1, keepdims=True)
        shares = np.exp(Z - top)
        total = shares.sum(axis=1, keepdims=True)
        shares /= total
        losses = (np.log(total) + top)[:, 0] - Z[:, self.codes, rows]
        weighted = shares * self.weights
        slopes = weighted.copy()
        slopes[:, self.codes, rows] -= self.weights[:, 0]
        bends = weighted.mean(axis=2) - np.einsum("pkn,pkn->pk", weighted, shares) / len(rows)
        return Expansion(dot(self.weights[:, 0], losses), slopes, bends, (weighted, shares), _softmax_product)

    def take(self, keep: Array) -> Self:
        """The same for some of the problems."""
        return replace(self, weights=self.weights[keep])

    def astype(self, dtype: type[Any]) -> Self:
        """The same in another precision."""
        return replace(self, weights=self.weights.astype(dtype))


@dataclass(frozen=True)
class Logistic:
    """Binary logistic loss. ``signs`` (P, 1, n) are +1 for the problem's class, -1 for the rest."""

    signs: Array
    weights: Array

    def expand(self, Z: Array) -> Expansion:
        """Value and derivatives at decisions Z (P, 1, n)."""
        margins = self.signs * Z
        tail = np.exp(-np.abs(margins))
        losses = np.log1p(tail)
        losses -= np.minimum(margins, 0)
        # The probability of the wrong side, without overflow for either sign of the margin.
        wrong = np.where(margins > 0, tail, 1) / (1 + tail)
        slopes = self.weights * wrong
        curvature = slopes * (1 - wrong)
        slopes *= -self.signs
        return Expansion(dot(self.weights, losses), slopes, curvature.mean(axis=2), (curvature,), _diagonal_product)

    def take(self, keep: Array) -> Self:
        """The same for some of the problems."""
        return replace(self, signs=self.signs[keep], weights=self.weights[keep])

    def astype(self, dtype: type[Any]) -> Self:
        """The same in another precision."""
        return replace(self, signs=self.signs.astype(dtype), weights=self.weights.astype(dtype))


@dataclass(frozen=True)
class SquaredHinge:
    """Squared hinge loss max(0, 1 - y z)². ``signs`` (P, 1, n) are +1 for the problem's class, -1 for the rest."""

    signs: Array
    weights: Array

    def expand(self, Z: Array) -> Expansion:
        """Value and (generalized) derivatives at decisions Z (P, 1, n)."""
        short = np.maximum(1 - self.signs * Z, 0)
        slopes = self.weights * short
        value = dot(slopes, short)
        slopes *= -2 * self.signs
        curvature = 2 * self.weights * (short > 0)
        return Expansion(value, slopes, curvature.mean(axis=2), (curvature,), _diagonal_product)

    def take(self, keep: Array) -> Self:
        """The same for some of the problems."""
        return replace(self, signs=self.signs[keep], weights=self.weights[keep])

    def astype(self, dtype: type[Any]) -> Self:
        """The same in another precision."""
        return replace(self, signs=self.signs.astype(dtype), weights=self.weights.astype(dtype))


def dot(a: Array, b: Array) -> Array:
    """Inner product (P,) of each problem's entries in two stacks (P, …)."""
    # By BLAS, whose many partial sums keep float32 accurate over long rows.
    return np.asarray((a.reshape(len(a), 1, -1) @ b.reshape(len(b), -1, 1))[:, 0, 0])


def _softmax_product(V: Array, factors: tuple[Array, ...]) -> Array:
    weighted, shares = factors
    product = weighted * V
    product -= shares * product.sum(axis=1, keepdims=True)
    return product


def _diagonal_product(V: Array, factors: tuple[Array, ...]) -> Array:
    return np.asarray(factors[0] * V)
