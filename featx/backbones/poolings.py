"""Poolings: how the output of a block becomes one row of features.

A pooling is a formula over a few operators, and each engine defines how it computes these operators. So a new pooling
is one entry in `POOLINGS`. Only a new operator needs a method in each engine.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Projection = NDArray[np.float32]
"""Orthonormal columns that map the channels of a block to fewer channels, (channels, d)."""
GEM_POWER = 3.0
GEM_FLOOR = 1e-6
"""Smallest value in a power mean. Smaller values are replaced by it, because the gradient of the root is infinite at
0."""
MIN_PROJECTED, MAX_PROJECTED = 16, 256
"""Limits on the number d of projected channels in the name of a pooling ``cov<d>``."""
NEWTON_SCHULZ_STEPS = 7
"""Number of iterations for a matrix square root. Large eigenvalues have converged after 7 iterations. Small ones, which
are mostly noise, stay below their square roots."""
TRACE_FLOOR = 1e-12
"""Added to a trace before dividing by it, because the output of a block is 0 everywhere for some images."""
_COVARIANCE = re.compile(r"cov([1-9][0-9]*)")


class PoolingOperators(Protocol[T]):
    """Methods by which an engine computes over the positions of a feature map, for each image and channel.

    ``T`` is the type of feature maps. It is a tensor, or a string if the engine builds a graph and passes the names of
    nodes. The methods from `matrix` on work in float32 on the matrices in the last two axes. Other axes are broadcast.
    """

    def mean(self, x: T) -> T:
        """Return the mean over positions, in float32."""

    def max(self, x: T) -> T:
        """Return the maximum over positions."""

    def power_mean(self, x: T, power: float, floor: float) -> T:
        """Return the generalised mean ``mean(max(x, floor) ** power) ** (1 / power)`` over positions, in float32.

        It is a single operator, because the powers overflow in float16. Each engine can avoid this in its own way.
        """

    def flatten(self, x: T) -> T:
        """Return all values of each image, ordered by channel, then row, then column."""

    def matrix(self, x: T) -> T:
        """Return a feature map as a matrix (channels, positions) in float32."""

    def constant(self, values: NDArray[np.float32]) -> T:
        """Return an array that is the same for all images."""

    def matmul(self, a: T, b: T, *, transpose: bool = False) -> T:
        """Multiply matrices. ``transpose`` transposes ``b``."""

    def add(self, a: T, b: T) -> T:
        """Add entry by entry."""

    def multiply(self, a: T, b: T) -> T:
        """Multiply entry by entry."""

    def divide(self, a: T, b: T) -> T:
        """Divide entry by entry."""

    def square_root(self, x: T) -> T:
        """Return the square root of each entry."""

    def row_means(self, x: T) -> T:
        """Return the mean of each row, as a matrix with one column."""

    def entries(self, x: T, indices: NDArray[np.int64]) -> T:
        """Take entries of a matrix by their indices in row-major order, as one row per image."""


@dataclass(frozen=True)
class Pooling:
    """One way to turn a block's output, (channels, height, width) per image, into features.

    Parameters
    ----------
    name : str
        Name in specs, feature names and options.
    summary : str
        What the pooling computes, in a few words, for the help of ``--pools``.
    formula : callable
        Computes the features from an engine's `PoolingOperators` and a block's output. If ``projected`` is not 0, it
        also takes a `Projection`.
    per_position : bool
        Whether there is one feature per channel and position, instead of one per channel.
    linear : bool
        Whether the features are linear in the block's output, so that class activation maps are exact.
    projected : int
        Number of channels to which the channels are projected first; 0 if they are not projected.
    """

    name: str
    summary: str
    formula: Callable[..., Any]
    per_position: bool = False
    linear: bool = False
    projected: int = 0

    def width(self, channels: int, positions: int) -> int:
        """Return the number of features of an image."""
        if self.projected:
            return self.projected * (self.projected + 1) // 2
        return channels * positions if self.per_position else channels


def covariance_root(operators: PoolingOperators[T], x: T, projection: Projection) -> T:
    """Compute the matrix square root of the covariance of projected channels over positions.

    This is the pooling of Li, Xie, Wang & Gao (2018), "Towards faster training of global covariance pooling networks by
    iterative matrix square root normalization". The square root is computed by Newton-Schulz iterations, which need
    only products of matrices.

    Parameters
    ----------
    operators : PoolingOperators
        Methods of an engine.
    x : T
        Feature maps (channels, height, width).
    projection : float32 array (channels, d)
        The projection of the channels.

    Returns
    -------
    T
        The upper triangle of the root, row by row: d (d + 1) / 2 values per image.
    """
    d = projection.shape[1]

    def constant(values: object) -> T:
        return operators.constant(np.atleast_2d(np.asarray(values, np.float32)))

    def trace(diagonal: T) -> T:
        return operators.add(operators.matmul(constant(np.ones(d)), diagonal), constant(TRACE_FLOOR))

    identity, minus = constant(np.eye(d)), constant(-1)
    z = operators.matmul(constant(np.ascontiguousarray(projection.T)), operators.matrix(x))
    z = operators.add(z, operators.multiply(operators.row_means(z), minus))
    products = operators.matmul(z, z, transpose=True)
    diagonal = operators.matmul(operators.multiply(products, identity), constant(np.ones((d, 1))))
    # y converges to the square root of products / trace, and w to the inverse of y.
    y = operators.divide(products, trace(diagonal))
    w = identity
    for _ in range(NEWTON_SCHULZ_STEPS):
        step = operators.add(constant(1.5 * np.eye(d)), operators.multiply(operators.matmul(w, y), constant(-0.5)))
        y, w = operators.matmul(y, step), operators.matmul(step, w)
    scale = operators.square_root(trace(operators.row_means(operators.multiply(z, z))))
    rows, columns = np.triu_indices(d)
    return operators.entries(operators.multiply(y, scale), rows * d + columns)


POOLINGS = {
    pooling.name: pooling
    for pooling in (
        Pooling("avg", "mean over positions", lambda operators, x: operators.mean(x), linear=True),
        Pooling("max", "maximum over positions", lambda operators, x: operators.max(x)),
        # Radenović, Tolias & Chum 2018, "Fine-tuning CNN image retrieval with no human annotation".
        Pooling(
            "gem",
            f"generalised mean over positions (p = {GEM_POWER:g})",
            lambda operators, x: operators.power_mean(x, GEM_POWER, GEM_FLOOR),
        ),
        Pooling("flat", "all positions", lambda operators, x: operators.flatten(x), per_position=True, linear=True),
    )
}
"""The poolings with a fixed name. `get_pooling` also knows ``cov16`` to ``cov256``."""
CHANNEL_POOLS = tuple(name for name, pooling in POOLINGS.items() if not pooling.per_position)
"""Names of the poolings with one feature per channel."""
POOL_NAMES = (*POOLINGS, f"cov{MIN_PROJECTED} to cov{MAX_PROJECTED}")
"""What the name of a pooling may be, for messages."""


@lru_cache
def channel_projection(channels: int, d: int) -> Projection:
    """Return the projection of channels to ``d`` channels, float32 (channels, d) with orthonormal columns.

    The columns are random directions, but the same ones in every call, and the first ones are the same for every ``d``.
    Directions that are learned from images or from the weights gain about half a point of accuracy (measured, see
    docs/how-to/covariance.md), and every store and model would have to hold them.
    """
    # The numbers of RandomState are the same in all versions of numpy. The sign of a column of Q is arbitrary.
    q, r = np.linalg.qr(np.random.RandomState(0).standard_normal((channels, channels)))
    return np.ascontiguousarray((q * np.sign(np.diagonal(r)))[:, :d], np.float32)


@lru_cache
def get_pooling(name: str) -> Pooling:
    """Return the pooling with a name.

    Raises
    ------
    ValueError
        If no pooling has this name. The message has no subject, so that the caller can put the name of the option in
        front.
    """
    if name in POOLINGS:
        return POOLINGS[name]
    match = _COVARIANCE.fullmatch(name)
    if not match or not MIN_PROJECTED <= int(match[1]) <= MAX_PROJECTED:
        raise ValueError(f"must be one of {', '.join(POOL_NAMES)}, got {name!r}")
    d = int(match[1])
    return Pooling(name, f"square root of the covariance of {d} projected channels", covariance_root, projected=d)


def sort_pools(names: tuple[str, ...]) -> tuple[str, ...]:
    """Sort names of poolings in the order of their features, without duplicates.

    ``ValueError`` is raised in the same cases as by `get_pooling`.
    """
    fixed = list(POOLINGS)
    return tuple(
        sorted(
            set(names),
            key=lambda name: fixed.index(name) if name in fixed else get_pooling(name).projected + len(fixed),
        )
    )
