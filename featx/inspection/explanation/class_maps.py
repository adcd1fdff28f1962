"""The result of an explanation: one map per class and block. Its values are shares of the logit of the class."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featx.backbones import BLOCKS

NOTES = {
    ("cam", True): "exact: the map's sum plus the intercept is the logit (class activation map, Zhou et al. 2016)",
    ("cam", False): "first-order approximation: gradient × activation, because the head is not linear in the features",
    (
        "grad-cam",
        False,
    ): "Grad-CAM (Selvaraju et al. 2017): where the image supports a class, without shares of the logit",
}
"""What the values of a map mean, by method and exactness."""


@dataclass(frozen=True, eq=False)
class ClassMap:
    """Where in an image the logit of one class comes from.

    With ``cam`` the logit is ``intercept`` plus the sum of all maps. If the explanation is exact, ``intercept`` is the
    intercept of the model. Otherwise it is the constant of the linear approximation. With power normalization the map
    of each block adds up to 0, because scaling the features of a block changes no logit. Such a map shows where the
    image supports the class, but not how much.

    Attributes
    ----------
    name : str
        The class.
    logit : float
    intercept : float or None
        None with Grad-CAM.
    blocks : dict of int to float32 array (height, width)
        One map per block, at the resolution of the feature map of the block. Positive values support the class, and
        negative values oppose it. Grad-CAM has no negative values.
    total : float32 array (height, width)
        The sum of the maps of all blocks, at the resolution of the first block.
    """

    name: str
    logit: float
    intercept: float | None
    blocks: dict[int, NDArray[np.float32]]
    total: NDArray[np.float32]

    def __repr__(self) -> str:
        blocks = ", ".join(map(str, self.blocks))
        return f"ClassMap({self.name!r}, logit {self.logit:.3f}, maps of blocks {blocks})"


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in one image a model sees its classes.

    Attributes
    ----------
    image : str
        Path of the image; empty if it was given as an array.
    pixels : uint8 array (size, size, 3)
        The image as the backbone sees it.
    classes : tuple of ClassMap
        The requested classes. By default, the classes with the highest logits, highest first.
    method : {"cam", "grad-cam"}
    exact : bool
        Whether the maps and the intercept add up to the logit for every image. Otherwise they are a linear
        approximation, whose sum is the logit only near this image.
    precision : str
        The precision that the model predicts in. Maps and logits are always computed in fp32.
    """

    image: str
    pixels: NDArray[np.uint8]
    classes: tuple[ClassMap, ...]
    method: str
    exact: bool
    precision: str = "fp32"

    @property
    def note(self) -> str:
        """One line that says what the values of the maps mean."""
        note = NOTES[self.method, self.exact]
        return note if self.precision == "fp32" else f"{note}; in fp32, while the model predicts in {self.precision}"

    def __repr__(self) -> str:
        logits = ", ".join(f"{one.name} {one.logit:.3f}" for one in self.classes)
        return f"Explanation({self.image!r}, {self.method}{', exact' if self.exact else ''}; logits: {logits})"


def sum_maps(maps: Mapping[int, NDArray[np.float32]], size: int) -> NDArray[np.float32]:
    """Add the maps of several blocks at the resolution of the finest map.

    ``maps`` holds the maps by block number. ``size`` is the side of the image in pixels.
    """
    stride = min(BLOCKS[number - 1].stride for number in maps)
    finer = [refine_map(values, BLOCKS[number - 1].stride, stride, size // stride) for number, values in maps.items()]
    total: NDArray[np.float32] = np.sum(finer, axis=0, dtype=np.float32)
    return total


def refine_map(values: NDArray[np.float32], stride: int, finer: int, side: int) -> NDArray[np.float32]:
    """Distribute each value of a map over a finer grid by linear interpolation. The sum of the map stays the same.

    Parameters
    ----------
    values : array (height, width)
    stride, finer : int
        Pixels per position of the map, and of the result.
    side : int
        Positions per side of the result.
    """
    down, across = (_interpolation_weights(count, stride, finer, side) for count in values.shape)
    return (down @ values @ across.T).astype(np.float32)


def _interpolation_weights(count: int, stride: int, finer: int, side: int) -> NDArray[np.float64]:
    """Return the share of each coarse value that each finer position gets, (side, count). Columns add up to 1."""
    centers = (np.arange(side) + 0.5) * finer / stride - 0.5
    columns = [np.interp(centers, np.arange(count), one) for one in np.eye(count)]
    weights = np.stack(columns, axis=1)
    shares: NDArray[np.float64] = weights / weights.sum(axis=0)
    return shares
