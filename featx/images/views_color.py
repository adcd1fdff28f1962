"""Brightness, contrast, saturation and hue of a view as one linear map of its colors."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

LUMA = np.array([0.299, 0.587, 0.114])
"""Shares of red, green and blue in the gray of a color (ITU-R BT.601)."""
_TO_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_GRAY = np.outer(np.ones(3), LUMA)


def recolor(
    pixels: NDArray[np.uint8], brightness: float, contrast: float, saturation: float, hue: float
) -> NDArray[np.uint8]:
    """Change the colors of uint8 (height, width, 3), rounding once.

    ``brightness`` multiplies all values, ``contrast`` the distance to the picture's mean gray, ``saturation`` that to
    a color's own gray; ``hue`` turns the chrominance plane of YIQ by this share of the circle, and keeps the gray.
    """
    if (brightness, contrast, saturation, hue) == (1.0, 1.0, 1.0, 0.0):
        return pixels
    matrix = brightness * contrast * (_GRAY + saturation * (_turn(hue) - _GRAY))
    mean = brightness * float(LUMA @ pixels.mean(axis=(0, 1)))
    rows = np.column_stack([matrix, np.full(3, (1 - contrast) * mean)])
    return np.array(Image.fromarray(pixels).convert("RGB", tuple(rows.ravel().tolist())))


def _turn(hue: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
    turned = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    matrix: NDArray[np.float64] = _FROM_YIQ @ turned @ _TO_YIQ
    return matrix
