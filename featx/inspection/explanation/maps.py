"""What an explanation holds: of each class a map a block, whose values are shares of its logit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.backbones import BLOCKS

NOTES = {
    ("cam", True): "exact: a map's sum plus the intercept is the logit (class activation map, Zhou et al. 2016)",
    ("cam", False): "first order: gradient × activation at the pooled features, as the head is not linear in them",
    ("grad-cam", False): "Grad-CAM (Selvaraju et al. 2017): where the gradient's mean speaks for a class; no shares",
}
"""What the values are, by method and exactness."""


@dataclass(frozen=True, eq=False)
class ClassMap:
    """Where in an image a class's logit comes from.

    ``blocks`` has each tapped block's map by number, float32 (height, width) at the block's own size; ``total`` is
    their sum at the size of the first of them. Above 0 speaks for the class, below against it. With Grad-CAM nothing
    is below 0, and ``intercept`` is None; else the logit is ``intercept`` plus the sum of all maps (to first order,
    where it is not exact: the intercept is then what the linearization leaves). Behind power normalization each
    block's map adds up to 0, as its scale does not matter: it says where, and not how much.
    """

    name: str
    logit: float
    intercept: float | None
    blocks: dict[int, NDArray[np.float32]]
    total: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where a model looks in one image.

    ``pixels`` is the image as the backbone sees it, uint8 (size, size, 3); ``classes`` are those that were asked for, or
    the best, best first; ``method`` is ``cam`` or ``grad-cam``, and ``exact`` says that maps and intercept add up to
    the logit whatever the image. Of a linearization they add up too, but hold near this image alone. Logits are those
    of fp32, whatever ``precision`` the model predicts in.
    """

    image: str
    pixels: NDArray[np.uint8]
    classes: tuple[ClassMap, ...]
    method: str
    exact: bool
    precision: str = "fp32"

    @property
    def note(self) -> str:
        """What the maps' values are, in a line."""
        note = NOTES[self.method, self.exact]
        return note if self.precision == "fp32" else f"{note}; in fp32, while the model predicts in {self.precision}"


def sum_maps(maps: Mapping[int, NDArray[np.float32]], size: int) -> NDArray[np.float32]:
    """The sum of blocks' maps at the size of the first block, of an image of so many pixels a side."""
    stride = min(BLOCKS[number - 1].stride for number in maps)
    finer = [spread(values, BLOCKS[number - 1].stride, stride, size // stride) for number, values in maps.items()]
    total: NDArray[np.float32] = np.sum(finer, axis=0, dtype=np.float32)
    return total


def spread(values: NDArray[np.float32], stride: int, finer: int, side: int) -> NDArray[np.float32]:
    """Spread each position's share over finer ones, by linear interpolation that keeps every share's sum.

    Parameters
    ----------
    values : array (height, width)
        A position spans ``stride`` pixels a side.
    stride, finer : int
        Pixels a side of a position before and after.
    side : int
        Positions a side of the result.
    """
    down, across = (_weights(count, stride, finer, side) for count in values.shape)
    return (down @ values @ across.T).astype(np.float32)


def _weights(count: int, stride: int, finer: int, side: int) -> NDArray[np.float64]:
    """What each of ``side`` finer positions takes of each of ``count``: columns add up to 1."""
    centers = (np.arange(side) + 0.5) * finer / stride - 0.5
    columns = [np.interp(centers, np.arange(count), one) for one in np.eye(count)]
    weights = np.stack(columns, axis=1)
    shares: NDArray[np.float64] = weights / weights.sum(axis=0)
    return shares
