"""Draw class maps over the image that they explain."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.backbones import BLOCKS
from featx.drawing import color_map, make_panels
from featx.errors import SpecError
from featx.inspection.explanation.class_maps import ClassMap, Explanation, refine_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = "coolwarm"
"""Moreland (2009), "Diverging color maps for scientific visualization": red and blue of equal lightness."""
PANEL = 2.2
"""Side of one image, inches."""
NOTE_WIDTH = 36
"""Characters of the note per column of images."""


def overlay_map(
    pixels: NDArray[np.uint8], values: NDArray[np.float32], limit: float | None = None
) -> NDArray[np.uint8]:
    """Color a class map over its image in gray: red supports the class, blue opposes it.

    Parameters
    ----------
    pixels : uint8 array (size, size, 3)
        ``pixels`` of the `Explanation`.
    values : float32 array (height, width)
        One of the maps of a `ClassMap`.
    limit : float, optional
        The share per pixel that is drawn in full color. The default is the largest share of this map.

    Returns
    -------
    uint8 array (size, size, 3)

    Raises
    ------
    SpecError
        If the map does not have the shape of a block's feature map.
    EngineError
        If matplotlib is not installed.
    """
    shares = _shares_per_pixel(values, len(pixels))
    scaled = np.clip(shares / (limit or np.abs(shares).max() or 1.0), -1, 1)
    colors = color_map(COLORS)(scaled / 2 + 0.5)[..., :3]
    gray = np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis] / 255
    # The square root keeps weak values visible. A factor below 1 lets the image show through the strongest values.
    strength = np.abs(scaled)[..., np.newaxis] ** 0.5 * 0.85
    blended: NDArray[np.uint8] = np.round(255 * (strength * colors + (1 - strength) * gray)).astype(np.uint8)
    return blended


def plot_explanation(explanation: Explanation) -> "Figure":
    """Draw the image, and for each class a row with the map of each block and the sum of the maps.

    The maps of a row share one color scale.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    """
    blocks = list(explanation.classes[0].blocks)
    columns = [f"block {number}" for number in blocks] + (["sum"] if len(blocks) > 1 else [])
    figure, panels = make_panels(len(explanation.classes), len(columns) + 1, PANEL)
    for row, class_map in zip(panels, explanation.classes, strict=True):
        maps = [class_map.blocks[number] for number in blocks] + ([class_map.total] if len(blocks) > 1 else [])
        limit = max(float(np.abs(_shares_per_pixel(values, len(explanation.pixels))).max()) for values in maps)
        row[0].imshow(explanation.pixels)
        label = _label(class_map, explanation.exact)
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", parse_math=False)
        for panel, values in zip(row[1:], maps, strict=True):
            panel.imshow(overlay_map(explanation.pixels, values, limit))
    for panel, title in zip(panels[0], ["image", *columns], strict=True):
        panel.set_title(title)
    figure.supxlabel(textwrap.fill(explanation.note, NOTE_WIDTH * len(panels[0])), fontsize="small")
    return figure


def _shares_per_pixel(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Distribute a map over the pixels of the image, (size, size)."""
    strides = {(size // block.stride,) * 2: block.stride for block in BLOCKS}
    if values.shape not in strides:
        allowed = ", ".join(map(str, strides))
        raise SpecError(
            f"a map over an image of {size} pixels must have the shape of a block's feature map, {allowed}, "
            f"got {values.shape}"
        )
    return refine_map(values, strides[values.shape], 1, size)


def _label(class_map: ClassMap, exact: bool) -> str:
    lines = [class_map.name, f"logit {class_map.logit:.2f}"]
    if exact and class_map.intercept is not None:
        lines += [f"= {class_map.logit - class_map.intercept:.2f} in the maps", f"{class_map.intercept:+.2f} intercept"]
    return "\n".join(lines)
