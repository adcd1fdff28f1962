"""An explanation as a picture: each map over the image that it explains."""

import textwrap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featx.backbones import BLOCKS
from featx.drawing import color_map, make_panels, save_figure
from featx.errors import SpecError
from featx.inspection.explanation.maps import ClassMap, Explanation, spread

COLORS = "coolwarm"
"""Moreland (2009), "Diverging color maps for scientific visualization": blue against, red for, the same lightness."""
PANEL = 2.2
"""Inches a side."""
NOTE_WIDTH = 36
"""Characters of the note that a panel is wide, its labels' share included."""


def overlay(pixels: NDArray[np.uint8], values: NDArray[np.float32], limit: float | None = None) -> NDArray[np.uint8]:
    """A map over its image, which is gray beneath: red speaks for the class, blue against it.

    Parameters
    ----------
    pixels : uint8 array (size, size, 3)
        As an `Explanation` has them.
    values : float32 array (height, width)
        A map of a block, or the total.
    limit : float, optional
        The share a pixel of full color; by default the largest here.

    Returns
    -------
    uint8 array (size, size, 3)

    Raises
    ------
    SpecError
        If the map is of no block's size.
    EngineError
        If matplotlib, which knows the colors, is not installed.
    """
    fine = densities(values, len(pixels))
    scaled = np.clip(fine / (limit or np.abs(fine).max() or 1.0), -1, 1)
    colors = color_map(COLORS)(scaled / 2 + 0.5)[..., :3]
    gray = np.asarray(Image.fromarray(pixels).convert("L"))[..., np.newaxis] / 255
    strength = np.abs(scaled)[..., np.newaxis] ** 0.5 * 0.85
    blended: NDArray[np.uint8] = np.round(255 * (strength * colors + (1 - strength) * gray)).astype(np.uint8)
    return blended


def densities(values: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """A map as shares a pixel, (size, size)."""
    strides = {(size // block.stride,) * 2: block.stride for block in BLOCKS}
    if values.shape not in strides:
        allowed = ", ".join(map(str, strides))
        raise SpecError(f"a map over an image of {size} pixels must be a block's, {allowed}, got {values.shape}")
    return spread(values, strides[values.shape], 1, size)


def draw_explanation(explanation: Explanation, path: str | Path) -> None:
    """Draw the image, and of each class a row of maps: a block each, and their sum; one scale a row.

    Raises
    ------
    EngineError
        If matplotlib is not installed.
    SpecError, ImageError
        If matplotlib writes no format of the path's suffix, or it cannot be written.
    """
    blocks = list(explanation.classes[0].blocks)
    columns = [f"block {number}" for number in blocks] + (["sum"] if len(blocks) > 1 else [])
    shape = len(explanation.classes), len(columns) + 1
    figure, panels = make_panels(*shape, PANEL)
    for row, found in zip(panels, explanation.classes, strict=True):
        maps = [found.blocks[number] for number in blocks] + ([found.total] if len(blocks) > 1 else [])
        limit = max(float(np.abs(densities(values, len(explanation.pixels))).max()) for values in maps)
        row[0].imshow(explanation.pixels)
        row[0].set_ylabel(_label(found, explanation.exact), rotation=0, ha="right", va="center")
        for panel, values in zip(row[1:], maps, strict=True):
            panel.imshow(overlay(explanation.pixels, values, limit))
    for panel, title in zip(panels[0], ["image", *columns], strict=True):
        panel.set_title(title)
    figure.supxlabel(textwrap.fill(explanation.note, NOTE_WIDTH * len(panels[0])), fontsize="small")
    save_figure(figure, path)


def _label(found: ClassMap, exact: bool) -> str:
    lines = [found.name, f"logit {found.logit:.2f}"]
    if exact and found.intercept is not None:
        lines += [f"= {found.logit - found.intercept:.2f} in the maps", f"{found.intercept:+.2f}"]
    return "\n".join(lines)
