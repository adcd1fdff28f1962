"""Convert images and arrays to RGB, and change the colors of an image."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from featx.errors import ImageError
from featx.images.pixels.sample_values import DEFAULT_RANGE, NO_REMARK, PixelRemark, SampleType, sample_type, to_gray
from featx.spec import ValueRange

WHITE = (255, 255, 255)
LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the gray value of a color (ITU-R BT.601)."""
_TO_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_GRAY = np.outer(np.ones(3), LUMA)


def to_rgb(image: Image.Image, value_range: ValueRange = DEFAULT_RANGE) -> Image.Image:
    """Convert an image of any mode to RGB.

    - A transparent image is placed on a white background. If every pixel is fully transparent, the transparency is
      ignored.
    - Images of more than 8 bits are scaled by ``value_range``. They are not clipped to 8 bits. NaN and infinity become
    black. - Lab is converted with the color profile of sRGB. Color profiles embedded in images of other modes are not
    applied.

    Parameters
    ----------
    image : PIL.Image.Image
        An image of any mode.
    value_range : ValueRange
        Which values are black and white in gray images of more than 8 bits.

    Returns
    -------
    PIL.Image.Image
        The same image if its mode is already RGB, otherwise a new image.

    Raises
    ------
    ImageError
        If the image has no pixels, or if it is unknown which of its values are black and white.
    """
    return convert_to_rgb(image, sample_type(image), value_range)[0]


def convert_to_rgb(
    image: Image.Image, kind: SampleType | None, value_range: ValueRange
) -> tuple[Image.Image, PixelRemark]:
    """Convert an image like `to_rgb`, and return what a person should know about the conversion.

    ``kind`` is what `sample_type` returned before the image was loaded.
    """
    if not image.width or not image.height:
        raise ImageError(f"{image.width} × {image.height} pixels: the image is empty")
    if kind is not None:
        gray, remarks = to_gray(image, kind, value_range)
        return gray.convert("RGB"), remarks
    if image.mode == "LAB":
        return _from_lab(image), NO_REMARK
    if image.has_transparency_data:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB"), NO_REMARK


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
        Factor of the difference between each color and the gray of the same pixel.
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


def _on_white(image: Image.Image) -> tuple[Image.Image, PixelRemark]:
    # Pillow cannot convert La to RGBA directly.
    straight = image.convert("LA") if image.mode == "La" else image
    layer = straight.convert("RGBA")
    if layer.getchannel("A").getextrema() == (0, 0):
        return layer.convert("RGB"), PixelRemark.TRANSPARENT
    canvas = Image.new("RGB", image.size, WHITE)
    canvas.paste(layer, mask=layer)
    return canvas, NO_REMARK


def _from_lab(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return converted if converted is not None else image.convert("RGB")


def _hue_rotation(hue: float) -> NDArray[np.float64]:
    cosine, sine = math.cos(2 * math.pi * hue), math.sin(2 * math.pi * hue)
    rotation = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
    matrix: NDArray[np.float64] = _FROM_YIQ @ rotation @ _TO_YIQ
    return matrix
