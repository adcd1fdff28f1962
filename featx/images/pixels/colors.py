"""Convert images and arrays to RGB, and change the colors of an image."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from featx.errors import ImageError

WHITE = (255, 255, 255)
MAX_16_BIT = 65535
LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the gray value of a color (ITU-R BT.601)."""
_TO_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_GRAY = np.outer(np.ones(3), LUMA)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB.

    - A transparent image is placed on a white background.
    - 16-bit gray is scaled to 8 bits, not clipped. 32-bit integers count as 16-bit gray if all values are from 0 to
      65535, as in a 16-bit PGM.
    - Floats are scaled to 8 bits if all values are from 0 (black) to 1 (white).
    - Other integers and floats are stretched: the minimum becomes black and the maximum white. NaN and infinity
      become black.
    - Lab is converted with the color profile of sRGB. Color profiles embedded in images of other modes are not applied.

    Parameters
    ----------
    image : PIL.Image.Image
        An image of any mode.

    Returns
    -------
    PIL.Image.Image
        The same image if its mode is already RGB, otherwise a new image.

    Raises
    ------
    ImageError
        If the image has no pixels.
    """
    if not image.width or not image.height:
        raise ImageError(f"{image.width} × {image.height} pixels: the image is empty")
    if convert := CONVERTERS.get(image.mode):
        return convert(image)
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def from_array(array: NDArray[Any]) -> Image.Image:
    """Convert an array to an RGB image.

    Parameters
    ----------
    array : numpy.ndarray
        uint8 of shape (height, width) or (height, width, channels). One channel means gray, three mean RGB, and four
        mean RGB with transparency.

    Raises
    ------
    ImageError
        If the array has another dtype or shape; the message says how to convert it.
    """
    if array.dtype != np.uint8:
        raise ImageError(
            f"an image array must be uint8, got {array.dtype}; convert floats of 0 to 1 with "
            "(array * 255).round().astype('uint8')"
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            "an image array must have shape (height, width) or (height, width, 1, 3 or 4), "
            f"got {array.shape}; array.transpose(1, 2, 0) moves channels from first to last"
        )
    if not array.size:
        raise ImageError(f"an image array must have pixels, got shape {array.shape}")
    flat = array[:, :, 0] if array.shape[2:] == (1,) else array
    return to_rgb(Image.fromarray(np.ascontiguousarray(flat)))


def adjust_colors(
    pixels: NDArray[np.uint8], brightness: float, contrast: float, saturation: float, hue: float
) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and hue by one linear map, so that values are rounded only once.

    Parameters
    ----------
    pixels : numpy.ndarray
        uint8 of shape (height, width, 3).
    brightness : float
        Factor of all values.
    contrast : float
        Factor of the difference between each value and the mean gray of the image.
    saturation : float
        Factor of the difference between each color and its own gray.
    hue : float
        Rotation of the chrominance plane of YIQ, in turns of the circle. It does not change grays.

    Returns
    -------
    numpy.ndarray
        An array like ``pixels``; the same array if nothing changes.
    """
    if (brightness, contrast, saturation, hue) == (1.0, 1.0, 1.0, 0.0):
        return pixels
    matrix = brightness * contrast * (_GRAY + saturation * (_hue_rotation(hue) - _GRAY))
    mean = brightness * float(LUMA @ pixels.mean(axis=(0, 1)))
    rows = np.column_stack([matrix, np.full(3, (1 - contrast) * mean)])
    return np.array(Image.fromarray(pixels).convert("RGB", tuple(rows.ravel().tolist())))


def _on_white(image: Image.Image) -> Image.Image:
    # Pillow cannot convert La to RGBA directly.
    straight = image.convert("LA") if image.mode == "La" else image
    layer = straight.convert("RGBA")
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(layer, mask=layer)
    return canvas


def _from_16_bit(image: Image.Image) -> Image.Image:
    # Divide by 257, because 65535 / 257 is 255. Adding 128 rounds to the nearest integer.
    return _from_gray((np.asarray(image).astype(np.uint32) + 128) // 257)


def _from_integers(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    return _from_16_bit(image) if low >= 0 and high <= MAX_16_BIT else _stretched(values, low, high)


def _from_floats(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    finite = values[np.isfinite(values)]
    low, high = float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))
    return _stretched(values, 0, 1) if low >= 0 and high <= 1 else _stretched(values, low, high)


def _stretched(values: NDArray[Any], low: float, high: float) -> Image.Image:
    """Map values to gray: ``low``, NaN and infinity become black, ``high`` becomes white."""
    finite = np.where(np.isfinite(values), values, low).astype(np.float64)
    return _from_gray(np.rint((finite - low) / ((high - low) or 1.0) * 255))


def _from_gray(values: NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return converted if converted is not None else image.convert("RGB")


def _hue_rotation(hue: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
    rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    matrix: NDArray[np.float64] = _FROM_YIQ @ rotation @ _TO_YIQ
    return matrix


CONVERTERS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "I;16": _from_16_bit,
    "I;16B": _from_16_bit,
    "I;16L": _from_16_bit,
    "I;16N": _from_16_bit,
    "I": _from_integers,
    "F": _from_floats,
    "LAB": _from_lab,
}
"""Functions for the color modes whose values ``Image.convert`` would clip, or which it would refuse."""
