"""Poolings: how the output of a block becomes one row of features.

A pooling is a formula over a few operators, and each engine defines how it computes these operators. So a new pooling
is one entry in `POOLINGS`. Only a new operator needs a method in each engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
GEM_POWER = 3.0
GEM_FLOOR = 1e-6
"""Smallest value in a power mean. Smaller values are replaced by it, because the gradient of the root is infinite at
0."""


class PoolingOperators(Protocol[T]):
    """Methods by which an engine computes over the positions of a feature map, for each image and channel.

    ``T`` is the type of feature maps. It is a tensor, or a string if the engine builds a graph and passes the names of
    nodes.
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
        Computes the features, from an engine's `PoolingOperators` and a block's output.
    per_position : bool
        Whether there is one feature per channel and position, instead of one per channel.
    linear : bool
        Whether the features are linear in the block's output, so that class activation maps are exact.
    """

    name: str
    summary: str
    formula: Callable[[PoolingOperators[Any], Any], Any]
    per_position: bool = False
    linear: bool = False

    def width(self, channels: int, positions: int) -> int:
        """Return the number of features of an image."""
        return channels * positions if self.per_position else channels


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
POOLS = tuple(POOLINGS)
"""Names of all poolings, in the order of their features."""
CHANNEL_POOLS = tuple(name for name, pooling in POOLINGS.items() if not pooling.per_position)
"""Names of the poolings with one feature per channel."""
