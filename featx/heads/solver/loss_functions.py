"""The three losses of a batch of problems that share their rows, with first and second derivatives.

A batch has P problems with k rows of weights each. Their decisions Z on n rows of data are (P, k, n). Softmax has one
row of weights per class. The other two losses are binary: k is 1, and there is one problem per class. ``weights`` are
C times the weight of each row of data. Held-out rows have weight 0, so all folds share one matrix of data.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Expansion:
    """Second-order expansion of a loss around decisions.

    Parameters
    ----------
    value : array (P,)
    gradient : array (P, k, n)
        Derivative with respect to each decision.
    curvature : array (P, k)
        Mean of the diagonal of the second derivative.
    factors : tuple of arrays
        What ``product`` needs.
    product : callable
        Multiplies an array (P, k, n) by the second derivative, given ``factors``.
    """

    value: Array
    gradient: Array
    curvature: Array
    factors: tuple[Array, ...]
    product: Callable[[Array, tuple[Array, ...]], Array]

    def take(self, keep: Array) -> "Expansion":
        """Return the expansion of some of the problems."""
        return replace(
            self,
            value=self.value[keep],
            gradient=self.gradient[keep],
            curvature=self.curvature[keep],
            factors=tuple(factor[keep] for factor in self.factors),
        )


class LossFunction(Protocol):
    """Methods of a loss that the solver needs."""

    def expand(self, Z: Array) -> Expansion:
        """Return value and derivatives at decisions Z (P, k, n)."""
        ...

    def take(self, keep: Array) -> Self:
        """Return the loss of some of the problems."""
        ...

    def astype(self, dtype: type[Any]) -> Self:
        """Return the loss in another precision."""
        ...


@dataclass(frozen=True)
class Softmax:
    """Multinomial logistic loss. ``codes`` (n,) are the classes of the rows, ``weights`` are (P, 1, n)."""

    codes: Array
    weights: Array

    def expand(self, Z: Array) -> Expansion:
        """Return value and derivatives at decisions Z (P, k, n)."""
        rows = np.arange(Z.shape[2])
        top = Z.max(axis=1, keepdims=True)
        shares = np.exp(Z - top)
        total = shares.sum(axis=1, keepdims=True)
        shares /= total
        losses = (np.log(total) + top)[:, 0] - Z[:, self.codes, rows]
        weighted = shares * self.weights
        gradient = weighted.copy()
        gradient[:, self.codes, rows] -= self.weights[:, 0]
        curvature = weighted.mean(axis=2) - np.einsum("pkn,pkn->pk", weighted, shares) / len(rows)
        return Expansion(dot(self.weights[:, 0], losses), gradient, curvature, (weighted, shares), _softmax_product)

    def take(self, keep: Array) -> Self:
        """Return the loss of some of the problems."""
        return replace(self, weights=self.weights[keep])

    def astype(self, dtype: type[Any]) -> Self:
        """Return the loss in another precision."""
        return replace(self, weights=self.weights.astype(dtype))


@dataclass(frozen=True)
class Logistic:
    """Binary logistic loss. ``signs`` (P, 1, n) are +1 for the class of the problem and -1 for the others."""

    signs: Array
    weights: Array

    def expand(self, Z: Array) -> Expansion:
        """Return value and derivatives at decisions Z (P, 1, n)."""
        margins = self.signs * Z
        tail = np.exp(-np.abs(margins))
        losses = np.log1p(tail)
        losses -= np.minimum(margins, 0)
        # Probability of the wrong class. In this form, neither positive nor negative margins overflow.
        wrong = np.where(margins > 0, tail, 1) / (1 + tail)
        gradient = self.weights * wrong
        diagonal = gradient * (1 - wrong)
        gradient *= -self.signs
        return Expansion(dot(self.weights, losses), gradient, diagonal.mean(axis=2), (diagonal,), _diagonal_product)

    def take(self, keep: Array) -> Self:
        """Return the loss of some of the problems."""
        return replace(self, signs=self.signs[keep], weights=self.weights[keep])

    def astype(self, dtype: type[Any]) -> Self:
        """Return the loss in another precision."""
        return replace(self, signs=self.signs.astype(dtype), weights=self.weights.astype(dtype))


@dataclass(frozen=True)
class SquaredHinge:
    """Squared hinge loss max(0, 1 - y z)². ``signs`` (P, 1, n) are +1 for the class of the problem, else -1."""

    signs: Array
    weights: Array

    def expand(self, Z: Array) -> Expansion:
        """Return value and (generalized) derivatives at decisions Z (P, 1, n)."""
        short = np.maximum(1 - self.signs * Z, 0)
        gradient = self.weights * short
        value = dot(gradient, short)
        gradient *= -2 * self.signs
        diagonal = 2 * self.weights * (short > 0)
        return Expansion(value, gradient, diagonal.mean(axis=2), (diagonal,), _diagonal_product)

    def take(self, keep: Array) -> Self:
        """Return the loss of some of the problems."""
        return replace(self, signs=self.signs[keep], weights=self.weights[keep])

    def astype(self, dtype: type[Any]) -> Self:
        """Return the loss in another precision."""
        return replace(self, signs=self.signs.astype(dtype), weights=self.weights.astype(dtype))


def dot(a: Array, b: Array) -> Array:
    """Return the inner products (P,) of two stacks (P, …): one product per problem, over all its entries."""
    # BLAS adds up many partial sums, so sums over long rows stay accurate in float32.
    return np.asarray((a.reshape(len(a), 1, -1) @ b.reshape(len(b), -1, 1))[:, 0, 0])


def _softmax_product(V: Array, factors: tuple[Array, ...]) -> Array:
    weighted, shares = factors
    product = weighted * V
    product -= shares * product.sum(axis=1, keepdims=True)
    return product


def _diagonal_product(V: Array, factors: tuple[Array, ...]) -> Array:
    return np.asarray(factors[0] * V)
